package cluster_test

import (
	"testing"
)

// TestTwoOfFiveNodesDie has the leader and another node of five die at the same
// moment, and start again later.
func TestTwoOfFiveNodesDie(t *testing.T) {
	t.Parallel()
	cfgs, ways := linkedConfigs(t, 5)
	var members []*member
	for i := range cfgs {
		cfgs[i].Replicas = 5
		members = append(members, start(t, cfgs[i]))
	}
	serving(t, members...)
	tr := newTraffic(t, members, 15, 5)
	tr.flows(100)
	leader := tr.leader()
	dead := []int{leader, (leader + 1) % 5}
	tr.pauses()

	// To the others a node whose packets end is one that has died.
	for _, node := range dead {
		ways.part(node)
	}
	for _, node := range dead {
		members[node].end(t)
	}
	tr.flows(100)
	if pause := tr.pauses(); pause > electedWithin {
		t.Errorf("nothing was published for %s", pause)
	} else {
		t.Logf("nothing was published for %s", pause)
	}
	ways.heal()
	for _, node := range dead {
		tr.replace(node, start(t, cfgs[node]))
	}
	for node := range members {
		serving(t, tr.member(node))
	}
	tr.flows(100)
	tr.finish()
}
