package load_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/peald/peald/internal/testbed"
)

// soakPlan configures a daemon and the durations of its load.
type soakPlan struct {
	engine, policy string
	tls            bool
	clients        int
	warmUp, load   time.Duration
	settle         time.Duration // the longest time to return to the initial resources
	slack          int64         // bytes by which memory may grow, in addition to 10%
}

// TestSoak connects clients of all kinds, over HTTP/1.1 and HTTP/2, at random while messages of all sizes
// are published, first to warm up and then for longer. Events must arrive in
// order, without gaps, and only at their audience. When all clients have
// disconnected, the daemon must have no more goroutines and file descriptors than
// when it started, and use no more memory than after the warm-up.
//
// It takes a few seconds, or the duration in SOAK. The short run omits half of the
// combinations.
func TestSoak(t *testing.T) {
	// On a busy machine, such a short warm-up doesn't cover all that the load
	// does, so only large leaks are distinguishable from garbage collection. With
	// more clients, the daemon may take longer for handshakes than it allows.
	plan := soakPlan{clients: 30, warmUp: 400 * time.Millisecond, load: 600 * time.Millisecond, settle: 90 * time.Second, slack: 96 << 20}

	if text := os.Getenv("SOAK"); text != "" {
		total, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("SOAK: %v", err)
		}

		each := total / 6
		plan = soakPlan{clients: 120, warmUp: each / 5, load: each * 4 / 5, settle: 3 * time.Minute, slack: 24 << 20}
	}

	program := testbed.BuildDaemon(t)

	for _, test := range []struct {
		engine, policy string
		tls, long      bool
	}{
		{engine: "epoll", policy: "disconnect"},
		{engine: "epoll", policy: "drop-oldest", long: true},
		{engine: "epoll", policy: "disconnect", tls: true, long: true},
		{engine: "epoll", policy: "drop-oldest", tls: true},
		{engine: "nethttp", policy: "disconnect", long: true},
		{engine: "nethttp", policy: "drop-oldest", tls: true},
	} {
		if test.long && os.Getenv("SOAK") == "" {
			continue
		}

		name := test.engine + " " + test.policy
		if test.tls {
			name += " TLS"
		}

		t.Run(name, func(t *testing.T) {
			plan.engine, plan.policy, plan.tls = test.engine, test.policy, test.tls
			soak(t, program, plan)
		})
	}
}

func soak(t *testing.T, program string, plan soakPlan) {
	t.Helper()

	args := []string{
		"--sse.engine=" + plan.engine, "--broker.slow_consumer=" + plan.policy,
		"--broker.queue_bytes=64KiB", "--sse.write_timeout=1s", "--sse.heartbeat=1s",
		"--history.max_bytes=4MiB", // full after the warm-up
	}

	var certificate testbed.Certificate
	if plan.tls {
		certificate = testbed.NewCertificate(t)
		args = append(args, "--sse.tls.cert_file="+certificate.CertFile, "--sse.tls.key_file="+certificate.KeyFile)
	}

	d := startDaemon(t, program, args...)
	crowd := newCrowd(t, d, plan.policy, plan.clients)

	if plan.tls {
		crowd.tls = certificate.Client
	}

	initial := d.resources(t)
	t.Logf("initially %s", initial)

	// The number of the daemon's own goroutines varies; some are started on
	// demand. A leak from thousands of streams would be far larger.
	initial.goroutines += 4

	crowd.run(t, plan.warmUp)

	// File descriptors and goroutines are released with streams. The process keeps
	// memory; what isn't a leak is allocated during the warm-up.
	warm := d.settle(t, plan.settle, initial.goroutines, initial.descriptors, 1<<40)
	t.Logf("after the warm-up, settled in %s: %s", warm.took, warm)
	crowd.run(t, plan.load)

	// The slack allows for the garbage collector's timing.
	limit := warm.resident + warm.resident/10 + plan.slack
	left := d.settle(t, plan.settle, initial.goroutines, initial.descriptors, limit)
	t.Logf("finally, settled in %s: %s; %s", left.took, left, crowd.summary())

	if left.goroutines > initial.goroutines || left.descriptors > initial.descriptors || left.resident > limit {
		t.Errorf("after all clients have disconnected: %s; initially: %s; after the warm-up: %s", left, initial, warm)
	}

	if crowd.events.Load() == 0 {
		t.Error("no client received an event")
	}

	d.stop(t)
}

// pause waits for d. It returns false if ctx is done first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()

	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// resources are a daemon's resources, which must not grow without bound.
type resources struct {
	streams, goroutines, descriptors int
	resident                         int64            // bytes
	took                             time.Duration    // to settle
	closed                           map[string]int64 // streams closed so far, by reason
}

// String implements fmt.Stringer.
func (r resources) String() string {
	return fmt.Sprintf("%d streams, %d goroutines, %d descriptors, %d MB (streams closed so far: %v)",
		r.streams, r.goroutines, r.descriptors, r.resident>>20, r.closed)
}
