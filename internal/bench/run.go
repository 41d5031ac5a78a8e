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

// pool holds the streams of a run.
type pool interface {
	// tallies returns the tallies that count the arrivals.
	tallies() []*tally
	// all returns the streams that are checked. They stay valid after close.
	all() []*stream
	// close closes the streams and waits for their goroutines. Further calls
	// have no effect.
	close()
	// slowClosed returns how many slow streams the server closed before close
	// was called, or nil if that is unknown.
	slowClosed() *int
}

// run is a measurement in progress.
type run struct {
	cfg       Config
	publisher Publisher
	payloads  *payloads
	requests  []http.Header // by user number
	pool      pool
	load      Load // current load

	opening     time.Duration // time it took to open the streams
	sent        []uint32      // number of messages sent, by user number
	publishedAt time.Duration // when the first message was sent
	publishing  time.Duration // time it took to publish the load
}

// prepare creates the request headers of the streams.
func (r *run) prepare(ctx context.Context, address *url.URL) error {
	common := r.cfg.Header.Clone()
	if common == nil {
		common = http.Header{}
	}

	common.Set("Accept", "text/event-stream")
	if r.cfg.Poll {
		common.Set("Accept", "application/json")
	}
	common.Set("User-Agent", "pealctl")

	if address.User != nil {
		return fmt.Errorf("url: %s contains a password; event streams don't use one", address.Redacted())
	}

	r.requests = []http.Header{common}
	for n := range r.cfg.Users {
		token, err := r.publisher.Token(ctx, userName(n+1))
		if err != nil {
			return fmt.Errorf("create a token for user %s: %w", userName(n+1), err)
		}
		header := common.Clone()
		header.Set("Authorization", "Bearer "+token)
		r.requests = append(r.requests, header)
	}

	return nil
}

// newPool returns a pool that has started to open the streams.
func (r *run) newPool(ctx context.Context, address *url.URL) (pool, error) {
	if !r.cfg.Portable && (!r.cfg.Poll || !r.cfg.HTTP2) {
		p, err := newNativePool(ctx, r, address)
		if p != nil || err != nil {
			return p, err
		}
	}
	return newPortablePool(ctx, r, address), nil
}

// userOf returns the user number of the nth stream.
func (r *run) userOf(n int) uint32 {
	if r.cfg.Users == 0 {
		return 0
	}
	return uint32(n%r.cfg.Users) + 1
}

// connections returns the numbers of the streams of each connection. Streams of one
// user share connections if possible, as tabs of one browser do. Slow streams have
// their own connections.
func (r *run) connections() [][]int {
	var all [][]int
	for _, group := range [][2]int{{0, r.cfg.Clients}, {r.cfg.Clients, r.cfg.streams()}} {
		var numbers []int
		for n := group[0]; n < group[1]; n++ {
			numbers = append(numbers, n)
		}
		if r.cfg.PerConnection > 1 {
			slices.SortStableFunc(numbers, func(a, b int) int { return cmp.Compare(r.userOf(a), r.userOf(b)) })
		}
		all = slices.AppendSeq(all, slices.Chunk(numbers, r.cfg.PerConnection))
	}
	return all
}

// openError reports streams that could not be opened.
type openError struct {
	url     string // without the query, which may hold a token
	streams int
	reasons map[string]int
}

// Error returns a message with the most frequent reason.
func (e *openError) Error() string {
	var failed int
	for _, n := range e.reasons {
		failed += n
	}

	mostFrequent := slices.MaxFunc(slices.Sorted(maps.Keys(e.reasons)), func(a, b string) int {
		return cmp.Compare(e.reasons[a], e.reasons[b])
	})

	text := fmt.Sprintf("%d of %d streams at %s could not be opened: %s", failed, e.streams, e.url, mostFrequent)
	if len(e.reasons) > 1 {
		text += fmt.Sprintf(" (and %d other reasons)", len(e.reasons)-1)
	}
	return text
}

// pollInterval is the interval at which a run polls the state of its streams. It doesn't affect
// the measured values.
const pollInterval = 10 * time.Millisecond

// settleShare is the share of the patience that a complete run spends waiting for
// surplus messages, such as duplicates.
const settleShare = 0.05

