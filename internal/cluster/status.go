package cluster

import (
	"time"

	"github.com/nats-io/nats.go"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/node"
)

// Status returns the node's current status.
func (n *Node) Status() node.Status {
	n.mu.Lock()
	s := n.state
	n.mu.Unlock()

	applied := n.applied.Load()
	return node.Status{
		Serving:  s.serving,
		Reason:   s.reason,
		Leader:   s.leader == n.name,
		Replica:  s.replicaSound,
		Broken:   s.replicaTrouble,
		Quorum:   time.Since(s.quorumAt) < replicaSilence,
		Applied:  applied,
		Lag:      max(s.known, applied) - applied,
		GapFills: n.gapFills.Load(),
		Members:  s.clusterMembers,
	}
}

// Conn returns the node's connection to NATS. [Node.Close] closes it.
func (n *Node) Conn() *nats.Conn { return n.conn }

// Estimate makes receipts include the number of recipients on other nodes, as estimated
// by elsewhere. It must be called before anything is published.
func (n *Node) Estimate(elsewhere func(broker.Audience) int) { n.elsewhere = elsewhere }
