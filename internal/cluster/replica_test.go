package cluster_test

import (
	"fmt"
	"testing"
)

// TestBrokenReplicaIsReported stops JetStream in one node, as the server does when a
// disk fails. The node must still serve, and report a broken replica.
func TestBrokenReplicaIsReported(t *testing.T) {
	t.Parallel()
	members := startAll(t, 3)
	members[0].publish(t, toAll("one"))
	for i, m := range members {
		eventually(t, func() bool { return m.Status().Replica }, func() string { return fmt.Sprintf("node %d has no replica: %+v", i, m.Status()) })
	}
	broken := members[2]
	broken.StopReplica(t)
	eventually(t, func() bool {
		s := broken.Status()
		return s.Serving && !s.Replica && s.Broken != ""
	}, func() string { return fmt.Sprintf("the broken replica is not reported: %+v", broken.Status()) })
	for i, m := range members[:2] {
		if s := m.Status(); !s.Replica || s.Broken != "" {
			t.Errorf("node %d with a sound replica reports %+v", i, s)
		}
	}
}