// open waits until all streams are open.
func (r *run) open(ctx context.Context) error {
	start := r.payloads.now()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()

	for {
		now := r.state()
		r.reportProgress(now)

		if now.closed > 0 {
			return &openError{url: redacted(r.cfg.URL), streams: r.cfg.streams(), reasons: r.closeReasons()}
		}

		if now.opened == r.cfg.streams() {
			r.opening = r.payloads.now() - start
			return nil
		}

		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("opened %d of %d streams: %w", now.opened, r.cfg.streams(), ctx.Err())
		}
	}
}

// publishAndWait publishes the load and waits until all messages have arrived, or
// nothing has happened for the configured patience.
func (r *run) publishAndWait(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	published := make(chan error, 1)
	go func() { published <- r.publish(ctx) }()

	tick := time.NewTicker(pollInterval)
	defer tick.Stop()

	var (
		expected = r.expected()
		before   state
		quiet    time.Time // time of the last change
		sent     bool
	)
	for {
		now := r.state()
		r.reportProgress(now)

		if now != before || !sent {
			before, quiet = now, time.Now()
		}

		patience := r.cfg.Patience
		if now.arrived == expected || now.closed == r.cfg.Clients {
			patience = time.Duration(settleShare * float64(patience))
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
		case <-tick.C:
		}
	}
}

// begin prepares for a load and returns how many messages from earlier loads are
// missing.
func (r *run) begin(load Load) (missing int64) {
	r.load = load
	r.locked(func() {
		for _, t := range r.pool.tallies() {
			t.reset()
		}
		missing = r.missing()
	})
	return missing
}

// missing returns how many messages have not yet arrived. All tallies must be
// locked.
func (r *run) missing() int64 {
	var n int64
	for _, s := range r.pool.all() {
		n += s.seen.lost(r.sent[s.user])
	}
	return n
}

// locked calls f with all tallies locked.
func (r *run) locked(f func()) {
	for _, t := range r.pool.tallies() {
		t.mu.Lock()
		defer t.mu.Unlock()
	}
	f()
}

// publish sends the messages in the load. It returns early when ctx is done.
func (r *run) publish(ctx context.Context) error {
	r.publishedAt = r.payloads.now()
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()

	turn := func(n int) error {
		if r.load.Burst > 0 {
			return ctx.Err()
		}

		// The schedule is absolute, so that a slow message doesn't delay later
		// ones.
		timer.Reset(time.Until(start.Add(time.Duration(float64(n) / r.load.Rate * float64(time.Second)))))
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for n := range r.load.messages() {
		if err := turn(n); err != nil {
			return fmt.Errorf("published %d of %d messages: %w", n, r.load.messages(), err)
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

	r.publishing = time.Since(start)
	return nil
}

// expected returns the number of deliveries in the load.
func (r *run) expected() int64 {
	messages, clients, users := int64(r.load.messages()), int64(r.cfg.Clients), int64(r.cfg.Users)
	if users == 0 {
		return messages * clients
	}
	// Streams and messages rotate through the users in the same order. Each user
	// gets an equal share of both, and the first users get one more.
	evenStreams, evenMessages := clients/users, messages/users
	moreStreams, moreMessages := clients%users, messages%users
	return users*evenStreams*evenMessages + moreStreams*evenMessages + moreMessages*evenStreams + min(moreStreams, moreMessages)
}

func (r *run) state() state {
	var sum state
	for _, t := range r.pool.tallies() {
		s := t.state()
		sum.opened += s.opened
		sum.closed += s.closed
		sum.arrived += s.arrived
	}
	return sum
}

func (r *run) reportProgress(now state) {
	if r.cfg.Progress != nil {
		r.cfg.Progress(Progress{Opened: now.opened, Streams: r.cfg.streams(), Delivered: now.arrived, Expected: r.expected()})
	}
}

// closeReasons returns how many streams closed before the end of the run, by
// reason.
func (r *run) closeReasons() map[string]int {
	all := map[string]int{}
	for _, t := range r.pool.tallies() {
		t.mu.Lock()
		for reason, n := range t.closeReasons {
			all[reason] += n
		}
		t.mu.Unlock()
	}
	return all
}

// firstLine returns the first line of a response body, for an error message.
func firstLine(body []byte) string {
	line, _, _ := strings.Cut(string(body), "\n")
	return strings.TrimSpace(line)
}
