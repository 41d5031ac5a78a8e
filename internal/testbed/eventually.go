package testbed

import "time"

// Eventually polls cond every few milliseconds and reports whether it has become true
// within timeout.
func Eventually(timeout time.Duration, cond func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()

	for deadline := time.Now().Add(timeout); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			return false
		}
	}

	return true
}
