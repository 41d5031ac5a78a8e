package presence

import (
	"time"

	"google.golang.org/protobuf/proto"

	presencev1 "github.com/peald/peald/gen/peal/presence/v1"
)

// pageTimeout limits how long a node may take to send a page.
const pageTimeout = 2 * time.Second

// pull tracks the retrieval of another node's full state, page by page.
type pull struct {
	counts    *counts              // nil until the first page arrives
	after     *presencev1.Position // the end of the page before the requested one
	requested time.Time
}

// startPull requests the first page.
func (d *Directory) startPull(n *remoteNode, now time.Time) {
	d.metrics.pulls.Inc()
	n.pull = &pull{after: &presencev1.Position{Part: presencev1.Position_PART_USERS}}
	d.requestPage(n, now)
}

func (d *Directory) requestPage(n *remoteNode, now time.Time) {
	n.pull.requested = now
	data, err := proto.Marshal(&presencev1.StateRequest{After: n.pull.after})
	if err == nil {
		err = d.cfg.Conn.PublishRequest(d.subjectOf("state", n.incarnation), d.pageInbox, data)
	}
	if err != nil {
		d.log.Debug("cannot request the state of a node", "node", n.name, "error", err)
	}
}

// receivePage applies a page and requests the next one.
func (d *Directory) receivePage(page *presencev1.StatePage, now time.Time) {
	n := d.nodes[page.GetIncarnation()]
	if n == nil || n.pull == nil || !proto.Equal(page.GetAfter(), n.pull.after) {
		return // the pull was abandoned
	}

	d.adoptBans(page.GetCounts().GetBans(), now)
	if n.pull.counts == nil {
		n.pull.counts = newCounts()
		// The pages reflect everything that had been announced by then.
		n.next, n.stale = page.GetNumber()+1, false
	}
	n.pull.counts.add(page.GetCounts())
	if next := page.GetNext(); next != nil {
		n.pull.after = next
		d.requestPage(n, now)
		return
	}

	pulled := n.pull.counts
	n.pull = nil
	d.mu.Lock()
	defer d.mu.Unlock()
	pulled.streams, pulled.anonymous = int(page.GetStreams()), int(page.GetAnonymous())
	d.follower.Load().noteAll(n.counts)
	d.follower.Load().noteAll(pulled)
	n.counts = pulled
}

// sendPage sends a page that another node has requested.
func (d *Directory) sendPage(to string, after *presencev1.Position) {
	tally := d.cfg.Broker.Tally()
	page := &presencev1.StatePage{
		Incarnation: d.incarnation, Number: d.number, After: after,
		Streams: uint32(tally.Streams), Anonymous: uint32(tally.Anonymous),
	}
	var names int
	var last string
	page.Counts, names, last = d.countsAfter(after)
	switch {
	case names == namesPerMessage:
		page.Next = &presencev1.Position{Part: after.GetPart(), Name: last}
	case after.GetPart() == presencev1.Position_PART_USERS:
		page.Next = &presencev1.Position{Part: presencev1.Position_PART_TOPICS}
	case after.GetPart() == presencev1.Position_PART_TOPICS:
		page.Next = &presencev1.Position{Part: presencev1.Position_PART_BANS}
	}
	d.send(to, page)
}

// countsAfter returns the counts for the names that follow a position, the number of
// these names, and the last of them.
func (d *Directory) countsAfter(after *presencev1.Position) (counts *presencev1.Counts, n int, last string) {
	b, counts := d.cfg.Broker, new(presencev1.Counts)
	switch after.GetPart() {
	case presencev1.Position_PART_USERS:
		users := b.Users("", after.GetName(), namesPerMessage)
		for _, u := range users {
			counts.Users, last = append(counts.GetUsers(), countOf(u.ID, u.Connections)), u.ID
		}
		n = len(users)
	case presencev1.Position_PART_TOPICS:
		topics := b.Topics("", after.GetName(), namesPerMessage)
		for _, t := range topics {
			counts.Topics, last = append(counts.GetTopics(), countOf(t.Name, t.Subscribers)), t.Name
		}
		n = len(topics)
	case presencev1.Position_PART_BANS:
		bans, now := b.Bans(after.GetName(), namesPerMessage), time.Now()
		for _, ban := range bans {
			counts.Bans, last = append(counts.GetBans(), encodeBan(ban, now)), ban.User
		}
		n = len(bans)
	case presencev1.Position_PART_UNSPECIFIED:
	}
	return counts, n, last
}
