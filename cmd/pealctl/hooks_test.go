package main_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func (d *daemon) ListHooks(context.Context, *pealv1.ListHooksRequest) (*pealv1.ListHooksResponse, error) {
	return &pealv1.ListHooksResponse{Hooks: d.hooks, MissingNodes: d.hooksMissing}, nil
}

func (d *daemon) TestHook(_ context.Context, r *pealv1.TestHookRequest) (*pealv1.TestHookResponse, error) {
	d.tested = append(d.tested, r.GetUrl())
	return d.testHook, nil
}

func TestHooks(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	d.pealctl(t, []string{"hooks"}).want(t, "URL  STATE  NODE  EVENTS  DELAY  PENDING  SENT  FAILED  SUCCESS\n")

	d.set(func() {
		d.hooks = []*pealv1.Hook{
			{
				Url: "https://a.example/", State: pealv1.HookState_HOOK_STATE_SENDING, Node: "box-1", Events: []string{"user.online", "user.offline"},
				Delay: durationpb.New(5 * time.Second), EventsSent: 12, LastError: "status 500", FailedRequests: 2,
				LastSuccessValue: &pealv1.Hook_LastSuccess{LastSuccess: timestamppb.New(time.Now().Add(-time.Hour))},
			},
			{Url: "https://b.example/", State: pealv1.HookState_HOOK_STATE_FAILING, Delay: durationpb.New(0), Pending: 7, FailedRequests: 3, LastError: "re\x1bfused"},
		}
		d.hooksMissing = []string{"box-2"}
	})
	r := d.pealctl(t, []string{"hooks"})
	lines := strings.Split(r.stdout, "\n")
	if r.status != 0 || len(lines) != 5 || !strings.Contains(r.stderr, "no reply in time from nodes box-2") ||
		!strings.HasPrefix(strings.Join(strings.Fields(lines[1]), " "), "https://a.example/ sending box-1 user.online user.offline 5s 0 12 2 1h") ||
		strings.Join(strings.Fields(lines[2]), " ") != "https://b.example/ failing - 0s 7 0 3 -" || lines[3] != `https://b.example/: re\x1bfused` {
		t.Errorf("status %d\n%s\n%s", r.status, r.stdout, r.stderr)
	}
	if r := d.pealctl(t, []string{"hooks", "--output", "json"}); r.status != 0 || !strings.Contains(r.stdout, `"state": "HOOK_STATE_FAILING"`) {
		t.Errorf("status %d\n%s", r.status, r.stdout)
	}
}

func TestTestHook(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	d.set(func() {
		d.testHook = &pealv1.TestHookResponse{
			Url: "https://a.example/", MessageId: "test-1", Accepted: true, Status: 200, Body: "tha\nnks\n", Duration: durationpb.New(12 * time.Millisecond),
		}
	})
	d.pealctl(t, []string{"hooks", "test"}).want(t, "URL                 MESSAGE  STATUS  TOOK  RESPONSE\nhttps://a.example/  test-1   200     12ms  tha\\nnks\n")

	d.set(func() {
		d.testHook = &pealv1.TestHookResponse{Url: "https://a.example/", MessageId: "test-2", Error: "connection refused", Duration: durationpb.New(0)}
	})
	r := d.pealctl(t, []string{"hooks", "test", "https://a.example/"})
	r.wantError(t, "the receiver didn't accept the message: connection refused")
	if !strings.Contains(r.stdout, "no response") {
		t.Errorf("stdout:\n%s", r.stdout)
	}
	if d.pealctl(t, []string{"hooks", "test", "a", "b"}).wantUsage(t, `unexpected argument "b"`); strings.Join(d.tested, ",") != ",https://a.example/" {
		t.Errorf("tested %q", d.tested)
	}
	d.pealctl(t, []string{"hooks", "test", "\xff"}).wantError(t, "URL is not valid UTF-8")
}
