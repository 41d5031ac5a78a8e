package main_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// ClearRetained records the request, and clears 3 values.
func (d *daemon) ClearRetained(_ context.Context, r *pealv1.ClearRetainedRequest) (*pealv1.ClearRetainedResponse, error) {
	d.cleared = append(d.cleared, proto.CloneOf(r))
	return &pealv1.ClearRetainedResponse{Cleared: 3}, nil
}

// ListRetained returns two pages.
func (d *daemon) ListRetained(_ context.Context, r *pealv1.ListRetainedRequest) (*pealv1.ListRetainedResponse, error) {
	d.listed = append(d.listed, proto.CloneOf(r))
	if r.GetPageToken() != "" {
		return &pealv1.ListRetainedResponse{Audiences: []*pealv1.RetainedAudience{
			{Audience: &pealv1.RetainedAudience_Topic{Topic: "prices\x1b"}, Events: 2, Bytes: 1300},
		}}, nil
	}
	return &pealv1.ListRetainedResponse{NextPageToken: "next", Audiences: []*pealv1.RetainedAudience{
		{Audience: &pealv1.RetainedAudience_Everyone{Everyone: true}, Events: 1, Bytes: 650},
		{Audience: &pealv1.RetainedAudience_UserId{UserId: "alice"}, Events: 10, Bytes: 6500},
	}}, nil
}

func TestRetainedAudiences(t *testing.T) {
	d := startDaemon(t)
	r := d.pealctl(t, []string{"retained", "--page-size", "2"})
	if want := "AUDIENCE   NAME   VALUES  BYTES\nbroadcast  -           1    650\nuser       alice      10   6500\n"; r.status != 0 || r.stdout != want || !strings.Contains(r.stderr, `--page-token "next"`) {
		t.Errorf("%s%s; want %s", r.stdout, r.stderr, want)
	}
	r = d.pealctl(t, []string{"retained", "--all", "--matching", "prices.*"})
	if r.status != 0 || !strings.Contains(r.stdout, `topic      prices\x1b       2   1300`) || strings.Count(r.stdout, "\n") != 4 || r.stderr != "" {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}
	want := &pealv1.ListRetainedRequest{Topic: "prices.*", PageToken: "next"}
	if len(d.listed) != 3 || d.listed[0].GetPageSize() != 2 || !proto.Equal(d.listed[2], want) {
		t.Errorf("requests %v", d.listed)
	}
}

func TestRetained(t *testing.T) {
	d := startDaemon(t)
	r := d.pealctl(t, []string{"retained", "--topic", "prices.eur"})
	if r.status != 0 || strings.Count(r.stdout, "\n") != 7 || r.stderr != "" {
		t.Errorf("want a header and six rows:\n%s%s", r.stdout, r.stderr)
	}
	if got := d.reads[0]; got.GetTopic() != "prices.eur" || !got.GetRetained() {
		t.Errorf("request %v", got)
	}

	for _, c := range []struct {
		args []string
		want *pealv1.ClearRetainedRequest
	}{
		{[]string{"--topic", "prices.eur"}, &pealv1.ClearRetainedRequest{Audience: &pealv1.ClearRetainedRequest_Topic{Topic: "prices.eur"}}},
		{[]string{"--user", "alice", "--conflate-key", "k"}, &pealv1.ClearRetainedRequest{Audience: &pealv1.ClearRetainedRequest_UserId{UserId: "alice"}, ConflateKeyValue: &pealv1.ClearRetainedRequest_ConflateKey{ConflateKey: "k"}}},
		{[]string{"--broadcast", "--conflate-key", ""}, &pealv1.ClearRetainedRequest{Audience: &pealv1.ClearRetainedRequest_Everyone{Everyone: true}, ConflateKeyValue: &pealv1.ClearRetainedRequest_ConflateKey{}}},
		{[]string{"--all"}, &pealv1.ClearRetainedRequest{Audience: &pealv1.ClearRetainedRequest_All{All: true}}},
	} {
		d.cleared = nil
		d.pealctl(t, append([]string{"retained", "clear"}, c.args...)).want(t, "VALUES CLEARED\n             3\n")
		if len(d.cleared) != 1 || !proto.Equal(d.cleared[0], c.want) {
			t.Errorf("%q: request %v, want %v", c.args, d.cleared, c.want)
		}
	}

	for _, args := range [][]string{
		{"clear"}, {"clear", "--broadcast=false"}, {"clear", "--all=false"}, {"clear", "--topic", "a", "--user", "b"}, {"clear", "--all", "--topic", "a"},
		{"clear", "--all", "--conflate-key", ""}, {"prices.*"}, {"--topic", "a", "--all"}, {"--matching", "a.*", "--user", "b"}, {"--broadcast=false"},
	} {
		d.cleared = nil
		if r := d.pealctl(t, append([]string{"retained"}, args...)); r.status != 2 || r.stdout != "" || len(d.cleared) != 0 {
			t.Errorf("%q: status %d, %s%s", args, r.status, r.stdout, r.stderr)
		}
	}
}
