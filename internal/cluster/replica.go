package cluster

import (
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// extent is the range of a replica's entries and their number.
type extent struct{ first, last, entries uint64 }

// replicaCheck checks a node's own replica of the event log. The leader reports a
// replica as current as soon as it follows, even if it lacks entries. The node
// therefore inspects its own store.
type replicaCheck struct {
	target      uint64    // an entry that the replica must reach
	targetSince time.Time // when target was set
	whole       bool      // at some point, the replica had all entries
	last        uint64    // the last entry that the replica had
	progressAt  time.Time // when the replica got that entry
}

// update reports whether the replica is sound. If it has been unsound for too long,
// update also returns a description of the problem. reported is the replica as the
// leader reports it. local is the replica's extent, or nil if it has no entries. leader
// is the leader's extent a moment earlier.
func (c *replicaCheck) update(now time.Time, reported Member, local *extent, leader extent) (sound bool, trouble string) {
	if c.targetSince.IsZero() {
		c.target, c.targetSince, c.progressAt = leader.last, now, now
	}
	if local != nil && local.last > c.last {
		c.last, c.progressAt = local.last, now
	}
	stuck := now.Sub(c.progressAt) > behindAfter

	switch {
	case local == nil:
		c.whole = false
		if stuck {
			trouble = "it has no entries"
		}
	case local.last < c.target:
		c.whole = c.whole && now.Sub(c.targetSince) <= behindAfter
		if stuck {
			trouble = fmt.Sprintf("stuck at entry %d of %d", local.last, leader.last)
		}
	case local.first == leader.first && local.last == leader.last && local.entries != leader.entries:
		c.whole = false
		trouble = fmt.Sprintf("it has %d entries of %d", local.entries, leader.entries)
	case reported.Silent >= replicaSilence:
		trouble = "the event log's leader can't reach it"
	default:
		c.whole, c.target, c.targetSince, c.progressAt = true, leader.last, now, now
	}
	return c.whole && trouble == "", trouble
}

// checkReplica checks the node's replica of the event log, if it has one.
func (p *prober) checkReplica(info *jetstream.StreamInfo, now time.Time) {
	n := p.node
	if n.server == nil {
		return // the external servers have the replicas
	}
	n.mu.Lock()
	members := n.state.members
	n.mu.Unlock()

	i := slices.IndexFunc(members, func(m Member) bool { return m.Name == n.name })
	sound, trouble := false, ""
	switch {
	case i < 0:
		p.replica = replicaCheck{}
	case members[i].Leader:
		p.replica, sound = replicaCheck{}, true
	default:
		leader := extent{info.State.FirstSeq, info.State.LastSeq, info.State.Msgs}
		sound, trouble = p.replica.update(now, members[i], n.server.extentOf(n.cfg.Name), leader)
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	last := n.state.replicaTrouble
	n.state.replicaSound, n.state.replicaTrouble = sound, trouble
	switch {
	case trouble != "" && last == "":
		n.log.Error("broken replica of the event log", "reason", trouble)
	case trouble == "" && last != "":
		n.log.Info("replica of the event log is sound again")
	}
}

// extentOf returns the extent of the server's replica of a stream, or nil if it has
// none.
func (s *embeddedServer) extentOf(stream string) *extent {
	info, err := s.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		return nil
	}
	for _, account := range info.AccountDetails {
		for i := range account.Streams {
			if detail := &account.Streams[i]; detail.Name == stream && account.Name == server.DEFAULT_GLOBAL_ACCOUNT {
				return &extent{detail.State.FirstSeq, detail.State.LastSeq, detail.State.Msgs}
			}
		}
	}
	return nil
}
