package clients_test

import (
	"sync"
	"testing"
	"time"
)

// patience limits each wait for something that takes milliseconds on an idle
// machine.
const patience = 60 * time.Second

// stream is a client's stream, with everything that was observed: the client's
// reports and its requests.
type stream struct {
	name     string // the driver's name for it
	user     string // the stream's user ID
	addr     string // the address that the client connects to
	recorder *recorder

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at each change
	events   []event
	ended    string // why the client gave up; empty if it hasn't
	requests []request
}

// event is an event reported by the client.
type event struct {
	typ, id string
	bytes   int
	md5     string
	at      time.Time
}

// request is a request made by the client.
type request struct {
	at     time.Time
	lastID string
	status int // of the response; 0 until there is one

	// begun and refused report whether the first block of a stream, or of a
	// temporary refusal, was sent to the client.
	begun, refused bool
}

func newStream(name, user string) *stream {
	return &stream{name: name, user: user, changed: make(chan struct{})}
}

// url returns the stream's URL for the client.
func (s *stream) url() string { return "http://" + s.addr + "/events?user=" + s.user }

// change applies f and wakes all waiting goroutines.
func (s *stream) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()

	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// await waits until done returns true, and reports whether it did so in time. It
// calls done with the stream's lock held.
func (s *stream) await(timeout time.Duration, done func() bool) bool {
	timer := time.NewTimer(timeout)
	defer timer.Stop()

	for {
		s.mu.Lock()
		ok, changed := done(), s.changed
		s.mu.Unlock()

		if ok {
			return true
		}

		select {
		case <-changed:
		case <-timer.C:
			return false
		}
	}
}

// begun returns the number of streams that have begun. The caller must hold the
// lock, as a function called by await does.
func (s *stream) begun() (n int) {
	for _, r := range s.requests {
		if r.begun {
			n++
		}
	}

	return n
}

// refused returns the number of temporary refusals. The caller must hold the
// lock.
func (s *stream) refused() (n int) {
	for _, r := range s.requests {
		if r.refused {
			n++
		}
	}

	return n
}

// has reports whether the client reported an event with that data. The caller
// must hold the lock.
func (s *stream) has(data string) bool {
	return s.count(data) > 0
}

// count returns how often the client reported an event with that data. The caller
// must hold the lock.
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

// describe logs all observations of a stream.
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
