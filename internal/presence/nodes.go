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

// Nodes are all daemons of the cluster, this one, lost ones and members that
// are not there among them, in order of name.
func (d *Directory) Nodes() []*pealv1.Node {
	now := time.Now()
	status := d.cfg.Status()
	own := d.describe(status)
	own.Answering, own.LastHeard = true, timestamppb.New(now)
	nodes := []*pealv1.Node{own}
	d.mu.RLock()
	for _, n := range d.nodes {
		is := &pealv1.Node{}
		if n.standing != nil {
			is = proto.CloneOf(n.standing)
		}
		is.Name, is.LastHeard = n.name, timestamppb.New(n.heard)
		if n.lost {
			is.State, is.Reason = pealv1.NodeState_NODE_STATE_LOST, "it is not heard of"
			is.Connections, is.Users, is.Leader, is.Quorum = 0, 0, false, false
		} else if d.twins[n.name].are(now) {
			is.Reason = "two nodes have this name: end the one that runs on a copy of the other's cluster.dir"
		}
		nodes = append(nodes, is)
	}
	d.mu.RUnlock()
	for _, name := range status.Members {
		if !slices.ContainsFunc(nodes, func(n *pealv1.Node) bool { return n.GetName() == name }) {
			nodes = append(nodes, &pealv1.Node{
				Name: name, State: pealv1.NodeState_NODE_STATE_ABSENT,
				Reason: "the cluster counts it as a member, and it is not there; if it is gone for good, remove it",
			})
		}
	}
	slices.SortFunc(nodes, func(a, b *pealv1.Node) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return nodes
}

// standing is how this daemon is.
func (d *Directory) standing() *pealv1.Node { return d.describe(d.cfg.Status()) }

// describe is how this daemon is, as others are told.
func (d *Directory) describe(is node.Status) *pealv1.Node {
	tally := d.cfg.Broker.Tally()
	n := &pealv1.Node{
		Name: d.cfg.Node, State: pealv1.NodeState_NODE_STATE_NOT_SERVING, Reason: is.Reason,
		Version: d.cfg.Version, StartedAt: timestamppb.New(d.cfg.StartedAt),
		Connections: int32(tally.Streams), Users: int32(tally.Users),
		Leader: is.Leader, Replica: is.Replica, Quorum: is.Quorum,
		AppliedEntry: int64(is.Applied), LagEntries: int64(is.Lag), GapFills: is.GapFills,
	}
	switch {
	case d.draining.Load():
		n.State, n.Reason = pealv1.NodeState_NODE_STATE_DRAINING, "it ends its streams"
	case is.Serving:
		n.State, n.Reason = pealv1.NodeState_NODE_STATE_SERVING, ""
		if is.Broken != "" {
			n.Reason = "its replica of the cluster's log is broken: " + is.Broken
		}
	}
	return n
}
