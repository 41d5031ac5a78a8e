//go:build linux

package main

import (
	"time"

	"github.com/peald/peald/internal/bench"
)

// plan is what is measured of every target, and how often.
type plan struct {
	rounds int
	scales []scale

	// alone is measured of peald and the C limit only.
	alone bool
}

// scale is a number of streams and what is published to them, one load after
// the other.
type scale struct {
	streams int
	loads   []bench.Load
	after   time.Duration // to wait after the last until memory is looked at again
}

// settle is how long after the streams have been opened memory is looked at.
const settle = 2 * time.Second

const (
	small = 100
	large = 4 << 10
)

// fullPlan takes a quarter of an hour.
func fullPlan() plan {
	return plan{
		rounds: 3,
		scales: []scale{
			{1000, []bench.Load{steady(small, 10), steady(large, 10)}, 0},
			{5000, []bench.Load{steady(small, 10), steady(large, 10)}, 0},
			// More would be more than two cores can send and receive.
			{15000, []bench.Load{steady(small, 10), steady(large, 4)}, 2 * time.Second},
			{2000, []bench.Load{{Size: small, Burst: 300}}, 0},
		},
		alone: true,
	}
}

// quickPlan takes three minutes.
func quickPlan() plan {
	return plan{
		rounds: 2,
		scales: []scale{
			{1000, []bench.Load{steady(small, 10)}, 0},
			{5000, []bench.Load{steady(small, 10)}, 0},
			{2000, []bench.Load{{Size: small, Burst: 300}}, 0},
		},
	}
}

func steady(size int, rate float64) bench.Load {
	return bench.Load{Size: size, Rate: rate, Duration: 2500 * time.Millisecond}
}
