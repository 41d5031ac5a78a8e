package daemon_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/hooktest"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

// awaitPicture waits until a receiver has a picture, and fails if requests had faults.
func awaitPicture(t *testing.T, r *hooktest.Receiver, want ...string) {
	t.Helper()
	var keys []string
	ok := testbed.Eventually(patience, func() bool {
		keys, _ = r.Present()
		return r.Complete() && slices.Equal(keys, want)
	})
	if _, faults := r.Present(); !ok || len(faults) > 0 {
		t.Fatalf("present are %q, want %q; faults %q", keys, want, faults)
	}
}

// TestHooks opens and closes streams of a daemon, and reloads its hooks.
func TestHooks(t *testing.T) {
	t.Parallel()
	receiver, other := hooktest.NewReceiver(200*time.Millisecond), hooktest.NewReceiver(0)
	server, otherServer := httptest.NewServer(receiver), httptest.NewServer(other)
	t.Cleanup(server.Close)
	t.Cleanup(otherServer.Close)

	r := startReloadable(t, daemon.Options{}, func(cfg *daemon.Config) {
		cfg.Auth.JWT.HMACSecret = secret
		hook(daemon.Hook{URL: server.URL + "/hooks?key=hidden", Delay: new(200 * time.Millisecond)})(cfg)
	})
	d := pealdtest.Daemon{Addresses: r.Addresses}
	control := d.Control(t)
	awaitPicture(t, receiver)
	if faults := receiver.Events(); len(faults) != 0 {
		t.Errorf("before there are streams, the receiver got the events %q", faults)
	}

	open := func(user string, topics ...string) (hangUp func()) {
		t.Helper()
		reply, err := control.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: user, Topics: topics})
		if err != nil {
			t.Fatal(err)
		}
		c := client(t)
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		url := "http://" + r.SSE + "/events?access_token=" + reply.GetToken()
		for _, topic := range topics {
			url += "&topic=" + topic
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("a stream: %v, %v", resp, err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return cancel
	}

	closeAlice := open("alice", "orders.1", "orders.*")
	closeAgain := open("alice")
	open("bob", "orders.1")
	awaitPicture(t, receiver, "topic orders.*", "topic orders.1", "user alice", "user bob")
	closeAlice()
	awaitPicture(t, receiver, "topic orders.1", "user alice", "user bob")
	closeAgain()
	awaitPicture(t, receiver, "topic orders.1", "user bob")

	hooks := until(t, func(ctx context.Context) (*pealv1.ListHooksResponse, error) {
		return control.ListHooks(ctx, &pealv1.ListHooksRequest{})
	}, func(r *pealv1.ListHooksResponse) bool {
		return len(r.GetHooks()) == 1 && r.GetHooks()[0].GetPending() == 0
	})
	if h := hooks.GetHooks()[0]; h.GetUrl() != server.URL+"/hooks" || h.GetState() != pealv1.HookState_HOOK_STATE_SENDING ||
		len(h.GetEvents()) != 4 || h.GetDelay().AsDuration() != 200*time.Millisecond || h.GetEventsSent() != 6 || h.GetSnapshotsSent() != 1 ||
		h.GetNode() != "" || h.GetLastSuccess() == nil || h.GetLastFailure() != nil {
		t.Errorf("the hook is listed as %v", h)
	}
	families := scrape(t, r.running)
	for name, want := range map[string]float64{"events_sent_total": 6, "snapshots_sent_total": 1, "events_dropped_total": 0, "pending_events": 0, "sending": 1, "failing_seconds": 0} {
		if got := byLabel(families["peald_hook_"+name])[server.URL+"/hooks"]; got != want {
			t.Errorf("peald_hook_%s is %v, want %v", name, got, want)
		}
	}
	if n := families["peald_hook_delivery_seconds"].GetMetric()[0].GetHistogram().GetSampleCount(); n != 6 {
		t.Errorf("%d events in peald_hook_delivery_seconds, want 6", n)
	}

	log := r.reload(t, hook(daemon.Hook{URL: otherServer.URL, Events: []string{"user.online", "user.offline"}, Delay: new(time.Duration(0))}))
	if !strings.Contains(log, "changed=hooks") || strings.Contains(log, "MDEyMzQ1") || strings.Contains(log, "hidden") {
		t.Errorf("a reload logs\n%s", log)
	}
	awaitPicture(t, other, "user bob")
	r.reload(t, func(cfg *daemon.Config) { cfg.Hooks = nil })
	if reply, err := control.ListHooks(t.Context(), &pealv1.ListHooksRequest{}); err != nil || len(reply.GetHooks()) != 0 {
		until(t, func(ctx context.Context) (*pealv1.ListHooksResponse, error) {
			return control.ListHooks(ctx, &pealv1.ListHooksRequest{})
		}, func(r *pealv1.ListHooksResponse) bool { return len(r.GetHooks()) == 0 })
	}
}

