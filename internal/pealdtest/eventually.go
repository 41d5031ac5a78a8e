package pealdtest

import "time"

// Eventually looks every few milliseconds whether something is so, and reports
// whether it has come to be within a time.
func Eventually(within time.Duration, is func() bool) bool {
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()

	for deadline := time.Now().Add(within); !is(); <-again.C {
		if time.Now().After(deadline) {
			return false
		}
	}

	return true
}
