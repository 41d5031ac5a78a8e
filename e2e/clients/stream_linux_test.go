package clients_test

import (
	"sync"
	"testing"
	"time"
)

// patience bounds each wait for something that takes milliseconds on a quiet
// machine.
const patience = 60 * time.Second

// stream is one stream that a client holds, with everything observed of it: what
// the client reported, and the requests that it made.
type stream struct {
	name     string // as the driver calls it
	user     string // whose stream it is
	addr     string // where the client connects to
	recorder *recorder

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at each change
	events   []event
	ended    string // why the client gave up; empty if it did not
	requests []request
}

// event is an event that the client reported.
type event struct {
	typ, id string
	bytes   int
	md5     string
	at      time.Time
}

// request is a request that the client made.
type request struct {
	at     time.Time
	lastID string
	status int // of the response; 0 before it

	// begun and refused report whether the first block of a stream, or a
	// temporary refusal, has gone to the client.
	begun, refused bool
}

func newStream(name, user string) *stream {
	return &stream{name: name, user: user, changed: make(chan struct{})}
}

// url returns where the client opens the stream.
func (s *stream) url() string { return "http://" + s.addr + "/events?user=" + s.user }

// change applies f and wakes everyone who waits.
func (s *stream) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()

	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// await waits until is, which is called with the stream's lock held, returns
// true, and reports whether it did within a time.
func (s *stream) await(within time.Duration, is func() bool) bool {
	late := time.NewTimer(within)
	defer late.Stop()

	for {
		s.mu.Lock()
		ok, changed := is(), s.changed
		s.mu.Unlock()

		if ok {
			return true
		}

		select {
		case <-changed:
		case <-late.C:
			return false
		}
	}
}

// begun returns how many responses were streams that have begun. The caller
// holds the lock or is called by await.
func (s *stream) begun() (n int) {
	for _, r := range s.requests {
		if r.begun {
			n++
		}
	}

	return n
}

// refused returns how many responses were temporary refusals.
func (s *stream) refused() (n int) {
	for _, r := range s.requests {
		if r.refused {
			n++
		}
	}

	return n
}

// has reports whether the client reported an event of that content. The caller
// holds the lock or is called by await.
func (s *stream) has(data string) bool {
	return s.count(data) > 0
}

// count returns how often the client reported an event of that content.
func (s *stream) count(data string) (n int) {
	sum := md5Of(data)

	for _, e := range s.events {
		if e.md5 == sum {
			n++
		}
	}

	return n
}

// reset reports whether the client reported a reset.
func (s *stream) reset() bool {
	for _, e := range s.events {
		if e.typ == "peald.reset" {
			return true
		}
	}

	return false
}

// describe logs what was observed of a stream.
func (s *stream) describe(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()

	t.Logf("%s: ended %q", s.name, s.ended)

	for _, r := range s.requests {
		t.Logf("  %s request, Last-Event-ID %q: %d, begun: %t, refused: %t", r.at.Format("05.000"), r.lastID, r.status, r.begun, r.refused)
	}

	for _, e := range s.events {
		t.Logf("  %s event %s %s, %d bytes", e.at.Format("05.000"), e.typ, e.id, e.bytes)
	}
}
