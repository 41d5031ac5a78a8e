package presence

import (
	"maps"
	"slices"
	"time"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// A node performs a duty once it has announced for takeOverAfter that it is ready. By then, the node that has performed it so far has stopped.
const takeOverAfter = time.Second

// SetDuties sets the names of the duties that this node is ready to perform. They are
// announced with the next changes.
//
// A duty is a task that one node performs for the whole cluster. Of the nodes that are
// serving and ready, it is the first by name. Two nodes may perform a duty at the same
// time for as long as one of them doesn't receive the other's announcements.
func (d *Directory) SetDuties(names []string) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	ready := make(map[string]time.Time, len(names))
	for _, name := range names {
		ready[name] = now
		if since, ok := d.duties[name]; ok {
			ready[name] = since
		}
	}
	d.duties = ready
}

// ownDuties returns the sorted names of the duties that this node is ready to perform.
func (d *Directory) ownDuties() []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.Sorted(maps.Keys(d.duties))
}

// Performs reports whether this node must perform a duty.
func (d *Directory) Performs(duty string) bool {
	if d.status().GetState() != pealv1.NodeState_NODE_STATE_SERVING {
		return false
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	since, ready := d.duties[duty]
	if !ready || time.Since(since) < takeOverAfter {
		return false
	}

	for _, n := range d.nodes {
		precedes := n.name < d.cfg.Node || n.name == d.cfg.Node && n.incarnation < d.incarnation
		if precedes && !n.lost && n.status.GetState() == pealv1.NodeState_NODE_STATE_SERVING && slices.Contains(n.duties, duty) {
			return false
		}
	}
	return true
}
