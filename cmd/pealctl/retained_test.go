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
	} {
		d.cleared = nil
		d.pealctl(t, append([]string{"retained", "clear"}, c.args...)).want(t, "VALUES CLEARED\n             3\n")
		if len(d.cleared) != 1 || !proto.Equal(d.cleared[0], c.want) {
			t.Errorf("%q: request %v, want %v", c.args, d.cleared, c.want)
		}
	}

	for _, args := range [][]string{{"clear"}, {}, {"clear", "--broadcast=false"}, {"clear", "--topic", "a", "--user", "b"}} {
		d.cleared = nil
		if r := d.pealctl(t, append([]string{"retained"}, args...)); r.status != 2 || r.stdout != "" || len(d.cleared) != 0 {
			t.Errorf("%q: status %d, %s%s", args, r.status, r.stdout, r.stderr)
		}
	}
}
