package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// MassResumeConfig says how many clients come back at once, and what for.
type MassResumeConfig struct {
	URL     string
	Clients int
	Users   int // whom the clients belong to, by turns
	Missed  int // messages that each user is sent while all are away

	// Progress is called now and then, if not nil, with the clients that are
	// there, or back with all that they missed.
	Progress func(back int)
}

// MassResumeResult is what came of it.
type MassResumeResult struct {
	Clients int           `json:"clients"`
	Logged  int           `json:"logged"` // messages published while all were away
	Missed  int           `json:"missed"` // of these, a client's own
	Took    time.Duration `json:"took_ns"`
	P50     time.Duration `json:"p50_ns"` // from the start until a client had all of its own
	P99     time.Duration `json:"p99_ns"`
	Resets  int64         `json:"resets"`
	Faults  int64         `json:"faults"` // clients that got anything but what they missed, in order
}

// MassResume opens streams and cuts all of them, publishes, and has all come
// back at the same time.
func MassResume(ctx context.Context, cfg MassResumeConfig, publisher ChaosPublisher) (*MassResumeResult, error) {
	address, err := url.Parse(cfg.URL)
	if err != nil || address.Scheme != "http" {
		return nil, fmt.Errorf("url: %q is no http address", cfg.URL)
	}
	if cfg.Clients < 1 || cfg.Users < 1 || cfg.Missed < 1 {
		return nil, errors.New("a mass resume takes clients, users and messages")
	}
	if err := enoughDescriptors(cfg.Clients); err != nil {
		return nil, err
	}

	tokens := make([]string, cfg.Users)
	for i := range tokens {
		if tokens[i], err = publisher.Token(ctx, massUser(i), ""); err != nil {
			return nil, fmt.Errorf("token of a client: %w", err)
		}
	}

	streams := make([]*resumable, cfg.Clients)
	for i := range streams {
		streams[i] = newResumable(address, tokens[i%cfg.Users], "")
	}

	if err := positions(ctx, cfg, streams); err != nil {
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

	return comeBack(ctx, cfg, streams)
}

func massUser(i int) string { return "bench-" + strconv.Itoa(i) }

// positions opens every stream, a few hundred at a time, and cuts them when all
// have a position.
func positions(ctx context.Context, cfg MassResumeConfig, streams []*resumable) error {
	var there atomic.Int64
	var failed atomic.Value
	var running sync.WaitGroup
	places := make(chan struct{}, 200)
	held, cut := context.WithCancel(ctx)
	defer cut()

	for _, s := range streams {
		places <- struct{}{}
		running.Go(func() {
			arrive := sync.OnceFunc(func() {
				<-places
				n := there.Add(1)
				if cfg.Progress != nil && n%100 == 0 {
					cfg.Progress(int(n))
				}
				if n == int64(len(streams)) {
					cut()
				}
			})
			defer arrive()

			err := s.read(held, 1024, func(_, _ []byte) {}, arrive)
			if s.lastID == "" {
				failed.CompareAndSwap(nil, fmt.Errorf("a stream at %s got no position: %w", place(cfg.URL), err))
			}
		})
	}

	running.Wait()
	if err, ok := failed.Load().(error); ok {
		return err
	}

	return ctx.Err()
}

// awaitBack returns when ctx ends, which it sees to by calling release when for
// a while nobody has come back.
func awaitBack(ctx context.Context, release func(), back *atomic.Int64, progress func(int)) {
	const patience = 20 * time.Second
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()

	for last, since := int64(-1), time.Now(); ctx.Err() == nil; {
		if n := back.Load(); n != last {
			last, since = n, time.Now()
		} else if time.Since(since) > patience {
			release()
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

// comeBack resumes all streams at once, and cuts each when it has all that it
// missed.
func comeBack(ctx context.Context, cfg MassResumeConfig, streams []*resumable) (*MassResumeResult, error) {
	r := &MassResumeResult{Clients: cfg.Clients, Logged: cfg.Users * cfg.Missed, Missed: cfg.Missed}
	times := make([]time.Duration, len(streams))
	var resets, faults, back atomic.Int64
	var running sync.WaitGroup
	begin := make(chan struct{})
	held, release := context.WithCancel(ctx)
	defer release()

	var start time.Time
	for i, s := range streams {
		running.Go(func() {
			<-begin
			next := 0
			wrong := false

			done := func() {
				if back.Add(1) == int64(len(streams)) {
					release() // all stay until the last one has all
				}
			}

			_ = s.read(held, 4096, func(typ, data []byte) {
				switch {
				case string(typ) == "peald.reset":
					// What it missed doesn't come any more.
					resets.Add(1)
					wrong = true
					done()
				case string(data) != strconv.Itoa(next):
					wrong = true
				default:
					if next++; next == cfg.Missed {
						times[i] = time.Since(start)
						done()
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
	awaitBack(held, release, &back, cfg.Progress)
	running.Wait()

	if err := ctx.Err(); err != nil {
		return nil, err
	}

	slices.Sort(times)
	r.Took, r.P50, r.P99 = times[len(times)-1], times[len(times)/2], times[len(times)*99/100]
	r.Resets, r.Faults = resets.Load(), faults.Load()
	return r, nil
}
