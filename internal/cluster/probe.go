package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/peald/peald/internal/broker"
)

// state is what a node knows of itself and its log. It is guarded by Node.mu.
type state struct {
	serving bool
	reading bool   // it has the log, up to now, whether it can publish or not
	reason  string // why it is not serving, to follow "because"

	epoch   string    // of the log that is read; empty while there is none
	known   uint64    // the last entry that the stream is known to have
	other   bool      // it has another epoch by now, or is gone
	first   uint64    // the first entry that it still has
	quorum  time.Time // when the leader last had one
	trouble string    // what the last probe found
	unread  string    // why entries can't be read, as far as it was last tried

	unsure *position // an entry that the log had, and lacked when it was opened

	target uint64    // an entry that is to be read next
	since  time.Time // since when
	caught bool      // all that there was at some time since the log was opened has been read

	leader   string
	replicas int
	members  []Member
	sound    bool     // the node's replica of the log is sound
	replica  string   // what is wrong with it; empty if nothing is, or it holds none
	counted  []string // nodes that the cluster counts; nil where it counts none
}

// Member is a replica of the log.
type Member struct {
	Name    string
	Leader  bool
	Current bool
	// Silent is how long the leader has not heard of it.
	Silent time.Duration
	// Lag is how many entries it lacks.
	Lag uint64
}

// Serving says whether the node has its log, up to now, and why not.
func (n *Node) Serving() (serving bool, reason string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state.serving, n.state.reason
}

// hint says that the stream has an entry.
func (n *Node) hint(entry uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.known = max(n.state.known, entry)
}

// openEpoch is the epoch of the log that is read, empty while there is none.
func (n *Node) openEpoch() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state.epoch
}

// leave says that the log with an epoch is not the stream any more. Another
// may be read by now, of which that says nothing.
func (n *Node) leave(epoch string) {
	n.mu.Lock()
	if epoch != "" && n.state.epoch == epoch {
		n.state.other = true
	}
	n.mu.Unlock()
	n.wakeReader()
}

// readable says how far the log can be read, if it can still be, and from
// entry next on.
func (n *Node) readable(next uint64) (known uint64, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state.known, !n.state.other && n.state.first <= next
}

func (n *Node) wakeReader() {
	select {
	case n.tail <- struct{}{}:
	default:
	}
}

func (n *Node) wakeProber() {
	select {
	case n.nudge <- struct{}{}:
	default:
	}
}

// probeAll asks the stream's leader how things are, again and again.
func (n *Node) probeAll(ctx context.Context) {
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		case <-n.nudge:
		}
		n.probe(ctx)
		now := time.Now()
		n.judge(now)
		n.worry(now)
		if serving, _ := n.Serving(); serving {
			again.Reset(probeEvery)
		} else {
			again.Reset(probeEvery / 4)
		}
	}
}

func (n *Node) probe(ctx context.Context) {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	n.count(ctx)
	release, ok := n.storage.hold()
	if !ok {
		n.troubled("JetStream is restarting")
		return
	}
	defer release()
	// What is read now: by the time of the answer it may be another log.
	applied, epoch := n.applied.Load(), n.openEpoch()
	stream, err := n.js.Stream(ctx, n.cfg.Name)
	if err != nil {
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			n.leave(epoch) // and the reader says why it can't make another
		} else {
			n.troubled(n.explain(err))
		}
		return
	}
	info := stream.CachedInfo()
	found, err := describe(info)
	if err != nil {
		n.troubled(err.Error())
		return
	}
	n.broker.SetClock(found.at)
	silent, trouble := n.inspect(info)
	n.checkReplica(info, time.Now())
	n.mu.Lock()
	same := found.epoch == n.state.epoch
	n.state.trouble = trouble
	if trouble == "" {
		n.state.quorum = time.Now().Add(-silent)
	}
	if same {
		n.state.known, n.state.first = max(n.state.known, found.last), found.first
	}
	n.mu.Unlock()
	if !same {
		n.leave(epoch)
	} else if found.last > applied {
		n.wakeReader()
	}
	if same {
		n.doubtLog(applied, found.last)
		if trouble == "" && silent < loyalFor {
			n.broker.Confirm((found.last+1)*eventsPerEntry-1, asked)
		}
	} else {
		n.doubt = nil
	}
	if trouble == "" {
		if n.hasLost(ctx, stream, found) {
			n.log.Error("the event log has lost entries and begins a new epoch: clients with earlier ids get a reset", "had", n.doubt.entry, "has", found.last)
			if _, err := n.renew(ctx, info, broker.NewEpoch()); err != nil {
				n.log.Error("cannot give the event log a new epoch", "error", err)
			}
		}
		n.adjustOrSay(ctx, info)
	}
}

// doubtLog notes that the leader had fewer entries than the node has applied. It
// may have been elected a moment ago, and have yet to take in what it knows.
func (n *Node) doubtLog(applied, last uint64) {
	n.mu.Lock()
	unsure := n.state.unsure
	n.state.unsure = nil
	n.mu.Unlock()
	if unsure != nil && n.doubt == nil {
		n.doubt, n.doubted = unsure, time.Now()
	}
	if last >= applied || n.doubt != nil {
		return
	}
	n.doubt, n.doubted = n.newest.Load(), time.Now()
}

