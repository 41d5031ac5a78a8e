package cluster

import (
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// extent describes which entries a replica holds.
type extent struct{ first, last, entries uint64 }

// replicaCheck judges a node's replica of the log. The log's leader reports a
// replica as current as soon as it follows, whether it has the entries or not, so
// that the node looks into its own store.
type replicaCheck struct {
	target uint64    // an entry that the replica must get to
	since  time.Time // since when
	whole  bool      // it has once had all that there was
	last   uint64    // the last entry that it held
	moved  time.Time // when it got that
}

// judge returns whether the replica is sound, and what is wrong with it if that
// has lasted too long. The log's leader reports the replica as reported. What it
// holds is local, which is nil for nothing, and the leader held as much as leader
// a moment before.
func (c *replicaCheck) judge(now time.Time, reported Member, local *extent, leader extent) (sound bool, trouble string) {
	if c.since.IsZero() {
		c.target, c.since, c.moved = leader.last, now, now
	}
	if local != nil && local.last > c.last {
		c.last, c.moved = local.last, now
	}
	stuck := now.Sub(c.moved) > behindAfter
	switch {
	case local == nil:
		c.whole = false
		if stuck {
			trouble = "it holds nothing of the log"
		}
	case local.last < c.target:
		c.whole = c.whole && now.Sub(c.since) <= behindAfter
		if stuck {
			trouble = fmt.Sprintf("it stays at entry %d of %d", local.last, leader.last)
		}
	case local.first == leader.first && local.last == leader.last && local.entries != leader.entries:
		c.whole = false
		trouble = fmt.Sprintf("it holds %d entries, and the log has %d", local.entries, leader.entries)
	case reported.Silent >= replicaSilence:
		trouble = "the log's leader doesn't hear of it"
	default:
		c.whole, c.target, c.since, c.moved = true, leader.last, now, now
	}
	return c.whole && trouble == "", trouble
}

// checkReplica notes how the node's replica of the log is, if it holds one.
func (n *Node) checkReplica(info *jetstream.StreamInfo, now time.Time) {
	if n.server == nil {
		return // replicas are the servers'
	}
	n.mu.Lock()
	members := n.state.members
	n.mu.Unlock()
	i := slices.IndexFunc(members, func(m Member) bool { return m.Name == n.name })
	sound, trouble := false, ""
	switch {
	case i < 0:
		n.replica = replicaCheck{}
	case members[i].Leader:
		n.replica, sound = replicaCheck{}, true
	default:
		leader := extent{info.State.FirstSeq, info.State.LastSeq, info.State.Msgs}
		sound, trouble = n.replica.judge(now, members[i], n.server.holds(n.cfg.Name), leader)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	had := n.state.replica
	n.state.sound, n.state.replica = sound, trouble
	switch {
	case trouble != "" && had == "":
		n.log.Error("broken replica of the event log", "reason", trouble)
	case trouble == "" && had != "":
		n.log.Info("replica of the event log is sound again")
	}
}

// holds returns what the server holds of a stream, nil for nothing.
func (s *embeddedServer) holds(stream string) *extent {
	info, err := s.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		return nil
	}
	for _, account := range info.AccountDetails {
		for i := range account.Streams {
			if is := &account.Streams[i]; is.Name == stream && account.Name == server.DEFAULT_GLOBAL_ACCOUNT {
				return &extent{is.State.FirstSeq, is.State.LastSeq, is.State.Msgs}
			}
		}
	}
	return nil
}
