package cluster_test

import (
	"fmt"
	"testing"
)

// TestABrokenReplicaIsReported has the server inside one node stop its JetStream,
// as it does on a disk that fails: the node goes on to serve, and no longer
// reports a replica.
func TestABrokenReplicaIsReported(t *testing.T) {
	t.Parallel()
	members := startAll(t, 3)
	members[0].publish(t, toAll("one"))
	for i, m := range members {
		eventually(t, func() bool { return m.Status().Replica }, func() string { return fmt.Sprintf("node %d has no replica: %+v", i, m.Status()) })
	}
	broken := members[2]
	broken.StopReplica(t)
	eventually(t, func() bool {
		is := broken.Status()
		return is.Serving && !is.Replica && is.Broken != ""
	}, func() string { return fmt.Sprintf("the broken replica isn't reported: %+v", broken.Status()) })
	for i, m := range members[:2] {
		if is := m.Status(); !is.Replica || is.Broken != "" {
			t.Errorf("node %d has a sound replica, and reports %+v", i, is)
		}
	}
}
