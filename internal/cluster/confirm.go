package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// If all nodes of a cluster have lost entries, none of their records of the event log
// can be relied on. The leader then starts a new epoch. The other nodes must not serve
// before it has decided whether to do so.

// openSubject returns the subject on which a node replies with the epoch of the event
// log that it has open.
func (n *Node) openSubject(node string) string { return n.cfg.Name + ".open." + node }

// confirmOthers replies to other nodes that call confirm.
func (n *Node) confirmOthers() error {
	if n.server == nil || n.server.standalone {
		return nil
	}
	_, err := n.conn.Subscribe(n.openSubject(n.name), func(msg *nats.Msg) {
		if err := msg.Respond([]byte(n.openEpoch())); err != nil {
			n.log.Debug("cannot send to other nodes", "error", err)
		}
	})
	if err != nil {
		return fmt.Errorf("subscribing to cluster subjects: %w", err)
	}
	return nil
}

// confirm returns an error if this node can't rely on its own record of the event log
// and the leader hasn't opened the event log yet. If the leader doesn't do so for
// partitionedAfter, confirm gives up and returns nil.
func (n *Node) confirm(ctx context.Context, l eventLog) error {
	if n.standalone() || l.leader == n.name || n.marks.reliable() {
		n.unconfirmedSince = time.Time{}
		return nil
	}
	reply, err := n.conn.RequestWithContext(ctx, n.openSubject(l.leader), nil)
	if err == nil && string(reply.Data) == l.epoch {
		n.unconfirmedSince = time.Time{}
		return nil
	}
	if n.unconfirmedSince.IsZero() {
		n.unconfirmedSince = time.Now()
	}
	if time.Since(n.unconfirmedSince) < partitionedAfter {
		return fmt.Errorf("waiting until %s, the leader of the event log, has checked it", l.leader)
	}
	n.unconfirmedSince = time.Time{}
	n.log.Warn("opening an event log that its leader hasn't checked", "leader", l.leader, "error", err)
	return nil
}
