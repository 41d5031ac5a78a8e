package bench

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// herd holds the streams of a run.
type herd interface {
	// tallies count what the streams get.
	tallies() []*tally
	// all are the streams that are checked. They may be looked at after close.
	all() []*stream
	// close ends the streams and returns when nothing is left of them. It may
	// be called twice.
	close()
	// slowEnded is how many of the slow streams the server had ended by then,
	// or nil where nobody knows.
	slowEnded() *int
}

// run is one measurement under way.
type run struct {
	cfg       Config
	publisher Publisher
	payloads  *payloads
	requests  []http.Header // by the number of the user
	herd      herd
	load      Load // being published

	opening     time.Duration // that it took to open the streams
	sent        []uint32      // messages, by the number of the user
	publishedAt time.Duration // when the first was sent
	publishing  time.Duration // that it took to publish all
}

// prepare makes what the streams ask with.
func (r *run) prepare(ctx context.Context, address *url.URL) error {
	common := r.cfg.Header.Clone()
	if common == nil {
		common = http.Header{}
	}

	common.Set("Accept", "text/event-stream")
	common.Set("User-Agent", "pealctl")

	if address.User != nil {
		return fmt.Errorf("url: %s has a password, which no event stream takes", address.Redacted())
	}

	r.requests = []http.Header{common}
	for n := range r.cfg.Users {
		token, err := r.publisher.Token(ctx, userName(n+1))
		if err != nil {
			return fmt.Errorf("a token for user %s: %w", userName(n+1), err)
		}
		header := common.Clone()
		header.Set("Authorization", "Bearer "+token)
		r.requests = append(r.requests, header)
	}

	return nil
}

// newHerd begins to open the streams.
func (r *run) newHerd(ctx context.Context, address *url.URL) (herd, error) {
	if !r.cfg.Portable && address.Scheme == "http" {
		h, err := newNativeHerd(ctx, r, address)
		if h != nil || err != nil {
			return h, err
		}
	}
	return newPortableHerd(ctx, r, address), nil
}

// userOf is the number of the user whom the nth stream belongs to.
func (r *run) userOf(n int) uint32 {
	if r.cfg.Users == 0 {
		return 0
	}
	return uint32(n%r.cfg.Users) + 1
}

// refused says why streams were not opened.
type refused struct {
	at      string // without the query, which may hold a token
	streams int
	reasons map[string]int
}

// Error implements error, with the most frequent reason.
func (e *refused) Error() string {
	var ended int
	for _, n := range e.reasons {
		ended += n
	}
	most := slices.MaxFunc(slices.Sorted(maps.Keys(e.reasons)), func(a, b string) int {
		return cmp.Compare(e.reasons[a], e.reasons[b])
	})
	text := fmt.Sprintf("of %d streams at %s, %d could not be opened: %s", e.streams, e.at, ended, most)
	if len(e.reasons) > 1 {
		text += fmt.Sprintf(" (and %d other reasons)", len(e.reasons)-1)
	}
	return text
}

// glance is how often a run looks at its streams. Nothing that is measured
// depends on it.
const glance = 10 * time.Millisecond

// linger is the part of its patience for which a run that has everything waits
// for what it shouldn't get.
const linger = 0.05

// open waits until all streams are open.
func (r *run) open(ctx context.Context) error {
	began := r.payloads.now()
	look := time.NewTicker(glance)
	defer look.Stop()

	for {
		now := r.state()
		r.tell(now)

		if now.ended > 0 {
			return &refused{at: place(r.cfg.URL), streams: r.cfg.streams(), reasons: r.ends()}
		}

		if now.opened == r.cfg.streams() {
			r.opening = r.payloads.now() - began
			return nil
		}

		select {
		case <-look.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d streams are open: %w", now.opened, r.cfg.streams(), ctx.Err())
		}
	}
}

