package ssehttp

import (
	"slices"
	"sync"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/engine"
)

// Handshakes holds statistics of the TLS handshakes that the engine has performed.
type Handshakes struct {
	// Full counts handshakes with a certificate, Resumed those that resumed a session,
	// and Failed those that failed or were abandoned.
	Full, Resumed, Failed int64
	// Computing is the time spent on all handshakes, not counting waits for clients or
	// for other handshakes.
	Computing time.Duration
	// Seconds is the distribution of the total durations of successful handshakes.
	Seconds broker.Histogram
}

// handshakes counts handshakes. Its methods may be called concurrently.
type handshakes struct {
	mu    sync.Mutex
	stats Handshakes
}

// handshakeBounds returns bucket bounds in seconds. They range from the duration of a
// resumption on the same machine to the maximum time that a handshake may take.
func handshakeBounds() []float64 {
	return []float64{0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}
}

func (h *handshakes) init() {
	h.stats.Seconds.Bounds = handshakeBounds()
	h.stats.Seconds.Counts = make([]int64, len(h.stats.Seconds.Bounds)+1)
}

// observe counts a handshake.
func (h *handshakes) observe(done engine.Handshake) {
	h.mu.Lock()
	defer h.mu.Unlock()

	s := &h.stats
	s.Computing += done.Computing
	switch {
	case done.Err != nil:
		s.Failed++
		return
	case done.Resumed:
		s.Resumed++
	default:
		s.Full++
	}
	seconds := done.Duration.Seconds()
	i, _ := slices.BinarySearch(s.Seconds.Bounds, seconds)
	s.Seconds.Counts[i]++
	s.Seconds.Sum += seconds
}

// TLSHandshakes returns statistics of the handshakes that the engine has performed.
// They don't include net/http's handshakes.
func (h *Handler) TLSHandshakes() Handshakes {
	h.handshakes.mu.Lock()
	defer h.handshakes.mu.Unlock()

	stats := h.handshakes.stats
	stats.Seconds.Counts = slices.Clone(stats.Seconds.Counts)
	return stats
}
