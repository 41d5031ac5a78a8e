package cluster

import (
	"time"

	"github.com/nats-io/nats.go"

	"github.com/peald/peald/internal/broker"
)

// Standing is how a node is.
type Standing struct {
	// Serving says whether the node has its log, up to now, and Reason why
	// not.
	Serving bool
	Reason  string
	// Leader and Replica report whether the node leads the log, and holds a
	// replica of it that is sound.
	Leader, Replica bool
	// Broken is what is wrong with the replica; empty if nothing is, or the node
	// holds none.
	Broken string
	// Quorum says whether the log's leader has answered lately, and enough
	// replicas follow it.
	Quorum bool
	// Applied is the last entry of the log that the node has taken in, Lag how
	// many it has yet to take in, and GapFills how often it had to ask for what
	// did not come by itself.
	Applied, Lag uint64
	GapFills     int64
	// Members are the names of the nodes that the cluster counts, whether they
	// are there or not, in order; none where nodes are no members of anything.
	Members []string
}

// Standing is how the node is now.
func (n *Node) Standing() Standing {
	n.mu.Lock()
	s := n.state
	n.mu.Unlock()
	applied := n.applied.Load()
	return Standing{
		Serving:  s.serving,
		Reason:   s.reason,
		Leader:   s.leader == n.name,
		Replica:  s.sound,
		Broken:   s.replica,
		Quorum:   time.Since(s.quorum) < replicaSilence,
		Applied:  applied,
		Lag:      max(s.known, applied) - applied,
		GapFills: n.gapFills.Load(),
		Members:  s.counted,
	}
}

// Conn is the node's connection to NATS, which ends with the node.
func (n *Node) Conn() *nats.Conn { return n.conn }

// Estimate has receipts count the streams that elsewhere says others have. It
// is to be called before anything is published.
func (n *Node) Estimate(elsewhere func(broker.Audience) int) { n.elsewhere = elsewhere }