// publishAndWait publishes, and returns when everything has arrived that will.
func (r *run) publishAndWait(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	published := make(chan error, 1)
	go func() { published <- r.publish(ctx) }()

	look := time.NewTicker(glance)
	defer look.Stop()

	var (
		expected = r.expected()
		before   state
		quiet    time.Time // since when nothing has happened
		sent     bool
	)
	for {
		now := r.state()
		r.tell(now)

		if now != before || !sent {
			before, quiet = now, time.Now()
		}

		patience := r.cfg.Patience
		if now.arrived == expected || now.ended == r.cfg.Clients {
			patience = time.Duration(linger * float64(patience))
		}
		if time.Since(quiet) >= patience {
			return nil
		}

		select {
		case err := <-published:
			if err != nil {
				return err
			}
			sent = true
		case <-look.C:
		}
	}
}

// begin makes ready for a load, and returns how many messages are missing from
// those before it.
func (r *run) begin(load Load) (missing int64) {
	r.load = load
	r.locked(func() {
		for _, t := range r.herd.tallies() {
			t.forget()
		}
		missing = r.missing()
	})
	return missing
}

// missing is how many messages have not come so far. What the streams have got
// must be locked.
func (r *run) missing() int64 {
	var n int64
	for _, s := range r.herd.all() {
		n += s.seen.lost(r.sent[s.user])
	}
	return n
}

// locked calls f while no stream gets anything.
func (r *run) locked(f func()) {
	for _, t := range r.herd.tallies() {
		t.mu.Lock()
		defer t.mu.Unlock()
	}
	f()
}

// publish sends all messages, and stops with ctx.
func (r *run) publish(ctx context.Context) error {
	r.publishedAt = r.payloads.now()
	began := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()

	turn := func(n int) error {
		if r.load.Burst > 0 {
			return ctx.Err()
		}

		// By the clock, so that a message that takes long delays no later one.
		timer.Reset(time.Until(began.Add(time.Duration(float64(n) / r.load.Rate * float64(time.Second)))))
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for n := range r.load.messages() {
		if err := turn(n); err != nil {
			return fmt.Errorf("%d of %d messages were published: %w", n, r.load.messages(), err)
		}

		to := r.userOf(n)
		name := ""

		if to != 0 {
			name = userName(int(to))
		}
		if err := r.publisher.Publish(ctx, name, r.payloads.make(to, r.sent[to], r.load.Size)); err != nil {
			return fmt.Errorf("publish message %d of %d: %w", n+1, r.load.messages(), err)
		}

		r.sent[to]++
	}

	if err := turn(r.load.messages()); err != nil {
		return err
	}

	r.publishing = time.Since(began)
	return nil
}

// expected is how many deliveries the messages make.
func (r *run) expected() int64 {
	messages, clients, users := int64(r.load.messages()), int64(r.cfg.Clients), int64(r.cfg.Users)
	if users == 0 {
		return messages * clients
	}
	// Streams and messages go round the users in the same order: all users get
	// their even share of both, and the first ones one more.
	evenStreams, evenMessages := clients/users, messages/users
	moreStreams, moreMessages := clients%users, messages%users
	return users*evenStreams*evenMessages + moreStreams*evenMessages + moreMessages*evenStreams + min(moreStreams, moreMessages)
}

func (r *run) state() state {
	var sum state
	for _, t := range r.herd.tallies() {
		s := t.state()
		sum.opened += s.opened
		sum.ended += s.ended
		sum.arrived += s.arrived
	}
	return sum
}

func (r *run) tell(now state) {
	if r.cfg.Progress != nil {
		r.cfg.Progress(Progress{Opened: now.opened, Streams: r.cfg.streams(), Delivered: now.arrived, Expected: r.expected()})
	}
}

// ends is how many streams ended before the run did, by reason.
func (r *run) ends() map[string]int {
	all := map[string]int{}
	for _, t := range r.herd.tallies() {
		t.mu.Lock()
		for why, n := range t.ends {
			all[why] += n
		}
		t.mu.Unlock()
	}
	return all
}

// firstLine is what of a server's answer can be shown.
func firstLine(body []byte) string {
	line, _, _ := strings.Cut(string(body), "\n")
	return strings.TrimSpace(line)
}
