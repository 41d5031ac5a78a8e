package main

import (
	"fmt"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// latencies formats the median and the 99th percentile of the latencies observed
// since before. A nil before stands for the start of the daemon.
func latencies(now, before *pealv1.Histogram) string {
	return fmt.Sprintf("p50 %s, p99 %s", quantile(now, before, 0.5), quantile(now, before, 0.99))
}

// quantile formats the q-quantile, in seconds, of the observations since before.
// Like histogram_quantile in Prometheus, it interpolates linearly within a
// bucket. It returns "-" if nothing was observed.
func quantile(now, before *pealv1.Histogram, q float64) string {
	rank := q * float64(now.GetCount()-before.GetCount())
	if rank <= 0 {
		return "-"
	}

	var lower, below float64
	for i, bucket := range now.GetBuckets() {
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
