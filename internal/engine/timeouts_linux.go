package engine

import (
	"time"

	"golang.org/x/sys/unix"
)

// timeout is a list of waiting connections whose time runs out after the same
// duration. They are in the order in which it runs out, so no timer is needed
// for each.
type timeout struct {
	after       time.Duration
	first, last *incoming
}

// add appends c.
func (t *timeout) add(c *incoming) {
	c.timeout, c.deadline = t, time.Now().Add(t.after)
	c.prev, c.next = t.last, nil
	if t.last != nil {
		t.last.next = c
	} else {
		t.first = c
	}
	t.last = c
}

// remove removes c.
func (t *timeout) remove(c *incoming) {
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

// timeoutOf returns the list of a duration. The caller holds mu.
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

// await makes c wait for a request. It returns false if that isn't possible.
func (s *pollSet) await(c *incoming, after time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}

	c.state = waiting
	s.timeoutOf(after).add(c)
	if s.wake.IsZero() || c.deadline.Before(s.wake) {
		s.wakeAt(c.deadline)
	}
	if c.generation != 0 {
		return true
	}
	events := uint32(readable)
	if c.tls != nil {
		events |= unix.EPOLLOUT // reported at once
	}
	if err := s.add(c.fd, c, &c.generation, events); err != nil {
		c.timeout.remove(c)
		c.state = gone
		return false
	}
	return true
}

// begin makes c stop waiting because its request is handled. cancel, if not nil,
// is called when the client hangs up. begin returns false if c isn't waiting.
func (s *pollSet) begin(c *incoming, cancel func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.state != waiting {
		return false
	}
	c.timeout.remove(c)
	c.state, c.cancel = handling, cancel
	if s.closing && cancel != nil {
		cancel()
	}
	return true
}

// isWaiting reports whether c is waiting for a request.
func (s *pollSet) isWaiting(c *incoming) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.state == waiting
}

// detach removes c from the set, and leaves the connection open. It returns
// false if c had been removed.
func (s *pollSet) detach(c *incoming) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.state == gone {
		return false
	}
	if c.state == waiting {
		c.timeout.remove(c)
	}
	c.state = gone
	s.drop(c.fd, c.generation)
	return true
}

// expire closes the connections whose time has run out; all that are waiting, if
// the set is closing.
func (s *pollSet) expire() {
	now := time.Now()
	var late []*incoming

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
			late = append(late, c)
		}
	}
	s.wakeAt(next)
	s.mu.Unlock()

	for _, c := range late {
		c.end()
	}
}

// wakeAt makes the set's goroutine call expire at that time; never if it is
// zero. The caller holds mu.
func (s *pollSet) wakeAt(at time.Time) {
	s.wake = at
	_ = s.epoll.SetReadDeadline(at) // It fails only if the set is closed.
}

// closeIdle closes the connections that wait for a request, now and later. It
// cancels the requests that are being handled.
func (s *pollSet) closeIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	s.wakeAt(time.Unix(1, 0))
	for _, e := range s.entries {
		if c, ok := e.(*incoming); ok && c.state == handling && c.cancel != nil {
			c.cancel()
		}
	}
}