// TestTestHook sends test messages to receivers that accept them, reject them, redirect
// them and don't exist.
func TestTestHook(t *testing.T) {
	t.Parallel()
	var got atomic.Pointer[string]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/rejects" {
			http.Error(w, "invalid signature", http.StatusUnauthorized)
			return
		}
		body, _ := io.ReadAll(r.Body)
		if text := string(body); strings.Contains(text, "peald.test") {
			got.Store(&text)
		}
		_, _ = io.WriteString(w, "thanks")
	}))
	t.Cleanup(server.Close)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()

	d := pealdtest.Start(t, hook(daemon.Hook{URL: server.URL}, daemon.Hook{URL: server.URL + "/rejects"}, daemon.Hook{URL: gone.URL}))
	control := d.Control(t)
	reply, err := control.TestHook(t.Context(), &pealv1.TestHookRequest{Url: server.URL})
	if err != nil || !reply.GetAccepted() || reply.GetStatus() != 200 || reply.GetBody() != "thanks" || reply.GetError() != "" || reply.GetMessageId() == "" {
		t.Errorf("reply %v, %v", reply, err)
	}
	if text := got.Load(); text == nil || !strings.HasPrefix(*text, `{"type":"peald.test","timestamp":"`) {
		t.Errorf("the receiver got %v", text)
	}
	reply, err = control.TestHook(t.Context(), &pealv1.TestHookRequest{Url: server.URL + "/rejects"})
	if err != nil || reply.GetAccepted() || reply.GetStatus() != 401 || reply.GetBody() != "invalid signature\n" || reply.GetError() != "status 401 Unauthorized; want 2xx" {
		t.Errorf("reply %v, %v", reply, err)
	}
	reply, err = control.TestHook(t.Context(), &pealv1.TestHookRequest{Url: gone.URL})
	if err != nil || reply.GetAccepted() || reply.GetStatus() != 0 || !strings.Contains(reply.GetError(), "connection refused") {
		t.Errorf("reply %v, %v", reply, err)
	}
	for url, want := range map[string]codes.Code{"": codes.InvalidArgument, server.URL + "/other": codes.NotFound, strings.Repeat("x", 5000): codes.InvalidArgument} {
		if _, err := control.TestHook(t.Context(), &pealv1.TestHookRequest{Url: url}); status.Code(err) != want {
			t.Errorf("%.100s: error %v, want %s", url, err, want)
		}
	}

	without := pealdtest.Start(t)
	if _, err := without.Control(t).TestHook(t.Context(), &pealv1.TestHookRequest{}); status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), "no webhooks are configured") {
		t.Errorf("without hooks: error %v", err)
	}
}

// TestHooksInACluster stops the node that sends. The next one must take over without
// marking anyone as offline who reconnects in time.
func TestHooksInACluster(t *testing.T) {
	const delay = 4 * time.Second
	receiver := hooktest.NewReceiver(delay)
	server := httptest.NewServer(receiver)
	t.Cleanup(server.Close)
	daemons := pealdtest.StartCluster(t, 3, hook(daemon.Hook{URL: server.URL, Delay: new(delay)}))
	stream(t, client(t), daemons[0].Events(t, "alice"))
	stream(t, client(t), daemons[1].Events(t, "bob"))
	awaitPicture(t, receiver, "user alice", "user bob")

	hookOf := func(d *pealdtest.Daemon) *pealv1.Hook {
		t.Helper()
		return until(t, func(ctx context.Context) (*pealv1.ListHooksResponse, error) {
			return d.Control(t).ListHooks(ctx, &pealv1.ListHooksRequest{})
		}, func(r *pealv1.ListHooksResponse) bool {
			return len(r.GetMissingNodes()) == 0 && len(r.GetHooks()) == 1 && r.GetHooks()[0].GetState() == pealv1.HookState_HOOK_STATE_SENDING
		}).GetHooks()[0]
	}
	sender := hookOf(daemons[0]).GetNode()
	at := slices.IndexFunc(daemons, func(d *pealdtest.Daemon) bool {
		reply, err := d.Control(t).Stats(t.Context(), &pealv1.StatsRequest{})
		return err == nil && slices.ContainsFunc(reply.GetNodes(), func(n *pealv1.Node) bool { return n.GetAnswering() && n.GetName() == sender })
	})
	if at < 0 {
		t.Fatalf("no node is called %q", sender)
	}
	next := daemons[(at+1)%3]
	carol := next.Events(t, "carol")
	daemons[at].Stop(t)
	for _, user := range []string{"alice", "bob"} { // one of them is still connected
		stream(t, client(t), next.Events(t, user))
	}
	stream(t, client(t), carol)
	awaitPicture(t, receiver, "user alice", "user bob", "user carol")
	if now := hookOf(next).GetNode(); now == sender {
		t.Errorf("the node %s still sends", now)
	}
	for key, events := range receiver.Events() {
		if len(events) > 1 {
			t.Errorf("%s: events %q", key, events)
		}
	}
}
