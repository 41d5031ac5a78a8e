package engine

import (
	"time"

	"golang.org/x/sys/unix"
)

// timer limits how long a connection may wait for the client. Its fields are
// guarded by pollSet.mu.
type timer struct {
	deadline   time.Time
	timeout    *timeout // the list that holds it; nil for none
	next, prev *timer   // in that list
	owner      expirer
}

// expirer is a connection with a timer. The set's goroutine calls expire after
// the timer's deadline, or when the listener is closed.
type expirer interface{ expire() }

// timeout is a list of timers with the same duration. They are ordered by deadline, so
// they don't each need a system timer.
type timeout struct {
	after       time.Duration
	first, last *timer
}

// add appends c to the list.
func (t *timeout) add(c *timer) {
	c.timeout, c.deadline = t, time.Now().Add(t.after)
	c.prev, c.next = t.last, nil
	if t.last != nil {
		t.last.next = c
	} else {
		t.first = c
	}
	t.last = c
}

// stop removes c from its list, if it is in one.
func (c *timer) stop() {
	t := c.timeout
	if t == nil {
		return
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		t.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		t.last = c.prev
	}
	c.timeout, c.prev, c.next = nil, nil, nil
}

// timeoutOf returns the list for a duration. The caller holds mu.
func (s *pollSet) timeoutOf(after time.Duration) *timeout {
	for _, t := range s.timeouts {
		if t.after == after {
			return t
		}
	}
	t := &timeout{after: after}
	s.timeouts = append(s.timeouts, t)
	return t
}

// start starts a timer that isn't running. The caller holds mu.
func (s *pollSet) start(t *timer, owner expirer, after time.Duration) {
	t.owner = owner
	s.timeoutOf(after).add(t)
	if s.wake.IsZero() || t.deadline.Before(s.wake) {
		s.wakeAt(t.deadline)
	}
}

// await makes c wait for a request. It returns false if that isn't possible.
func (s *pollSet) await(c *incoming, after time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}

	c.state = waiting
	s.start(&c.timer, c, after)
	if c.generation != 0 {
		return true
	}
	events := uint32(readable)
	if c.tls != nil {
		events |= unix.EPOLLOUT // reported at once
	}
	if err := s.add(unix.EPOLL_CTL_ADD, c.fd, c, &c.generation, events); err != nil {
		c.timer.stop()
		c.state = gone
		return false
	}
	return true
}

// rearm makes the set report c again if c is waiting and there is more to read, once
// other connections have had their turn. It returns false if that isn't possible.
func (s *pollSet) rearm(c *incoming) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.state != waiting || s.watch(unix.EPOLL_CTL_MOD, c.fd, c.generation, readable) == nil
}

// begin ends c's wait for a request, because one is now being handled. cancel, if not
// nil, is called when the client hangs up. begin returns false if c isn't waiting.
func (s *pollSet) begin(c *incoming, cancel func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.state != waiting {
		return false
	}
	c.timer.stop()
	c.state, c.cancel = handling, cancel
	return true
}

// admit reports whether a request may get a goroutine, which must call l.running.Done
// when it finishes.
func (s *pollSet) admit(l *Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	l.running.Add(1)
	return true
}

// isWaiting reports whether c is waiting for a request.
func (s *pollSet) isWaiting(c *incoming) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.state == waiting
}

// detach removes c from the set, and leaves the connection open. It returns false if c
// has already been removed.
func (s *pollSet) detach(c *incoming) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.state == gone {
		return false
	}
	c.timer.stop()
	c.state = gone
	s.drop(c.fd, c.generation)
	return true
}

// forget is like detach, but a bare descriptor stays in the epoll set, because its
// stream will be added to the same set.
func (s *pollSet) forget(c *incoming) bool {
	if _, ok := c.conn.(*rawConn); !ok {
		return s.detach(c)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.state == gone {
		return false
	}
	c.timer.stop()
	c.state = gone
	delete(s.entries, c.fd)
	return true
}

// expire calls expire on the owners of the timers that have expired, or of all timers
// if the set is closing.
func (s *pollSet) expire() {
	now := time.Now()
	var late []expirer

	s.mu.Lock()
	var next time.Time
	for _, t := range s.timeouts {
		for c := t.first; c != nil; c = c.next {
			if c.deadline.After(now) && !s.closing {
				if next.IsZero() || c.deadline.Before(next) {
					next = c.deadline
				}
				break
			}
			late = append(late, c.owner)
		}
	}
	s.wakeAt(next)
	s.mu.Unlock()

	for _, c := range late {
		c.expire()
	}
}

// wakeAt makes the set's goroutine call expire at the given time, or never if the time
// is zero. If the set is stopped, the goroutine ends. The caller holds mu.
func (s *pollSet) wakeAt(at time.Time) {
	if s.stopped {
		at = time.Unix(1, 0)
	}
	s.wake = at
	_ = s.epoll.SetReadDeadline(at) // It fails only if the set is closed.
}

// closeIdle closes the connections that are waiting for a request, and makes sure that
// no connection waits for one later. HTTP/2 clients are asked to use other connections.
func (s *pollSet) closeIdle() {
	s.mu.Lock()
	s.closing = true
	s.wakeAt(time.Unix(1, 0))
	s.mu.Unlock()

	for _, c := range s.shared() {
		c.cancel()
		c.goAway()
	}
}

// shared returns the HTTP/2 connections.
func (s *pollSet) shared() []*http2Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*http2Conn
	for _, e := range s.entries {
		if c, ok := e.(*http2Conn); ok {
			found = append(found, c)
		}
	}
	return found
}
