package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// state is a node's view of itself and the event log. It is guarded by Node.mu.
type state struct {
	serving bool
	current bool   // the node is up to date with the event log, but may be unable to publish
	reason  string // why the node isn't serving

	epoch     string    // of the open event log; empty while none is open
	replaced  bool      // the stream now has another epoch, or is gone
	first     uint64    // the first entry that is still in the event log
	known     uint64    // the last entry that the event log is known to have
	quorumAt  time.Time // when the leader last had a quorum
	trouble   string    // the problem that the last probe found; empty if there was none
	readError string    // of the last attempt to read missing entries; empty if it succeeded

	openDoubt *position // an entry that the event log should have had when it was opened

	target      uint64    // an entry that the node should apply soon
	targetSince time.Time // when target was set
	caughtUp    bool      // at some point, the node had applied everything in the open event log

	leader         string
	replicas       int // configured
	members        []Member
	replicaSound   bool     // the node has a sound replica of the event log
	replicaTrouble string   // what is wrong with the replica; empty if it is sound or there is none
	clusterMembers []string // nil if unknown, or if nodes aren't members
}

// Member is a replica of the event log.
type Member struct {
	Name    string
	Leader  bool
	Current bool
	// Silent is the time since the replica's last message to the leader.
	Silent time.Duration
	// Lag is the number of entries that the replica lacks.
	Lag uint64
}

// Serving reports whether the node is serving, and returns the reason if it isn't.
func (n *Node) Serving() (serving bool, reason string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state.serving, n.state.reason
}

// leads reports whether this node leads the event log.
func (n *Node) leads() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.server != nil && (n.server.standalone || n.state.leader == n.name)
}

// logRange returns the first and last entries of the event log.
func (n *Node) logRange() (first, last uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state.first, max(n.state.known, n.state.first)
}

// logReplicas returns the number of replicas of the event log.
func (n *Node) logReplicas() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return max(n.state.replicas, 1)
}

// noteEntry records that the event log has the given entry.
func (n *Node) noteEntry(entry uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.known = max(n.state.known, entry)
}

// openEpoch returns the epoch of the open event log, or an empty string if none is
// open.
func (n *Node) openEpoch() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state.epoch
}

// leaveLog makes the reader leave the event log with the given epoch, because the
// stream has another epoch or is gone. It does nothing if another event log has been
// opened in the meantime.
func (n *Node) leaveLog(epoch string) {
	n.mu.Lock()
	if epoch != "" && n.state.epoch == epoch {
		n.state.replaced = true
	}
	n.mu.Unlock()
	n.wakeReader()
}

// readable returns the last known entry of the event log. It reports false if the log
// has been replaced or no longer has the entry next.
func (n *Node) readable(next uint64) (known uint64, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state.known, !n.state.replaced && n.state.first <= next
}

func (n *Node) wakeReader() {
	select {
	case n.readWake <- struct{}{}:
	default:
	}
}

func (n *Node) wakeProber() {
	select {
	case n.probeWake <- struct{}{}:
	default:
	}
}

// setTrouble sets the problem that the last probe, or the last attempt to open the
// event log, has found.
func (n *Node) setTrouble(trouble string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.trouble = trouble
}

// setReadError sets the reason why missing entries can't be read, or clears it if
// reason is empty.
func (n *Node) setReadError(reason string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.readError = reason
}

// codeNotAvailable is JetStream's error code for a cluster without a leader.
const codeNotAvailable = 10008

// explain returns a description of a JetStream error for the operator.
func (n *Node) explain(err error) string {
	var api *jetstream.APIError
	switch {
	case !n.conn.IsConnected():
		reason := "no connection to NATS"
		if last := n.conn.LastError(); last != nil {
			reason += ": " + last.Error()
		}
		return reason
	case errors.Is(err, context.DeadlineExceeded) && n.denials.current(time.Now()) != "":
		return n.denials.current(time.Now())
	case errors.Is(err, context.DeadlineExceeded) && n.openEpoch() != "":
		return n.withRejection("the leader of the event log doesn't reply")
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &api) && api.ErrorCode == codeNotAvailable:
		reason := "no leader elected yet"
		if n.server != nil && !n.server.standalone {
			if rejection := n.rejection(); rejection != "" {
				return rejection
			}
			reason += fmt.Sprintf("; connected to %d other nodes, and all of cluster.peers must be running when a cluster starts for the first time", n.server.NumRoutes())
		}
		return reason
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return "there is no event log yet"
	case errors.As(err, &api):
		return "JetStream error: " + api.Description
	}
	return err.Error()
}

