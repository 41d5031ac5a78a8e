package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/peald/peald/internal/broker"
)

// prober queries the event log's leader for the log's state once a second. It keeps the
// node's state and the event log's configuration up to date. Its fields are owned by
// the goroutine that calls run.
type prober struct {
	node *Node

	warned  warnings
	replica replicaCheck

	memberNames map[string]string // by id, for members whose names this node doesn't know
	namesAsked  time.Time         // when the leader was last asked for names

	adjusted bool // the configured limits have been applied to the stream

	doubt      *position // an applied entry that the leader didn't have
	doubtSince time.Time

	leadership leadership
}

func newProber(n *Node) *prober { return &prober{node: n} }

// run probes until ctx is done.
func (p *prober) run(ctx context.Context) {
	n := p.node
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		case <-n.probeWake:
		}
		p.probe(ctx)
		now := time.Now()
		n.updateServing(now)
		p.warn(now)
		if serving, _ := n.Serving(); serving {
			next.Reset(probeInterval)
		} else {
			next.Reset(probeInterval / 4)
		}
	}
}

func (p *prober) probe(ctx context.Context) {
	n := p.node
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	p.updateMembers(ctx)
	release, ok := n.storage.hold()
	if !ok {
		n.setTrouble(errRestarting.Error())
		return
	}
	defer release()

	// By the time the reply arrives, another event log may be open.
	sent := request{time.Now(), n.applied.Load(), n.openEpoch()}
	stream, err := n.js.Stream(ctx, n.cfg.Name)
	if err != nil {
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			n.leaveLog(sent.epoch) // the reader reports any trouble with creating another
		} else {
			n.setTrouble(n.explain(err))
		}
		return
	}

	info := stream.CachedInfo()
	found, err := describe(info)
	if err != nil {
		n.setTrouble(err.Error())
		return
	}

	if trouble := p.note(info, found, sent, time.Now()); trouble == "" {
		if p.hasLost(ctx, stream, found) {
			n.log.Error("event log has lost entries and starts a new epoch, clients with earlier ids get a reset", "last", found.last, "expected", p.doubt.entry)
			if _, err := n.renew(ctx, info, broker.NewEpoch()); err != nil {
				n.log.Error("cannot start a new epoch", "error", err)
			}
		}
		p.adjustOrWarn(ctx, info)
	}
}

// request is a request for the event log's state.
type request struct {
	at      time.Time
	applied uint64 // the last entry that the node had applied
	epoch   string // of the log that the node had open
}

// note records a reply, received now, to a request. It returns the problem that keeps
// the event log from accepting entries, or an empty string if there is none.
//
// A reply from a replica other than the leader proves what the event log has, but not
// what it lacks.
func (p *prober) note(info *jetstream.StreamInfo, found eventLog, sent request, now time.Time) (trouble string) {
	n := p.node
	n.broker.SetClock(found.at)
	led := fromLeader(info, now.Sub(sent.at), n.server != nil)
	silent, trouble := p.inspect(info, led)
	if trouble != "" {
		trouble = n.withRejection(trouble)
	}
	if led {
		p.checkReplica(info, now)
	}

	n.mu.Lock()
	same := found.epoch == n.state.epoch
	n.state.trouble = trouble
	if trouble == "" {
		n.state.quorumAt = now.Add(-silent)
	}
	if same {
		n.state.known = max(n.state.known, found.last)
	}
	if same && led {
		n.state.first = found.first
	}
	n.mu.Unlock()

	switch {
	case same && found.last > sent.applied:
		n.wakeReader()
	case !same && led:
		n.leaveLog(sent.epoch)
	}

	switch {
	case !led:
	case same:
		p.updateDoubt(sent.applied, found.last)
		if trouble == "" && p.leadership.note(info, silent, now) {
			n.broker.Confirm((found.last+1)*eventsPerEntry-1, sent.at)
		}
	default:
		p.doubt = nil
	}
	return trouble
}

// updateDoubt records an entry that the node has applied but the leader doesn't have.
// That doesn't prove that the entry is lost: a newly elected leader may still be
// applying its own log.
func (p *prober) updateDoubt(applied, last uint64) {
	n := p.node
	n.mu.Lock()
	openDoubt := n.state.openDoubt
	n.state.openDoubt = nil
	n.mu.Unlock()
	if openDoubt != nil && p.doubt == nil {
		p.doubt, p.doubtSince = openDoubt, time.Now()
	}
	if last >= applied || p.doubt != nil {
		return
	}
	p.doubt, p.doubtSince = n.lastApplied.Load(), time.Now()
}

