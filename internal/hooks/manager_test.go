package hooks_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/hooks"
	"github.com/peald/peald/internal/hooktest"
	"github.com/peald/peald/internal/testbed"
)

func TestOutageIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log testbed.Log
		r := hooktest.NewReceiver(0)
		var down atomic.Bool
		w := newTruth()
		m, _ := run(t, hooks.Config{Follow: w.follow, Logger: slog.New(slog.NewTextHandler(&log, nil))},
			transport(func(req *http.Request) (*http.Response, error) {
				if down.Load() {
					return nil, errBroken
				}
				return direct(r)(req)
			}), hook("https://user:password@app.example/hooks?key=hidden", 0))
		pass(time.Second)

		down.Store(true)
		w.set("alice", "", 1)
		pass(5 * time.Minute)
		if s := m.Status()[0]; s.State != hooks.Failing || s.Pending != 1 || s.LastError != errBroken.Error() || s.Failed < 20 || s.Failed > 60 {
			t.Errorf("status %+v", s)
		}
		down.Store(false)
		pass(time.Minute)
		if s := m.Status()[0]; s.State != hooks.Sending || s.Pending != 0 || s.Sent != 1 || s.Retried != s.Failed {
			t.Errorf("status %+v", s)
		}
		for message, n := range map[string]int{"webhooks not delivered": 1, "webhooks delivered again": 1, "hook=https://app.example/hooks": 3} {
			if got := len(log.With(message)); got != n {
				t.Errorf("%q is logged %d times, want %d:\n%s", message, got, n, &log)
			}
		}
		for _, hidden := range []string{"password", "hidden", "MDEyMzQ1"} {
			if strings.Contains(log.String(), hidden) {
				t.Errorf("%q is logged:\n%s", hidden, &log)
			}
		}
	})
}

// TestOverflow makes more events wait than fit. The receiver must get a snapshot in
// their place.
func TestOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := hooktest.NewReceiver(0)
		var down atomic.Bool
		w := newTruth()
		m, _ := run(t, hooks.Config{Follow: w.follow}, transport(func(req *http.Request) (*http.Response, error) {
			if down.Load() {
				return respond(req, http.StatusBadGateway), nil
			}
			return direct(r)(req)
		}), hook(receiverURL, 0))
		pass(time.Second)
		if got, _ := r.Present(); len(got) != 0 || !r.Complete() {
			t.Fatalf("after the first snapshot, %d are present, complete: %t", len(got), r.Complete())
		}

		down.Store(true)
		const users = hooks.MaxPending + 10_000
		for i := range users {
			w.set(fmt.Sprint("user", i), "", 1)
		}
		pass(time.Second)
		s := m.Status()[0]
		if s.Pending != users || s.Dropped != hooks.MaxPending+1 {
			t.Errorf("%d events and names wait, and %d events were dropped", s.Pending, s.Dropped)
		}

		down.Store(false)
		pass(time.Minute)
		got, faults := r.Present()
		if want := w.present(); !slices.Equal(got, want) || len(faults) > 0 {
			t.Errorf("%d are present, want %d; faults %q", len(got), len(want), faults)
		}
		if s := m.Status()[0]; s.Snapshots != 2 || s.Pending != 0 {
			t.Errorf("status %+v", s)
		}
	})
}

// TestOverflowDuringSnapshot makes events wait while the receiver gets a large snapshot
// slowly. It must be completed, and another one must follow.
func TestOverflowDuringSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := hooktest.NewReceiver(0)
		w := newTruth()
		for i := range 5000 {
			w.set(fmt.Sprint("present", i), "", 1)
		}
		m, _ := run(t, hooks.Config{Follow: w.follow}, transport(func(req *http.Request) (*http.Response, error) {
			pass(time.Second)
			return direct(r)(req)
		}), hook(receiverURL, 0))
		pass(1500 * time.Millisecond)
		for i := range hooks.MaxPending + 1 {
			w.set(fmt.Sprint("user", i), "", 1)
		}
		pass(4 * time.Minute)
		got, faults := r.Present()
		if want := w.present(); !slices.Equal(got, want) || len(faults) > 0 {
			t.Errorf("%d are present, want %d; faults %q", len(got), len(want), faults)
		}
		if s := m.Status()[0]; s.Snapshots != 2 || s.Dropped != hooks.MaxPending+1 {
			t.Errorf("status %+v", s)
		}
	})
}

// pass lets time pass, and waits until everything that is due has been done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestRestart checks that the first snapshot includes users who reconnect within the
// delay after a restart.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := hooktest.NewReceiver(5 * time.Second)
		w := newTruth()
		_, stop := run(t, hooks.Config{Follow: w.follow}, direct(r), hook(receiverURL, 5*time.Second))
		w.set("alice", "", 1)
		pass(10 * time.Second)
		stop()
		w.set("alice", "", 0)

		run(t, hooks.Config{Follow: w.follow}, direct(r), hook(receiverURL, 5*time.Second))
		pass(4 * time.Second)
		w.set("alice", "", 1)
		pass(10 * time.Second)
		if got, faults := r.Present(); !slices.Equal(got, []string{"user alice"}) || len(faults) > 0 || len(r.Events()) != 0 {
			t.Errorf("present are %q, events %q, faults %q", got, r.Events(), faults)
		}
	})
}

func TestReconfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, other := hooktest.NewReceiver(0), hooktest.NewReceiver(0)
		w := newTruth()
		w.set("alice", "news", 1)
		m, _ := run(t, hooks.Config{Follow: w.follow}, transport(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "other.example" {
				return direct(other)(req)
			}
			return direct(r)(req)
		}))
		expect := func(what string, of *hooktest.Receiver, want ...string) {
			t.Helper()
			pass(time.Second)
			if got, faults := of.Present(); !slices.Equal(got, want) || len(faults) > 0 {
				t.Errorf("%s: present are %q, want %q; faults %q", what, got, want, faults)
			}
		}
		if len(w.sources) != 0 {
			t.Errorf("without hooks, there are %d sources", len(w.sources))
		}

		users := hook(receiverURL, 0)
		users.Events = []string{hooks.UserOnline, hooks.UserOffline}
		m.Reconfigure([]hooks.Hook{users})
		expect("users only", r, "user alice")
		all := hook(receiverURL, 0)
		m.Reconfigure([]hooks.Hook{all, hook("https://other.example/", 0)})
		expect("topics too", r, "topic news", "user alice")
		expect("another hook", other, "topic news", "user alice")

		m.Reconfigure([]hooks.Hook{hook("https://other.example/", 0)})
		w.set("bob", "", 1)
		expect("a removed hook", r, "topic news", "user alice")
		expect("the other hook", other, "topic news", "user alice", "user bob")
		if len(m.Status()) != 1 {
			t.Errorf("status %+v", m.Status())
		}
		m.Reconfigure(nil)
		pass(time.Second)
		if len(w.sources) != 0 {
			t.Errorf("without hooks, there are %d sources", len(w.sources))
		}
	})
}

// TestReceiverThatAlwaysWantsSnapshots must not cause a flood of requests.
func TestReceiverThatAlwaysWantsSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int64
		w := newTruth()
		for i := range 3000 { // several pages
			w.set(fmt.Sprint("user", i), "", 1)
		}
		run(t, hooks.Config{Follow: w.follow}, transport(func(req *http.Request) (*http.Response, error) {
			n := requests.Add(1)
			return respond(req, []int{http.StatusOK, http.StatusConflict}[n%2]), nil
		}), hook(receiverURL, 0))
		pass(10 * time.Minute)
		if n := requests.Load(); n < 60 || n > 400 {
			t.Errorf("%d requests in ten minutes", n)
		}
	})
}

// TestIdle checks that a receiver that loses its state while nothing happens gets it
// back.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := hooktest.NewReceiver(0)
		w := newTruth()
		w.set("alice", "", 1)
		run(t, hooks.Config{Follow: w.follow}, direct(r), hook(receiverURL, 0))
		pass(time.Second)
		r.Forget()
		pass(2 * time.Minute)
		if got, faults := r.Present(); !slices.Equal(got, []string{"user alice"}) || len(faults) > 0 {
			t.Errorf("present are %q; faults %q", got, faults)
		}
	})
}

func TestTest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTruth()
		var header http.Header
		m, _ := run(t, hooks.Config{Follow: w.follow, Serving: func() bool { return false }, Node: "a", Version: "1.2.3"},
			transport(func(req *http.Request) (*http.Response, error) {
				header = req.Header
				if req.URL.Path == "/slow" {
					<-req.Context().Done()
					return nil, req.Context().Err()
				}
				return respond(req, http.StatusNotFound), nil
			}), hook("https://app.example/hooks?key=hidden", 0), hook("https://app.example/slow", 0))
		synctest.Wait()

		result, err := m.Test(t.Context(), "https://app.example/hooks")
		if err != nil || result.Status != 404 || result.Body != "body" || result.Err == nil || !strings.Contains(result.Err.Error(), "status 404 Not Found; want 2xx") {
			t.Errorf("result %+v, %v", result, err)
		}
		if header.Get("User-Agent") != "peald/1.2.3" || header.Get("Content-Type") != "application/json" || header.Get("Webhook-Id") != result.MessageID {
			t.Errorf("header %v", header)
		}
		if result, _ = m.Test(t.Context(), "https://app.example/slow"); result.Err == nil || result.Err.Error() != "no response within 10s" || result.Duration != 10*time.Second {
			t.Errorf("result %+v", result)
		}
		for _, name := range []string{"", "https://app.example/", "https://app.example/hooks?key=hidden"} {
			if _, err := m.Test(t.Context(), name); !errors.Is(err, hooks.ErrUnknownHook) {
				t.Errorf("%q: error %v", name, err)
			}
		}
	})
}
