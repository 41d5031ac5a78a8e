package presence

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/node"
)

// Nodes returns all nodes of the cluster, sorted by name: this node, other running
// nodes, lost nodes, and absent members.
func (d *Directory) Nodes() []*pealv1.Node {
	now := time.Now()
	status := d.cfg.Status()
	own := d.encodeStatus(status)
	own.Answering, own.LastHeard = true, timestamppb.New(now)
	nodes := []*pealv1.Node{own}

	d.mu.RLock()
	for _, n := range d.nodes {
		is := &pealv1.Node{}
		if n.status != nil {
			is = proto.CloneOf(n.status)
		}
		is.Name, is.LastHeard = n.name, timestamppb.New(n.seen)
		if n.lost {
			is.State, is.Reason = pealv1.NodeState_NODE_STATE_LOST, "no announcement for "+lostAfter.String()
			is.Connections, is.Users, is.Leader, is.Quorum = 0, 0, false, false
		} else if d.duplicates[n.name].active(now) {
			is.Reason = "two nodes have this name: stop the one that runs on a copy of the other's cluster.dir"
		}
		nodes = append(nodes, is)
	}

	d.mu.RUnlock()

	for _, name := range status.Members {
		if !slices.ContainsFunc(nodes, func(n *pealv1.Node) bool { return n.GetName() == name }) {
			nodes = append(nodes, &pealv1.Node{
				Name: name, State: pealv1.NodeState_NODE_STATE_ABSENT,
				Reason: "a member of the cluster that isn't running; remove it if it is gone for good",
			})
		}
	}

	slices.SortFunc(nodes, func(a, b *pealv1.Node) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return nodes
}

// status returns this node's status in the form in which it is announced.
func (d *Directory) status() *pealv1.Node { return d.encodeStatus(d.cfg.Status()) }

func (d *Directory) encodeStatus(s node.Status) *pealv1.Node {
	tally := d.cfg.Broker.Tally()
	n := &pealv1.Node{
		Name: d.cfg.Node, State: pealv1.NodeState_NODE_STATE_NOT_SERVING, Reason: s.Reason,
		Version: d.cfg.Version, StartedAt: timestamppb.New(d.cfg.StartedAt),
		Connections: int32(tally.Streams), Users: int32(tally.Users),
		Leader: s.Leader, Replica: s.Replica, Quorum: s.Quorum,
		AppliedEntry: int64(s.Applied), LagEntries: int64(s.Lag), GapFills: s.GapFills,
	}
	switch {
	case d.draining.Load():
		n.State, n.Reason = pealv1.NodeState_NODE_STATE_DRAINING, "closing its streams"
	case s.Serving:
		n.State, n.Reason = pealv1.NodeState_NODE_STATE_SERVING, ""
		if s.Broken != "" {
			n.Reason = "broken replica of the event log: " + s.Broken
		}
	}
	return n
}
