package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

const (
	secret      = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	otherSecret = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
)

func start(t *testing.T) *httptest.Server {
	t.Helper()
	r, err := newReceiver(secret)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	return server
}

// shown returns what the receiver shows.
func shown(t *testing.T, server *httptest.Server) string {
	t.Helper()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(text.String())
}

// post sends a request that was signed with a secret some time ago, and returns the
// status. It isn't signed if the secret is empty.
func post(t *testing.T, server *httptest.Server, secret, id, body string, ago time.Duration) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, server.URL, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if secret != "" {
		webhook, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-ago)
		signature, err := webhook.Sign(id, at, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Webhook-Id", id)
		req.Header.Set("Webhook-Timestamp", fmt.Sprint(at.Unix()))
		req.Header.Set("Webhook-Signature", signature)
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func snapshot(id string, sequence int, last bool, users ...string) string {
	return fmt.Sprintf(`{"type":"peald.presence.snapshot","data":{"snapshot":%q,"sequence":%d,"last":%t,"users":["%s"]}}`, id, sequence, last, strings.Join(users, `","`))
}

func event(id string, sequence int, kind, user string) string {
	return fmt.Sprintf(`{"type":"peald.presence","data":{"snapshot":%q,"sequence":%d,"events":[{"type":%q,"user_id":%q}]}}`, id, sequence, kind, user)
}

// TestRequests sends requests that the receiver must apply, ignore or reject.
func TestRequests(t *testing.T) {
	t.Parallel()
	server := start(t)
	for i, step := range []struct {
		what   string
		secret string
		ago    time.Duration
		body   string
		status int
		users  string // after the request
	}{
		{"events before a snapshot", secret, 0, event("a", 7, "user.online", "alice"), 409, ``},
		{"first page", secret, 0, snapshot("a", 1, false, "alice"), 204, ``},
		{"last page", secret, 0, snapshot("a", 2, true, "bob"), 204, `"alice","bob"`},
		{"unsigned", "", 0, event("a", 3, "user.online", "mallory"), 401, `"alice","bob"`},
		{"signed with another secret", otherSecret, 0, event("a", 3, "user.online", "mallory"), 401, `"alice","bob"`},
		{"old", secret, 6 * time.Minute, event("a", 3, "user.online", "mallory"), 401, `"alice","bob"`},
		{"from the future", secret, -6 * time.Minute, event("a", 3, "user.online", "mallory"), 401, `"alice","bob"`},
		{"malformed", secret, 0, `{"type":`, 400, `"alice","bob"`},
		{"an event", secret, 0, event("a", 3, "user.offline", "alice"), 204, `"bob"`},
		{"repeated", secret, 0, event("a", 3, "user.offline", "alice"), 204, `"bob"`},
		{"replayed", secret, time.Minute, event("a", 3, "user.offline", "alice"), 204, `"bob"`},
		{"replayed snapshot", secret, time.Minute, snapshot("a", 1, false, "alice"), 204, `"bob"`},
		{"gap", secret, 0, event("a", 5, "user.online", "carol"), 409, `"bob"`},
		{"another snapshot", secret, 0, snapshot("b", 1, true, "dora"), 204, `"dora"`},
		{"late request from another sender", secret, 0, event("a", 4, "user.online", "carol"), 409, `"dora"`},
		{"replayed older snapshot", secret, time.Minute, snapshot("a", 1, false, "alice"), 409, `"dora"`},
		{"test message", secret, 0, `{"type":"peald.test","data":{}}`, 204, `"dora"`},
		{"empty batch", secret, 0, `{"type":"peald.presence","data":{"snapshot":"b","sequence":2,"events":[]}}`, 204, `"dora"`},
		{"the next event", secret, 0, event("b", 3, "user.online", "eve"), 204, `"dora","eve"`},
	} {
		if got := post(t, server, step.secret, fmt.Sprint("message-", i), step.body, step.ago); got != step.status {
			t.Errorf("%s: status %d, want %d", step.what, got, step.status)
		}
		if got, want := shown(t, server), `{"topics":[],"users":[`+step.users+`]}`; got != want {
			t.Errorf("%s: present are %s, want %s", step.what, got, want)
		}
	}
}

// TestWithDaemon runs the receiver with a daemon.
func TestWithDaemon(t *testing.T) {
	t.Parallel()
	server := start(t)
	delay := 100 * time.Millisecond
	d := pealdtest.Start(t, func(cfg *daemon.Config) {
		cfg.Hooks = []daemon.Hook{{URL: server.URL, Secret: secret, Delay: &delay}}
	})
	resp, err := http.Get(d.Events(t, "alice"))
	if err != nil {
		t.Fatal(err)
	}
	await := func(want string) {
		t.Helper()
		if !testbed.Eventually(90*time.Second, func() bool { return shown(t, server) == want }) {
			t.Fatalf("present are %s, want %s", shown(t, server), want)
		}
	}
	await(`{"topics":[],"users":["alice"]}`)
	reply, err := d.Control(t).TestHook(t.Context(), &pealv1.TestHookRequest{})
	if err != nil || !reply.GetAccepted() || reply.GetStatus() != http.StatusNoContent {
		t.Errorf("test message: %v, %v", reply, err)
	}
	_ = resp.Body.Close()
	await(`{"topics":[],"users":[]}`)
}

func TestSecret(t *testing.T) {
	t.Parallel()
	for secret, want := range map[string]string{"": "set WEBHOOK_SECRET", "whsec_!": "WEBHOOK_SECRET: "} {
		if err := run("127.0.0.1:0", secret); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", secret, err, want)
		}
	}
}
