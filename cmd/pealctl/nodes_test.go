package main_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func TestNodes(t *testing.T) {
	d := startDaemon(t)
	d.stats = func() *pealv1.StatsResponse { return &pealv1.StatsResponse{} }
	if r := d.pealctl(t, []string{"nodes"}); r.status != 1 || !strings.Contains(r.stderr, "clustering is disabled") {
		t.Errorf("without a cluster: %d %q", r.status, r.stderr)
	}

	d.stats = func() *pealv1.StatsResponse {
		now := time.Now()
		return &pealv1.StatsResponse{MissingNodes: []string{"b"}, Nodes: []*pealv1.Node{
			{
				Name: "a", State: pealv1.NodeState_NODE_STATE_SERVING, Answering: true, Version: "v1", Connections: 7, Users: 5,
				StartedAt: timestamppb.New(now.Add(-time.Hour)), LastHeard: timestamppb.New(now), Leader: true, Replica: true, Quorum: true,
				AppliedEntry: 88, LagEntries: 2, GapFills: 3,
			},
			{
				Name: "b", State: pealv1.NodeState_NODE_STATE_LOST, Reason: "no announcement for 5s", Version: "v1", Replica: true,
				StartedAt: timestamppb.New(now.Add(-time.Minute)), LastHeard: timestamppb.New(now.Add(-time.Minute)),
			},
			{Name: "c", State: pealv1.NodeState_NODE_STATE_ABSENT, Reason: "shut down"},
		}}
	}

	r := d.pealctl(t, []string{"nodes"})
	var rows []string

	for line := range strings.Lines(r.stdout) {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}

	want := []string{
		"NODE STATE STREAMS USERS VERSION UP LOG QUORUM ENTRY LAG GAPS HEARD",
		"a* serving 7 5 v1 1h0m0s leader yes 88 2 3 0s ago",
		"b lost 0 0 v1 1m0s replica no 0 0 0 1m0s ago",
		"c absent - - - - - - - - - -",
		"b: no announcement for 5s",
		"c: shut down",
	}
	if r.status != 0 || strings.Join(rows, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s%s", r.stdout, r.stderr)
	}
	if !strings.Contains(r.stderr, "no reply in time from nodes b.") {
		t.Errorf("the warning about the missing node is %q", r.stderr)
	}
}

func TestRemoveNode(t *testing.T) {
	d := startDaemon(t)
	d.pealctl(t, []string{"nodes", "remove", "b"}).want(t, "MEMBERS LEFT\na\nc\n")
	if len(d.removed) != 1 || d.removed[0].GetName() != "b" {
		t.Errorf("removed %v, want b", d.removed)
	}
	if r := d.pealctl(t, []string{"nodes", "remove"}); r.status != 2 || !strings.Contains(r.stderr, "missing NAME; usage: pealctl nodes remove NAME") {
		t.Errorf("without a name: %d %q", r.status, r.stderr)
	}
}