// rejection describes why a node isn't connected to any other node, if connections were
// rejected recently. Otherwise it returns an empty string.
func (n *Node) rejection() string {
	if n.server == nil || n.server.standalone || n.server.NumRoutes() > 0 {
		return ""
	}
	rejection := n.server.rejections.current(time.Now())
	if rejection == "" {
		return ""
	}
	return "not connected to any other node: " + rejection
}

// withRejection appends the rejection, if there is one, to a description of a problem.
func (n *Node) withRejection(trouble string) string {
	if rejection := n.rejection(); rejection != "" {
		trouble += "; " + rejection
	}
	return trouble
}

// updateServing determines whether the node is serving, and acts on any change.
func (n *Node) updateServing(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := &n.state
	applied := n.applied.Load()
	if applied >= s.target {
		s.target, s.targetSince = s.known, now
		s.caughtUp = s.caughtUp || s.epoch != "" && applied >= s.known
	}

	// If only this node has the event log and it can't write it, other nodes can't
	// publish either. Streams then miss nothing, so they stay open.
	fault := n.faultLocked()
	var reason string
	switch {
	case s.epoch == "":
		reason = "event log not found yet"
		if s.trouble != "" {
			reason += ": " + s.trouble
		}
	case fault == "" && (now.Sub(s.quorumAt) > partitionedAfter || !s.serving && now.Sub(s.quorumAt) > probeInterval+probeTimeout):
		reason = "partitioned from the cluster: " + s.trouble
		s.caughtUp = false
	case !s.caughtUp:
		reason = fmt.Sprintf("catching up with the event log: entry %d of %d", applied, s.known)
	case now.Sub(s.targetSince) > behindAfter:
		reason = fmt.Sprintf("too far behind the event log: entry %d of %d", applied, s.known)
	}
	current := reason == ""
	reason = cmp.Or(fault, reason)
	serving := reason == ""

	switch {
	case current && !s.current:
		n.broker.Resume()
	case !current && s.current:
		n.log.Error("not serving, closing streams", "reason", reason)
		n.broker.Suspend(closeOver)
	}
	if serving && !s.serving {
		n.log.Info("serving", "node", n.name, "leader", s.leader, "entry", applied)
	}
	changed := serving != s.serving
	s.serving, s.current, s.reason = serving, current, reason
	if changed && n.onChange != nil {
		n.onChange(serving)
	}
}

// fault describes the storage fault that prevents publishing. It returns an empty
// string if there is no fault, or if other nodes have the event log too.
func (n *Node) fault() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.faultLocked()
}

// faultLocked is fault for callers that hold n.mu.
func (n *Node) faultLocked() string {
	s := &n.state
	if n.standalone() || s.replicas == 1 && s.leader == n.name {
		return n.storage.reason()
	}
	return ""
}

// begin records that the reader has opened an event log and will start at its first
// entry.
func (n *Node) begin(l eventLog) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broker.Begin(l.epoch, l.first*eventsPerEntry)
	n.broker.SetLogStart(l.complete)
	n.broker.SetClock(l.at)
	n.applied.Store(l.first - 1)

	s := &n.state
	s.epoch, s.first, s.known, s.replaced = l.epoch, l.first, l.last, false
	s.target, s.targetSince, s.caughtUp = l.last, time.Now(), false
	s.current = false
	if s.serving {
		s.serving, s.reason = false, "catching up with the event log"
		if n.onChange != nil {
			n.onChange(false)
		}
	}
}
