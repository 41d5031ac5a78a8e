package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// MassResumeConfig configures a mass resume.
type MassResumeConfig struct {
	URL     string
	Clients int
	Users   int // number of users to spread the clients over
	Missed  int // number of messages to each user while all clients are disconnected

	TLS   *tls.Config // for an https URL; streams resume their TLS sessions
	HTTP2 bool        // use HTTP/2, with a connection for each stream

	// Progress, if not nil, is called repeatedly with the number of clients that
	// have connected or, later, have received everything they missed.
	Progress func(done int)
}

// MassResumeResult holds the result of a mass resume.
type MassResumeResult struct {
	Clients int           `json:"clients"`
	Logged  int           `json:"logged"` // messages published while all clients were disconnected
	Missed  int           `json:"missed"` // number of those for each client
	Took    time.Duration `json:"took_ns"`
	P50     time.Duration `json:"p50_ns"` // from the start until a client has received everything it missed
	P99     time.Duration `json:"p99_ns"`
	Resets  int64         `json:"resets"`
	Faults  int64         `json:"faults"` // clients that didn't receive exactly what they missed, in order
}

// MassResume opens streams, disconnects all of them, publishes messages and
// resumes all streams at the same time.
func MassResume(ctx context.Context, cfg MassResumeConfig, publisher ChaosPublisher) (*MassResumeResult, error) {
	address, err := parseTrialURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	if cfg.Clients < 1 || cfg.Users < 1 || cfg.Missed < 1 {
		return nil, errors.New("a mass resume requires at least one client, one user and one message")
	}
	if err := checkDescriptors(cfg.Clients, cfg.Clients); err != nil {
		return nil, err
	}

	tokens := make([]string, cfg.Users)
	for i := range tokens {
		if tokens[i], err = publisher.Token(ctx, massUser(i), ""); err != nil {
			return nil, fmt.Errorf("create a token: %w", err)
		}
	}

	streams := make([]*resumable, cfg.Clients)
	for i := range streams {
		streams[i] = newResumable(address, transport{cfg.TLS, cfg.HTTP2}, tokens[i%cfg.Users], "")
	}

	if err := openAll(ctx, cfg, streams); err != nil {
		return nil, err
	}

	for n := range cfg.Missed {
		for i := range cfg.Users {
			if err := publisher.Publish(ctx, massUser(i), "", strconv.Itoa(n)); err != nil {
				return nil, fmt.Errorf("publish: %w", err)
			}
		}
	}
	if err := publisher.Flush(ctx); err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}

	return resumeAll(ctx, cfg, streams)
}

func massUser(i int) string { return "bench-" + strconv.Itoa(i) }

// openAll opens all streams, at most 200 at a time, and disconnects them once
// every one has a position.
func openAll(ctx context.Context, cfg MassResumeConfig, streams []*resumable) error {
	var opened atomic.Int64
	var failed atomic.Value
	var running sync.WaitGroup
	slots := make(chan struct{}, 200)
	connected, disconnect := context.WithCancel(ctx)
	defer disconnect()

	for _, s := range streams {
		slots <- struct{}{}
		running.Go(func() {
			onPosition := sync.OnceFunc(func() {
				<-slots
				n := opened.Add(1)
				if cfg.Progress != nil && n%100 == 0 {
					cfg.Progress(int(n))
				}
				if n == int64(len(streams)) {
					disconnect()
				}
			})
			defer onPosition()

			err := s.read(connected, 1024, func(_, _ []byte) {}, onPosition)
			if s.lastID == "" {
				failed.CompareAndSwap(nil, fmt.Errorf("a stream at %s got no position: %w", redacted(cfg.URL), err))
			}
		})
	}

	running.Wait()
	if err, ok := failed.Load().(error); ok {
		return err
	}
	return ctx.Err()
}

// resumeAll resumes all streams at the same time, and disconnects them once every
// one has received everything it missed.
func resumeAll(ctx context.Context, cfg MassResumeConfig, streams []*resumable) (*MassResumeResult, error) {
	r := &MassResumeResult{Clients: cfg.Clients, Logged: cfg.Users * cfg.Missed, Missed: cfg.Missed}
	times := make([]time.Duration, len(streams))
	var resets, faults, done atomic.Int64
	var running sync.WaitGroup
	begin := make(chan struct{})
	connected, disconnect := context.WithCancel(ctx)
	defer disconnect()

	var start time.Time
	for i, s := range streams {
		running.Go(func() {
			<-begin
			next := 0
			wrong := false

			finish := func() {
				if done.Add(1) == int64(len(streams)) {
					disconnect() // all streams stay open until the last one is done
				}
			}

			_ = s.read(connected, 4096, func(typ, data []byte) {
				switch {
				case string(typ) == "peald.reset":
					// The missed messages will no longer arrive.
					resets.Add(1)
					wrong = true
					finish()
				case string(data) != strconv.Itoa(next):
					wrong = true
				default:
					if next++; next == cfg.Missed {
						times[i] = time.Since(start)
						finish()
					}
				}
			}, func() {})

			if wrong || next != cfg.Missed {
				faults.Add(1)
			}
		})
	}

	start = time.Now()
	close(begin)
	awaitResumed(connected, disconnect, &done, cfg.Progress)
	running.Wait()

	if err := ctx.Err(); err != nil {
		return nil, err
	}

	slices.Sort(times)
	r.Took, r.P50, r.P99 = times[len(times)-1], times[len(times)/2], times[len(times)*99/100]
	r.Resets, r.Faults = resets.Load(), faults.Load()
	return r, nil
}

// awaitResumed returns when ctx is done. If done hasn't changed for 20 s, it
// calls disconnect, which cancels ctx.
func awaitResumed(ctx context.Context, disconnect func(), done *atomic.Int64, progress func(int)) {
	const patience = 20 * time.Second
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()

	for last, since := int64(-1), time.Now(); ctx.Err() == nil; {
		if n := done.Load(); n != last {
			last, since = n, time.Now()
		} else if time.Since(since) > patience {
			disconnect()
		}

		if progress != nil {
			progress(int(last))
		}

		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}