// hasLost reports whether the stream has lost entries that this node has applied, or
// has other entries in their place.
func (p *prober) hasLost(ctx context.Context, stream jetstream.Stream, found eventLog) bool {
	if p.doubt == nil {
		return false
	}
	if found.last < p.doubt.entry {
		// If there is only one replica, it can't be lagging behind others.
		return found.replicas == 1 || time.Since(p.doubtSince) > partitionedAfter
	}
	if found.first > p.doubt.entry {
		p.doubt = nil // it has expired in the meantime
		return false
	}
	entry, err := stream.GetMsg(ctx, p.doubt.entry)
	if err != nil {
		return false // a lagging replica may have replied; the next probe tries again
	}
	if entry.Time.Equal(p.doubt.at) {
		p.doubt = nil
		return false
	}
	return true
}

// inspect updates the state of the replicas. led is true if the leader has sent info.
// inspect returns how long the leader has been out of contact with a quorum and, if there
// is a problem with the replicas, its description.
func (p *prober) inspect(info *jetstream.StreamInfo, led bool) (silent time.Duration, trouble string) {
	n := p.node
	members := membersOf(info, led, n.name)
	leader := ""
	silence := make([]time.Duration, 0, len(members))
	for _, m := range members {
		if m.Leader {
			leader = m.Name
		}
		silence = append(silence, m.Silent)
	}

	slices.Sort(silence)
	following := countFollowing(members)

	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.leader, n.state.members, n.state.replicas = leader, members, info.Config.Replicas
	switch {
	case leader == "":
		return 0, "the event log has no leader"
	case following < len(members)/2+1:
		return 0, fmt.Sprintf("only %d of %d replicas of the event log are reachable", following, len(members))
	}
	return silence[len(members)/2], ""
}

// adjustOrWarn calls adjust, and logs its error if it isn't the same as last time.
func (p *prober) adjustOrWarn(ctx context.Context, info *jetstream.StreamInfo) {
	n := p.node
	err := p.adjust(ctx, info)
	if err == nil {
		p.warned.settings = ""
		return
	}
	if reason := err.Error(); reason != p.warned.settings && ctx.Err() == nil {
		n.log.Warn("cannot apply this node's settings to the event log", "error", err)
		p.warned.settings = reason
	}
}

// adjust adapts an existing stream to this node's configuration. It applies the
// configured limits and replicas only once: otherwise, nodes with different settings
// would keep overriding each other. The number of replicas grows with the cluster, but
// never shrinks automatically.
func (p *prober) adjust(ctx context.Context, info *jetstream.StreamInfo) error {
	n := p.node
	have := info.Config
	want := have

	// Nodes can't read the stream without these settings. An administrator may have
	// changed them.
	required := n.streamConfig(have.Replicas)
	want.AllowDirect, want.RePublish = required.AllowDirect, required.RePublish
	altered := !have.AllowDirect || have.RePublish == nil || *have.RePublish != *required.RePublish

	if !p.adjusted {
		configured := n.streamConfig(max(n.cfg.Replicas, have.Replicas))
		want.MaxAge, want.MaxBytes = configured.MaxAge, configured.MaxBytes
		if n.cfg.Replicas > 0 {
			want.Replicas = n.cfg.Replicas
		}
	}

	if n.cfg.Replicas == 0 && n.server != nil {
		if possible, err := n.server.replicas(); err == nil {
			want.Replicas = max(have.Replicas, possible)
		}
	}
	if want.MaxAge == have.MaxAge && want.MaxBytes == have.MaxBytes && want.Replicas == have.Replicas && !altered {
		p.adjusted = true
		return nil
	}

	if _, err := n.js.UpdateStream(ctx, want); err != nil {
		return fmt.Errorf("changing the event log to %d replicas, %s, %d bytes: %w", want.Replicas, want.MaxAge, want.MaxBytes, err)
	}
	p.adjusted = true
	if altered {
		n.log.Warn("restored settings of the event log", "allow_direct", have.AllowDirect, "republish", have.RePublish != nil)
	}
	if want.MaxAge != have.MaxAge || want.MaxBytes != have.MaxBytes {
		n.log.Warn("changed limits of the event log", "max_age", want.MaxAge.String(), "max_bytes", want.MaxBytes,
			"old_max_age", have.MaxAge.String(), "old_max_bytes", have.MaxBytes)
	}
	if want.Replicas != have.Replicas {
		n.log.Info("changed replicas of the event log", "replicas", want.Replicas)
	}
	return nil
}
