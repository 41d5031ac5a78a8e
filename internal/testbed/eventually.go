package testbed

import "time"

// Eventually polls cond every few milliseconds and reports whether it has become true
// within timeout.
func Eventually(timeout time.Duration, cond func() bool) bool {
	return Poll(timeout, 5*time.Millisecond, cond)
}

// Poll is like [Eventually] with another interval, for conditions that take CPU time, such
// as a request.
func Poll(timeout, interval time.Duration, cond func() bool) bool {
	tick := time.NewTicker(interval)
	defer tick.Stop()

	for deadline := time.Now().Add(timeout); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			return false
		}
	}

	return true
}
