package cluster

import (
	"testing"

	"github.com/peald/peald/internal/broker"
)

// TestAnAnswerOfBeforeSaysNothingOfTheLogOfNow has the answer to a probe, that
// there is no log, come when one has been made and is read.
func TestAnAnswerOfBeforeSaysNothingOfTheLogOfNow(t *testing.T) {
	b := broker.New(broker.Config{Shards: 1, QueueBytes: 1 << 20, SlowConsumer: broker.Disconnect, Heartbeat: 1 << 40, Replica: true})
	defer b.Close()
	n := &Node{broker: b, tail: make(chan struct{}, 1)}
	asked := n.openEpoch()
	n.begin(log{epoch: "new", first: 1})
	n.leave(asked)
	if _, ok := n.readable(1); !ok {
		t.Error("the log that was made meanwhile is held to be gone")
	}
	n.leave(n.openEpoch())
	if _, ok := n.readable(1); ok {
		t.Error("the log that is read is gone, and is held to be there")
	}
}
