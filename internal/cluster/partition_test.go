package cluster_test

import (
	"context"
	"sync"
	"testing"
	"time"
)

func TestALeaderThatIsPartedFromTheOthers(t *testing.T) {
	t.Parallel()
	parted(t, true)
}

func TestAFollowerThatIsPartedFromTheOthers(t *testing.T) {
	t.Parallel()
	parted(t, false)
}

// parted parts one node of three from the others, which go on within 10 s. The
// one doesn't take what it can't publish, gives up its streams, and comes back.
func parted(t *testing.T, leads bool) {
	cfgs, ways := linkedConfigs(t, 3)
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
	ways.part(one)
	tr.flows(100)
	pause := tr.pauses()
	if pause > electedWithin {
		t.Errorf("nothing was published for %s", pause)
	}
	eventually(t, func() bool { serving, _ := members[one].Serving(); return !serving }, func() string { return "the parted node serves" })
	took := time.Since(at)
	if took < 12*time.Second || took > 90*time.Second {
		t.Errorf("the parted node stopped serving after %s", took)
	}
	eventually(t, func() bool { return members[one].broker.Tally().Streams == 0 }, func() string { return "the parted node keeps streams" })
	refused := tr.refused()
	for _, told := range refused {
		if !unavailable(told.err) || told.took > time.Minute {
			t.Errorf("the parted node answered a publisher after %s: %v", told.took, told.err)
		}
	}
	if len(refused) < 3 {
		t.Errorf("the parted node has refused %d messages, want those of 3 publishers", len(refused))
	}
	tr.flows(50)

	ways.heal()
	healed := time.Now()
	serving(t, members[one])
	t.Logf("nothing was published for %s, the node served for %s, and again after %s", pause, took, time.Since(healed))
	tr.flows(100)
	stop()
	insist.Wait()
	tr.finish()
}
