package presence

import (
	"time"

	"google.golang.org/protobuf/proto"

	presencev1 "github.com/peald/peald/gen/peal/presence/v1"
)

// pageFor is how long a page is waited for.
const pageFor = 2 * time.Second

// pull is the asking for all that a daemon holds, page by page.
type pull struct {
	counts *counts           // nil until the first page is there
	after  *presencev1.Place // what the page follows that is waited for
	asked  time.Time
}

// beginPull asks for the first page.
func (d *Directory) beginPull(n *remoteNode, now time.Time) {
	d.figures.pulls.Inc()
	n.pull = &pull{after: &presencev1.Place{Part: presencev1.Place_PART_USERS}}
	d.askPage(n, now)
}

func (d *Directory) askPage(n *remoteNode, now time.Time) {
	n.pull.asked = now
	data, err := proto.Marshal(&presencev1.StateRequest{After: n.pull.after})
	if err == nil {
		err = d.cfg.Conn.PublishRequest(d.subjectOf("state", n.incarnation), d.pages, data)
	}
	if err != nil {
		d.log.Debug("a node can't be asked for its state", "node", n.name, "error", err)
	}
}

// turnPage takes in a page, and asks for the next.
func (d *Directory) turnPage(page *presencev1.StatePage, now time.Time) {
	n := d.nodes[page.GetIncarnation()]
	if n == nil || n.pull == nil || !proto.Equal(page.GetAfter(), n.pull.after) {
		return // of a pull that has been given up
	}
	d.adopt(page.GetCounts().GetBars(), now)
	if n.pull.counts == nil {
		n.pull.counts = newCounts()
		// What was announced before is in the pages.
		n.next, n.stale = page.GetNumber()+1, false
	}
	n.pull.counts.add(page.GetCounts())
	if next := page.GetNext(); next != nil {
		n.pull.after = next
		d.askPage(n, now)
		return
	}
	read := n.pull.counts
	n.pull = nil
	d.mu.Lock()
	defer d.mu.Unlock()
	read.streams, read.anonymous = int(page.GetStreams()), int(page.GetAnonymous())
	n.counts = read
}

// sendPage answers another daemon's request for a page.
func (d *Directory) sendPage(to string, after *presencev1.Place) {
	tally := d.cfg.Broker.Tally()
	page := &presencev1.StatePage{
		Incarnation: d.incarnation, Number: d.number, After: after,
		Streams: uint32(tally.Streams), Anonymous: uint32(tally.Anonymous),
	}
	var told int
	var last string // name that is told
	page.Counts, told, last = d.countsAfter(after)
	switch {
	case told == namesTogether:
		page.Next = &presencev1.Place{Part: after.GetPart(), Name: last}
	case after.GetPart() == presencev1.Place_PART_USERS:
		page.Next = &presencev1.Place{Part: presencev1.Place_PART_TOPICS}
	case after.GetPart() == presencev1.Place_PART_TOPICS:
		page.Next = &presencev1.Place{Part: presencev1.Place_PART_BARS}
	}
	d.send(to, page)
}

// countsAfter are those of the next names of a part, how many these are, and
// the last of them.
func (d *Directory) countsAfter(after *presencev1.Place) (counts *presencev1.Counts, n int, last string) {
	b, counts := d.cfg.Broker, new(presencev1.Counts)
	switch after.GetPart() {
	case presencev1.Place_PART_USERS:
		users := b.Users("", after.GetName(), namesTogether)
		for _, u := range users {
			counts.Users, last = append(counts.GetUsers(), countOf(u.ID, u.Connections)), u.ID
		}
		n = len(users)
	case presencev1.Place_PART_TOPICS:
		topics := b.Topics("", after.GetName(), namesTogether)
		for _, t := range topics {
			counts.Topics, last = append(counts.GetTopics(), countOf(t.Name, t.Subscribers)), t.Name
		}
		n = len(topics)
	case presencev1.Place_PART_BARS:
		bars, now := b.Bars(after.GetName(), namesTogether), time.Now()
		for _, bar := range bars {
			counts.Bars, last = append(counts.GetBars(), toldBar(bar, now)), bar.User
		}
		n = len(bars)
	case presencev1.Place_PART_UNSPECIFIED:
	}
	return counts, n, last
}