// hasLost reports whether entries that were applied are gone from the stream, or
// others have come in their places.
func (n *Node) hasLost(ctx context.Context, stream jetstream.Stream, found log) bool {
	if n.doubt == nil {
		return false
	}
	if found.last < n.doubt.entry {
		// The only replica can't be behind others.
		return found.replicas == 1 || time.Since(n.doubted) > cutOffAfter
	}
	if found.first > n.doubt.entry {
		n.doubt = nil // it has expired since
		return false
	}
	entry, err := stream.GetMsg(ctx, n.doubt.entry)
	if err != nil {
		return false // the replica that was asked may lag; it is asked again
	}
	if entry.Time.Equal(n.doubt.at) {
		n.doubt = nil
		return false
	}
	return true
}

// inspect notes what the leader says of the replicas, and returns for how long it
// has not heard of most of them, and what is wrong with them.
func (n *Node) inspect(info *jetstream.StreamInfo) (silent time.Duration, trouble string) {
	members := []Member{}
	c := info.Cluster
	if c == nil || c.Leader == "" && len(c.Replicas) == 0 {
		members = append(members, Member{Name: n.name, Leader: true, Current: true})
	} else {
		if c.Leader != "" {
			members = append(members, Member{Name: c.Leader, Leader: true, Current: true})
		}
		for _, r := range c.Replicas {
			members = append(members, Member{r.Name, false, r.Current && !r.Offline, r.Active, r.Lag})
		}
	}
	leader := ""
	silence := make([]time.Duration, 0, len(members))
	for _, m := range members {
		if m.Leader {
			leader = m.Name
		}
		silence = append(silence, m.Silent)
	}
	slices.Sort(silence)
	following := follow(members)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.leader, n.state.members, n.state.replicas = leader, members, info.Config.Replicas
	switch {
	case leader == "":
		return 0, "the log has no leader"
	case following < len(members)/2+1:
		return 0, fmt.Sprintf("only %d of the log's %d replicas are there", following, len(members))
	}
	return silence[len(members)/2], ""
}

func (n *Node) troubled(why string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.trouble = why
}

// reading notes why entries of the log can't be read; empty if they can.
func (n *Node) reading(trouble string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.unread = trouble
}

// notAvailable is JetStream's code for a cluster that has no leader.
const notAvailable = 10008

// explain is an error of JetStream's in an operator's words.
func (n *Node) explain(err error) string {
	var api *jetstream.APIError
	switch {
	case !n.conn.IsConnected():
		reason := "there is no connection to NATS"
		if why := n.conn.LastError(); why != nil {
			reason += ": " + why.Error()
		}
		return reason
	case errors.Is(err, context.DeadlineExceeded) && n.denials.current(time.Now()) != "":
		return n.denials.current(time.Now())
	case errors.Is(err, context.DeadlineExceeded) && n.openEpoch() != "":
		return "the log's leader doesn't answer"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &api) && api.ErrorCode == notAvailable:
		reason := "no leader is elected yet"
		if n.server != nil && !n.server.alone {
			if why := n.server.refusals.current(time.Now()); why != "" && n.server.NumRoutes() == 0 {
				return "it is not connected to any other node: " + why
			}
			reason += fmt.Sprintf(", and this node is connected to %d others: when a cluster starts for the first time, all of cluster.peers must be there", n.server.NumRoutes())
		}
		return reason
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return "there is no log yet"
	case errors.As(err, &api):
		return "JetStream says: " + api.Description
	}
	return err.Error()
}

// judge decides whether the node can serve.
func (n *Node) judge(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := &n.state
	applied := n.applied.Load()
	if applied >= s.target {
		s.target, s.since = s.known, now
		s.caught = s.caught || s.epoch != "" && applied >= s.known
	}
	// What this node alone can't write is not written elsewhere: streams miss
	// nothing, and stay.
	fault := n.faultLocked()
	var reason string
	switch {
	case s.epoch == "":
		reason = "it has not found its cluster's log yet"
		if s.trouble != "" {
			reason += ": " + s.trouble
		}
	case fault == "" && (now.Sub(s.quorum) > cutOffAfter || !s.serving && now.Sub(s.quorum) > probeEvery+probeTimeout):
		reason = "it is cut off from its cluster: " + s.trouble
		s.caught = false
	case !s.caught:
		reason = fmt.Sprintf("it has yet to catch up with its cluster's log, %d of %d", applied, s.known)
	case now.Sub(s.since) > behindAfter:
		reason = fmt.Sprintf("it is far behind its cluster's log, at %d of %d", applied, s.known)
	}
	reading := reason == ""
	reason = cmp.Or(fault, reason)
	serving := reason == ""
	switch {
	case reading && !s.reading:
		n.broker.Resume()
	case !reading && s.reading:
		n.log.Error("not serving, streams are ended to come back elsewhere", "reason", reason)
		n.broker.Suspend(spreadOver)
	}
	if serving && !s.serving {
		n.log.Info("serving with the cluster", "node", n.name, "leader", s.leader, "entry", applied)
	}
	changed := serving != s.serving
	s.serving, s.reading, s.reason = serving, reading, reason
	if changed && n.onChange != nil {
		n.onChange(serving)
	}
}

// begin notes that a log is read from its beginning.
func (n *Node) begin(l log) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broker.Begin(l.epoch, l.first*eventsPerEntry)
	n.broker.SetClock(l.at)
	n.applied.Store(l.first - 1)
	s := &n.state
	s.epoch, s.first, s.known, s.target, s.since, s.caught, s.other = l.epoch, l.first, l.last, l.last, time.Now(), false, false
	s.reading = false
	if s.serving {
		s.serving, s.reason = false, "it has to catch up with its cluster's log"
		if n.onChange != nil {
			n.onChange(false)
		}
	}
}
