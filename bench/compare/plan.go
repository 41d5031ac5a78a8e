//go:build linux

package main

import (
	"time"

	"github.com/peald/peald/internal/bench"
)

// plan lists the measurements of each target and the number of rounds.
type plan struct {
	rounds int
	scales []scale

	// transports lists the measurements over each transport.
	transports []scale

	// alone enables the measurements that cover only peald and the C limit.
	alone bool
}

// scale is a number of streams and the loads published to them, one after
// another.
type scale struct {
	streams int
	loads   []bench.Load
	after   time.Duration // time from the last load until memory is measured again; 0 to skip that
}

// settle is the time from opening the streams until memory is measured.
const settle = 2 * time.Second

const (
	small = 100
	large = 4 << 10
)

// fullPlan takes about 30 minutes.
func fullPlan() plan {
	return plan{
		rounds: 3,
		scales: []scale{
			{1000, []bench.Load{steady(small, 10), steady(large, 10)}, 0},
			{5000, []bench.Load{steady(small, 10), steady(large, 10)}, 0},
			// A higher rate of large messages would exceed two cores.
			{15000, []bench.Load{steady(small, 10), steady(large, 4)}, 2 * time.Second},
			{2000, []bench.Load{{Size: small, Burst: 300}}, 0},
		},
		transports: []scale{
			{3000, []bench.Load{steady(small, 10)}, 0},
			{15000, []bench.Load{steady(small, 4)}, 0}, // more would exceed two cores over TLS
		},
		alone: true,
	}
}

// quickPlan takes about six minutes.
func quickPlan() plan {
	return plan{
		rounds: 2,
		scales: []scale{
			{1000, []bench.Load{steady(small, 10)}, 0},
			{5000, []bench.Load{steady(small, 10)}, 0},
			{2000, []bench.Load{{Size: small, Burst: 300}}, 0},
		},
		transports: []scale{{3000, []bench.Load{steady(small, 10)}, 0}},
	}
}

func steady(size int, rate float64) bench.Load {
	return bench.Load{Size: size, Rate: rate, Duration: 2500 * time.Millisecond}
}
