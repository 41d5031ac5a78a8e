package cluster_test

import (
	"testing"
)

// TestTwoOfFiveNodesDie kills the leader and another one of five nodes at the same
// moment, and restarts them later.
func TestTwoOfFiveNodesDie(t *testing.T) {
	t.Parallel()
	cfgs, network := linkedConfigs(t, 5)
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

	// To the other nodes, a node that stops sending packets is dead.
	for _, node := range dead {
		network.partition(node)
	}
	for _, node := range dead {
		members[node].end(t)
	}
	tr.flows(100)
	if pause := tr.pauses(); pause > electedWithin {
		t.Errorf("publishing paused for %s", pause)
	} else {
		t.Logf("publishing paused for %s", pause)
	}
	network.heal()
	for _, node := range dead {
		tr.replace(node, start(t, cfgs[node]))
	}
	for node := range members {
		serving(t, tr.member(node))
	}
	tr.flows(100)
	tr.finish()
}
