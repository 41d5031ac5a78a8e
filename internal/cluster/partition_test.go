package cluster_test

import (
	"context"
	"sync"
	"testing"
	"time"
)

func TestPartitionedLeader(t *testing.T) {
	t.Parallel()
	testPartition(t, true)
}

func TestPartitionedFollower(t *testing.T) {
	t.Parallel()
	testPartition(t, false)
}

// testPartition partitions one of three nodes. The others must continue within
// electedWithin. The partitioned node must reject messages, close its streams, and
// recover.
func testPartition(t *testing.T, leads bool) {
	cfgs, network := linkedConfigs(t, 3)
	var members []*member
	for _, cfg := range cfgs {
		members = append(members, start(t, cfg))
	}
	serving(t, members...)
	tr := newTraffic(t, members, 12, 6)
	tr.flows(50)
	one := tr.leader()
	if !leads {
		one = (one + 1) % 3
	}
	insisting, stop := context.WithCancel(t.Context())
	var insist sync.WaitGroup
	for i := range 3 {
		insist.Go(func() { tr.insist(insisting, -1-i, members[one]) })
	}
	defer insist.Wait()
	defer stop()
	tr.flows(50)
	tr.pauses()

	at := time.Now()
	network.partition(one)
	tr.flows(100)
	pause := tr.pauses()
	if pause > electedWithin {
		t.Errorf("publishing paused for %s", pause)
	}
	eventually(t, func() bool { serving, _ := members[one].Serving(); return !serving }, func() string { return "the partitioned node still serves" })
	took := time.Since(at)
	if took < 12*time.Second || took > 90*time.Second {
		t.Errorf("the partitioned node stopped serving after %s", took)
	}
	eventually(t, func() bool { return members[one].broker.Tally().Streams == 0 }, func() string { return "the partitioned node keeps streams open" })
	rejected := tr.rejected()
	for _, p := range rejected {
		if !unavailable(p.err) || p.took > time.Minute {
			t.Errorf("the partitioned node replied to a publisher after %s: %v", p.took, p.err)
		}
	}
	if len(rejected) < 3 {
		t.Errorf("the partitioned node has rejected %d messages, want those of 3 publishers", len(rejected))
	}
	tr.flows(50)

	network.heal()
	healed := time.Now()
	serving(t, members[one])
	t.Logf("publishing paused for %s, the node stopped serving after %s, and served again after %s", pause, took, time.Since(healed))
	tr.flows(100)
	stop()
	insist.Wait()
	tr.finish()
}
