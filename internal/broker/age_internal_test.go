package broker

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestBirth checks that a birth knows when a stream was opened, for as long as no stream
// gets older, and however long the daemon has been running.
func TestBirth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.Int64Range(0, int64(100*365*24*time.Hour)).Draw(t, "opened")
		age := rapid.Int64Range(0, int64(MaxStreamAge)+int64(MaxStreamAge)/10).Draw(t, "age")
		b := newBirth(at)
		if got := b.opened(at + age); got < at || got > at+birthUnit {
			t.Errorf("a stream opened at %d seems to have been opened at %d", at, got)
		}
		if r := b.random(); r < 0 || r > maxRandom {
			t.Errorf("random number %d", r)
		}
	})
}
