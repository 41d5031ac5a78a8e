package main

import (
	"fmt"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// latencies says in which time half of the events and 99 of 100 were delivered
// that came since before, which is nil for all since the daemon's start.
func latencies(is, before *pealv1.Histogram) string {
	return fmt.Sprintf("p50 %s, p99 %s", quantile(is, before, 0.5), quantile(is, before, 0.99))
}

// quantile is the size in seconds that a share of the observations since before
// doesn't exceed, as Prometheus' histogram_quantile has it: within a bucket they
// are taken to be spread evenly. It is "-" where nothing was observed.
func quantile(is, before *pealv1.Histogram, share float64) string {
	rank := share * float64(is.GetCount()-before.GetCount())
	if rank <= 0 {
		return "-"
	}

	var lower, below float64
	for i, bucket := range is.GetBuckets() {
		atMost := bucket.GetCount()
		if i < len(before.GetBuckets()) {
			atMost -= before.GetBuckets()[i].GetCount()
		}
		if n := float64(atMost); n >= rank {
			return seconds(lower + (bucket.GetUpperBound()-lower)*(rank-below)/(n-below))
		}
		lower, below = bucket.GetUpperBound(), float64(atMost)
	}

	return ">" + seconds(lower)
}
