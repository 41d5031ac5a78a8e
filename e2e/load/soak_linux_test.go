package load_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

// soakPlan is one daemon and how long its clients come and go.
type soakPlan struct {
	engine, policy string
	warmUp, load   time.Duration
	settle         time.Duration // to get back to where it began, at most
	slack          int64         // bytes by which memory may grow past a tenth
}

// TestSoak lets clients of all kinds come and go at random while messages of all
// sizes are published, first to warm up and then for longer: each event has to
// be in order, without a hole, and for whoever gets it. When all have left, the
// daemon's goroutines and descriptors are those it began with, and its memory
// is what it was after the warm-up.
//
// It takes seconds, or with SOAK set as long as that says.
func TestSoak(t *testing.T) {
	// A warm-up this short has not met all that a busy machine lets the load
	// meet: so only what is far off is told from the collector's moods.
	plan := soakPlan{warmUp: 500 * time.Millisecond, load: time.Second, settle: 90 * time.Second, slack: 96 << 20}

	if text := os.Getenv("SOAK"); text != "" {
		total, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("SOAK: %v", err)
		}

		each := total / 4
		plan = soakPlan{warmUp: each / 5, load: each * 4 / 5, settle: 3 * time.Minute, slack: 24 << 20}
	}

	program := buildDaemon(t)

	for _, engine := range []string{"epoll", "nethttp"} {
		for _, policy := range []string{"disconnect", "drop-oldest"} {
			t.Run(engine+" "+policy, func(t *testing.T) {
				plan.engine, plan.policy = engine, policy
				soak(t, program, plan)
			})
		}
	}
}

func soak(t *testing.T, program string, plan soakPlan) {
	t.Helper()

	d := startDaemon(t, program,
		"--sse.engine="+plan.engine, "--broker.slow_consumer="+plan.policy,
		"--broker.queue_bytes=64KiB", "--sse.write_timeout=1s", "--sse.heartbeat=1s",
		"--history.max_bytes=4MiB") // which is full after the warm-up
	crowd := newCrowd(t, d, plan.policy)

	began := d.vitals(t)
	t.Logf("begins with %s", began)

	// The daemon's own come and go, some of them only once they are needed. What
	// is left of thousands of streams would be many more.
	began.goroutines += 4

	crowd.live(t, plan.warmUp)

	// Descriptors and goroutines come and go with streams; memory stays with
	// the process, and what is no leak is taken during the warm-up.
	warm := d.settle(t, plan.settle, began.goroutines, began.descriptors, 1<<40)
	t.Logf("warmed up, and settled in %s: %s", warm.took, warm)
	crowd.live(t, plan.load)

	// A tenth and a bit: when the collector runs is its own affair.
	most := warm.resident + warm.resident/10 + plan.slack
	left := d.settle(t, plan.settle, began.goroutines, began.descriptors, most)
	t.Logf("settled in %s, and ends with %s; %s", left.took, left, crowd.tale())

	if left.goroutines > began.goroutines || left.descriptors > began.descriptors || left.resident > most {
		t.Errorf("after all clients have left, there are %s; it began with %s, and had %s after the warm-up", left, began, warm)
	}

	if crowd.events.Load() == 0 {
		t.Error("no client has seen an event")
	}

	d.stop(t)
}

// pause waits, or until ctx is over. It returns false in that case.
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

// vitals are what must not grow for ever.
type vitals struct {
	streams, goroutines, descriptors int
	resident                         int64            // bytes
	took                             time.Duration    // to get there
	ended                            map[string]int64 // streams so far, by reason
}

// String implements fmt.Stringer.
func (v vitals) String() string {
	return fmt.Sprintf("%d streams, %d goroutines, %d descriptors, %d MB (streams ended so far: %v)",
		v.streams, v.goroutines, v.descriptors, v.resident>>20, v.ended)
}
