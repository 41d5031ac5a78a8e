package control

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// The close reasons reported for streams on other nodes if the real reason is unknown.
const (
	reasonNodeLost = "node_lost"
	reasonUnknown  = "unknown"
)

// nodeUpdate is an update to a watch from one node.
type nodeUpdate struct {
	node      string
	responses []*pealv1.WatchConnectionsResponse
	restarted bool     // the node starts over with a snapshot
	ended     bool     // the node will send nothing more
	started   []string // if not nil, the nodes that are reachable at the start; all other fields are unset
}

// mergedWatch merges the watches of all nodes into one. The counts it sends are sums
// over all nodes. The call's goroutine owns it.
//
// It keeps each node's stream counts because, if a node restarts its watch or is lost,
// the new counts must be compared with those already sent. The counts that package
// presence announces are no substitute: they lack the order of changes and the close
// reasons.
type mergedWatch struct {
	send         func(*pealv1.WatchConnectionsResponse) error
	nodes        map[string]*watchedNode
	awaited      map[string]bool // by node, whether its snapshot is missing; nil until the reachable nodes are known
	snapshotSent bool
}

// watchedNode holds the streams of one node. Anonymous streams are counted under the
// user "".
type watchedNode struct {
	streams  map[string]int32                  // by user
	since    map[string]*timestamppb.Timestamp // by user; nil once the merged snapshot is sent
	snapshot map[string]int32                  // by user; nil unless the node's snapshot is in progress
}

func newMergedWatch(send func(*pealv1.WatchConnectionsResponse) error) *mergedWatch {
	return &mergedWatch{send: send, nodes: make(map[string]*watchedNode)}
}

// apply applies an update and sends the resulting events.
func (w *mergedWatch) apply(u nodeUpdate) error {
	switch {
	case u.started != nil:
		w.awaited = make(map[string]bool)
		for _, name := range u.started {
			w.awaited[name] = w.nodes[name] == nil || w.nodes[name].snapshot != nil
		}

		return w.sendSnapshotIfComplete()
	case u.ended:
		return w.removeNode(u.node)
	}

	n := w.nodes[u.node]
	if n == nil {
		n = &watchedNode{
			streams:  make(map[string]int32),
			since:    make(map[string]*timestamppb.Timestamp),
			snapshot: make(map[string]int32),
		}
		w.nodes[u.node] = n
	}

	if u.restarted {
		n.snapshot = make(map[string]int32)
	}

	for _, resp := range u.responses {
		if err := w.applyResponse(u.node, n, resp); err != nil {
			return err
		}
	}

	return nil
}

func (w *mergedWatch) applyResponse(name string, n *watchedNode, resp *pealv1.WatchConnectionsResponse) error {
	switch e := resp.GetEvent().(type) {
	case *pealv1.WatchConnectionsResponse_Present:
		n.snapshot[e.Present.GetUserId()] = e.Present.GetConnections()
		w.setSince(n, e.Present.GetUserId(), e.Present.GetConnectedSince())
	case *pealv1.WatchConnectionsResponse_SnapshotComplete:
		n.snapshot[""] = e.SnapshotComplete.GetAnonymousConnections()
		snapshot := n.snapshot
		n.snapshot = nil

		if w.snapshotSent {
			return w.sendDifference(n, snapshot, reasonUnknown)
		}

		n.streams = snapshot
		if w.awaited != nil {
			delete(w.awaited, name)
		}

		return w.sendSnapshotIfComplete()
	case *pealv1.WatchConnectionsResponse_Opened:
		if n.streams[e.Opened.GetUserId()] == 0 {
			w.setSince(n, e.Opened.GetUserId(), e.Opened.GetTime())
		}

		n.set(e.Opened.GetUserId(), e.Opened.GetConnections())
		e.Opened.Connections = w.sum(e.Opened.GetUserId())

		return w.sendChange(resp)
	case *pealv1.WatchConnectionsResponse_Ended:
		n.set(e.Ended.GetUserId(), e.Ended.GetConnections())
		e.Ended.Connections = w.sum(e.Ended.GetUserId())

		return w.sendChange(resp)
	}

	return nil
}

// setSince records when a user connected to a node. Only the snapshot needs that
// time.
func (w *mergedWatch) setSince(n *watchedNode, user string, at *timestamppb.Timestamp) {
	if !w.snapshotSent {
		n.since[user] = at
	}
}

func (n *watchedNode) set(user string, streams int32) {
	if streams > 0 {
		n.streams[user] = streams
	} else {
		delete(n.streams, user)
	}
}

// sum returns the number of a user's streams on all nodes.
func (w *mergedWatch) sum(user string) (streams int32) {
	for _, n := range w.nodes {
		streams += n.streams[user]
	}

	return streams
}

// sendChange sends a change. Changes that precede the snapshot become part of it
// instead.
func (w *mergedWatch) sendChange(resp *pealv1.WatchConnectionsResponse) error {
	if !w.snapshotSent {
		return nil
	}

	return w.send(resp)
}

// sendSnapshotIfComplete sends the merged snapshot once all nodes that were reachable
// at the start have sent theirs.
func (w *mergedWatch) sendSnapshotIfComplete() error {
	if w.awaited == nil {
		return nil
	}

	for _, awaited := range w.awaited {
		if awaited {
			return nil
		}
	}

	return w.sendSnapshot()
}

// sendSnapshot sends the users known to be present, unless the snapshot has already
// been sent.
func (w *mergedWatch) sendSnapshot() error {
	if w.snapshotSent {
		return nil
	}

	w.snapshotSent = true
	users := make(map[string]*pealv1.User)

	for _, n := range w.nodes {
		for id, streams := range n.streams {
			u := users[id]
			if u == nil {
				u = &pealv1.User{UserId: id, ConnectedSince: n.since[id]}
				users[id] = u
			}

			u.Connections += streams
			if n.since[id].AsTime().Before(u.GetConnectedSince().AsTime()) {
				u.ConnectedSince = n.since[id]
			}
		}

		n.since = nil
	}

	anonymous := users[""].GetConnections()
	delete(users, "")

	for _, id := range slices.Sorted(maps.Keys(users)) {
		if err := w.send(presentEvent(users[id])); err != nil {
			return err
		}
	}

	return w.send(snapshotCompleteEvent(anonymous))
}

// removeNode removes a node, and reports its streams as closed.
func (w *mergedWatch) removeNode(name string) error {
	delete(w.awaited, name)

	n := w.nodes[name]
	if n == nil {
		return w.sendSnapshotIfComplete()
	}

	if !w.snapshotSent {
		delete(w.nodes, name)

		return w.sendSnapshotIfComplete()
	}

	err := w.sendDifference(n, nil, reasonNodeLost)
	delete(w.nodes, name)

	return err
}

// sendDifference replaces the streams of a node, and reports each difference as a
// stream that was opened or closed.
func (w *mergedWatch) sendDifference(n *watchedNode, next map[string]int32, reason string) error {
	at := timestamppb.Now()

	users := make(map[string]bool, len(n.streams)+len(next))
	for id := range n.streams {
		users[id] = true
	}

	for id := range next {
		users[id] = true
	}

	for _, id := range slices.Sorted(maps.Keys(users)) {
		for n.streams[id] != next[id] {
			var event *pealv1.WatchConnectionsResponse

			if n.streams[id] < next[id] {
				n.set(id, n.streams[id]+1)
				event = openedEvent(id, w.sum(id), at)
			} else {
				n.set(id, n.streams[id]-1)
				event = endedEvent(id, w.sum(id), at, reason)
			}

			if err := w.send(event); err != nil {
				return err
			}
		}
	}

	return nil
}
