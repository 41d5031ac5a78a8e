package cluster

import (
	"testing"

	"github.com/peald/peald/internal/broker"
)

// TestLateProbeReply handles a reply that reports that there is no event log, after
// one has been created and opened.
func TestLateProbeReply(t *testing.T) {
	b := broker.New(broker.Config{Shards: 1, QueueBytes: 1 << 20, SlowConsumer: broker.Disconnect, Heartbeat: 1 << 40, Replica: true})
	defer b.Close()
	n := &Node{broker: b, readWake: make(chan struct{}, 1)}
	probed := n.openEpoch()
	n.begin(eventLog{epoch: "new", first: 1})
	n.leaveLog(probed)
	if _, ok := n.readable(1); !ok {
		t.Error("the new event log is not readable")
	}
	n.leaveLog(n.openEpoch())
	if _, ok := n.readable(1); ok {
		t.Error("the deleted event log is readable")
	}
}
