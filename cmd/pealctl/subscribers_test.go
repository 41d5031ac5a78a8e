package main_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func TestSubscribers(t *testing.T) {
	d := startDaemon(t)
	r := d.pealctl(t, []string{"subscribers", "orders.7", "--prefix", "x-", "--page-size", "1"})
	if want := "USER         STREAMS\nx-alice           12\n(anonymous)        4\n"; r.status != 0 || r.stdout != want {
		t.Errorf("status %d\n%s, want\n%s", r.status, r.stdout, want)
	}
	if !strings.Contains(r.stderr, `--page-token "more"`) {
		t.Errorf("stderr doesn't name the next page: %q", r.stderr)
	}
	if got := d.audience[0]; got.GetTopic() != "orders.7" || got.GetPrefix() != "x-" || got.GetPageSize() != 1 {
		t.Errorf("request is %v", got)
	}

	r = d.pealctl(t, []string{"subscribers", "orders.7", "--all"})
	if want := "USER         STREAMS\nalice             12\nbob                1\n(anonymous)        5\n"; r.stdout != want || !strings.Contains(r.stderr, "b") {
		t.Errorf("%s%s, want\n%s", r.stdout, r.stderr, want)
	}

	r = d.pealctl(t, []string{"subscribers", "orders.7", "--page-token", "more", "--output", "json"})
	var reply pealv1.ListSubscribersResponse
	if err := protojson.Unmarshal([]byte(r.stdout), &reply); err != nil || len(reply.GetUsers()) != 1 || reply.GetAnonymousConnections() != 5 {
		t.Errorf("%v: %s", err, r.stdout)
	}

	d.set(func() { d.fail = violation(t, "topic") })
	d.pealctl(t, []string{"subscribers", "a.>.b"}).wantError(t, "topic")
	d.pealctl(t, []string{"subscribers"}).wantUsage(t, "missing TOPIC")
	d.pealctl(t, []string{"subscribers", "\xff"}).wantError(t, "TOPIC")
	d.pealctl(t, []string{"watch", "--topic", ""}).wantUsage(t, "--topic", "empty topic")
}
