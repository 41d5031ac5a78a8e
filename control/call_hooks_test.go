package control_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

const hookURL = "https://app.example/hooks"

// fakeHooks has hooks with fixed states. Without any, it has one at hookURL.
type fakeHooks struct {
	hooks []control.Hook
	fail  error // of the test message
}

func (f *fakeHooks) Status() []control.Hook {
	if f.hooks == nil {
		return []control.Hook{{URL: hookURL}}
	}
	return f.hooks
}

func (f *fakeHooks) Test(_ context.Context, url string) (control.HookTest, bool) {
	hooks := f.Status()
	if url == "" && len(hooks) == 1 {
		url = hooks[0].URL
	}
	known := slices.ContainsFunc(hooks, func(h control.Hook) bool { return h.URL == url })
	return control.HookTest{URL: url, MessageID: "test-1", Status: 204, Body: "ok", Err: f.fail, Duration: time.Second}, known
}

func TestListHooks(t *testing.T) {
	at := time.Unix(1e9, 0)
	p := start(t, control.Config{Hooks: &fakeHooks{hooks: []control.Hook{
		{URL: "https://b.example/", State: control.HookFailing, Pending: 7, Failed: 3, LastError: "refused", LastFailure: at},
		{URL: "https://a.example/", Events: []string{"user.online"}, Delay: time.Minute, State: control.HookSending, Sent: 9, Snapshots: 2, Dropped: 4, LastSuccess: at},
	}}}, &fakeBroker{}, nil)
	reply, err := p.ListHooks(t.Context(), &pealv1.ListHooksRequest{})
	if err != nil || len(reply.GetHooks()) != 2 {
		t.Fatalf("reply %v, %v", reply, err)
	}
	a, b := reply.GetHooks()[0], reply.GetHooks()[1]
	if a.GetUrl() != "https://a.example/" || a.GetState() != pealv1.HookState_HOOK_STATE_SENDING || a.GetDelay().AsDuration() != time.Minute ||
		a.GetEventsSent() != 9 || a.GetSnapshotsSent() != 2 || a.GetEventsDropped() != 4 || !a.GetLastSuccess().AsTime().Equal(at) || a.GetLastFailure() != nil ||
		!slices.Equal(a.GetEvents(), []string{"user.online"}) || a.GetNode() != "" {
		t.Errorf("the first hook is %v", a)
	}
	if b.GetState() != pealv1.HookState_HOOK_STATE_FAILING || b.GetPending() != 7 || b.GetFailedRequests() != 3 || b.GetLastError() != "refused" || b.GetLastSuccess() != nil {
		t.Errorf("the second hook is %v", b)
	}

	rest := p.do(t, "GET", "/v1/hooks", "")
	if text := rest.body; !strings.Contains(text, `"state":"HOOK_STATE_SENDING"`) || !strings.Contains(text, `"delay":"60s"`) {
		t.Errorf("over REST: %s", text)
	}
}

func TestTestHook(t *testing.T) {
	p := start(t, control.Config{Hooks: &fakeHooks{fail: errors.New("status 500")}}, &fakeBroker{}, nil)
	for _, url := range []string{"", hookURL} {
		reply, err := p.TestHook(t.Context(), &pealv1.TestHookRequest{Url: url})
		if err != nil || reply.GetUrl() != hookURL || reply.GetAccepted() || reply.GetError() != "status 500" || reply.GetStatus() != 204 ||
			reply.GetMessageId() != "test-1" || reply.GetBody() != "ok" || reply.GetDuration().AsDuration() != time.Second {
			t.Errorf("%q: reply %v, %v", url, reply, err)
		}
	}

	several := start(t, control.Config{Hooks: &fakeHooks{hooks: []control.Hook{{URL: hookURL}, {URL: hookURL + "/2"}}}}, &fakeBroker{}, nil)
	none := start(t, control.Config{}, &fakeBroker{}, nil)
	for name, c := range map[string]struct {
		of     *plane
		url    string
		code   codes.Code
		reason string
		text   string
	}{
		"unknown":           {p, hookURL + "/3", codes.NotFound, "UNKNOWN_HOOK", `no webhook with the URL "` + hookURL + `/3"; want one of ` + hookURL},
		"ambiguous":         {several, "", codes.InvalidArgument, "INVALID_FIELD", "url is empty; want one of " + hookURL + ", " + hookURL + "/2"},
		"none":              {none, "", codes.NotFound, "UNKNOWN_HOOK", "no webhooks are configured; set hooks"},
		"too long":          {p, strings.Repeat("x", 4097), codes.InvalidArgument, "INVALID_FIELD", "url is 4097 bytes long; want at most 4096"},
		"control character": {p, "a\x00b", codes.NotFound, "UNKNOWN_HOOK", `no webhook with the URL "a\x00b"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.of.TestHook(t.Context(), &pealv1.TestHookRequest{Url: c.url})
			if f := failureOf(t, err); f.code != c.code || f.reason != c.reason || !strings.Contains(f.message, c.text) {
				t.Errorf("error %+v, want %s, %s, %q", f, c.code, c.reason, c.text)
			}
		})
	}
}
