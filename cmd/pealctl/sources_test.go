package main_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func TestSources(t *testing.T) {
	d := startDaemon(t)
	d.stats = func() *pealv1.StatsResponse { return &pealv1.StatsResponse{} }
	d.pealctl(t, []string{"sources"}).want(t, "SOURCE  KIND  NODE  STATE  LAG  OLDEST  PUBLISHED  REJECTED  FAILURES\n")

	d.stats = func() *pealv1.StatsResponse {
		now := time.Now()
		return &pealv1.StatsResponse{Sources: []*pealv1.Source{
			{
				Name: "orders", Node: "a", Kind: "postgres", State: pealv1.SourceState_SOURCE_STATE_ACTIVE,
				Lag: &pealv1.Source_LagRecords{LagRecords: 12}, OldestRecord: timestamppb.New(now.Add(-3 * time.Second)), Published: 100, Rejected: 2,
				LastError: "data is empty\x1b[31m", LastErrorAt: timestamppb.New(now.Add(-time.Minute)),
			},
			{Name: "orders", Node: "b", Kind: "postgres", State: pealv1.SourceState_SOURCE_STATE_STANDBY},
			{
				Name: "users", Kind: "kafka", State: pealv1.SourceState_SOURCE_STATE_FAILED, Failures: 7,
				LastError: "connection refused", LastErrorAt: timestamppb.New(now.Add(-time.Hour)),
			},
		}}
	}
	r := d.pealctl(t, []string{"sources"})
	var rows []string
	for line := range strings.Lines(r.stdout) {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"SOURCE KIND NODE STATE LAG OLDEST PUBLISHED REJECTED FAILURES",
		"orders postgres a active 12 3s ago 100 2 0",
		"orders postgres b standby - - 0 0 0",
		"users kafka - failed - - 0 0 7",
		`orders on a, 1m0s ago: data is empty\x1b[31m`,
		"users, 1h0m0s ago: connection refused",
	}
	if r.status != 0 || strings.Join(rows, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s%s", r.stdout, r.stderr)
	}
	if r := d.pealctl(t, []string{"sources", "--output", "json"}); r.status != 0 || !strings.Contains(r.stdout, `"state": "SOURCE_STATE_ACTIVE"`) {
		t.Errorf("JSON: %d %q", r.status, r.stdout)
	}
}

func TestSourceSchema(t *testing.T) {
	d := startDaemon(t)
	r := d.pealctl(t, []string{"sources", "schema", "postgres"})
	if r.status != 0 || !strings.Contains(r.stdout, `CREATE TABLE "peald_outbox" (`) || strings.Contains(r.stdout, "rejected") {
		t.Errorf("%d %q", r.status, r.stdout)
	}
	r = d.pealctl(t, []string{"sources", "schema", "postgres", "--table", "app.outbox", "--dead-letter", "app.rejected"})
	if r.status != 0 || !strings.Contains(r.stdout, `CREATE TABLE "app"."outbox" (`) || !strings.Contains(r.stdout, `CREATE TABLE "app"."rejected" (`) {
		t.Errorf("%d %q", r.status, r.stdout)
	}
	d.pealctl(t, []string{"sources", "schema", "postgres", "--table", "a.b.c"}).wantUsage(t, `--table: invalid name "a.b.c"`)
	d.pealctl(t, []string{"sources", "schema", "postgres", "--dead-letter", `a"b`}).wantUsage(t, "--dead-letter: invalid name")
	d.pealctl(t, []string{"sources", "schema", "postgres", "--table", ""}).wantUsage(t, `--table: invalid name ""`)
}
