package bench

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Result is the result of a measurement.
type Result struct {
	URL     string `json:"url"`
	Clients int    `json:"clients"`
	Users   int    `json:"users,omitempty"`
	Size    int    `json:"size"`

	OpenSeconds float64      `json:"openSeconds"` // time until all streams were open
	Connect     Distribution `json:"connect"`     // per stream, from connect to the response header

	Published         int     `json:"published"`
	PublishSeconds    float64 `json:"publishSeconds"`
	PublishedPerSec   float64 `json:"publishedPerSecond"`
	Expected          int64   `json:"expected"`  // deliveries
	Delivered         int64   `json:"delivered"` // without duplicates
	DeliveredPerSec   float64 `json:"deliveredPerSecond"`
	DeliveringSeconds float64 `json:"deliveringSeconds"` // from sending the first message to the last arrival

	Latency Distribution `json:"latency"` // from before the publishing call to after the read

	Lost        int64          `json:"lost"`
	Duplicated  int64          `json:"doubled"`
	OutOfOrder  int64          `json:"outOfOrder"`
	Damaged     int64          `json:"damaged"`
	Misdirected int64          `json:"misdirected"`     // messages for another user
	Ended       map[string]int `json:"ended,omitempty"` // streams that closed early, by reason

	Foreign int64 `json:"foreign"` // events from other publishers, which aren't errors

	Slow      int  `json:"slow,omitempty"`
	SlowEnded *int `json:"slowEnded,omitempty"` // slow streams that the server closed; nil if unknown
}

// Distribution is a distribution of durations, in milliseconds.
type Distribution struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`

	// Curve holds more quantiles, for a plot.
	Curve []Quantile `json:"curve"`
}

// Quantile is a quantile of a distribution.
type Quantile struct {
	Share  float64 `json:"share"` // 0 to 1
	Millis float64 `json:"ms"`
}

// result returns the result of the current load. Missing is the number of
// messages that were missing when the load began.
func (r *run) result(missing int64) (res *Result) {
	r.locked(func() { res = r.count(missing) })
	res.Ended = r.closeReasons()
	return res
}

func (r *run) count(missing int64) *Result {
	res := &Result{
		URL:     r.cfg.URL,
		Clients: r.cfg.Clients,
		Users:   r.cfg.Users,
		Size:    r.load.Size,

		OpenSeconds: r.opening.Seconds(),

		Published:       r.load.messages(),
		PublishSeconds:  r.publishing.Seconds(),
		PublishedPerSec: float64(r.load.messages()) / r.publishing.Seconds(),
		Expected:        r.expected(),

		Slow: r.cfg.Slow,
	}

	connects, latency := newHistogram(), newHistogram()
	var last time.Duration

	for _, t := range r.pool.tallies() {
		connects.Merge(t.connects)
		latency.Merge(t.latency)
		last = max(last, t.lastAt)
		res.Delivered += t.arrived
		res.Duplicated += t.duplicated
		res.OutOfOrder += t.late
		res.Damaged += t.damaged
		res.Misdirected += t.misdirected
		res.Foreign += t.foreign
	}

	// Messages that were counted as lost may have arrived late.
	res.Lost = max(0, r.missing()-missing)
	res.Connect, res.Latency = distribution(connects), distribution(latency)
	if took := (last - r.publishedAt).Seconds(); res.Delivered > 0 {
		res.DeliveringSeconds = took
		res.DeliveredPerSec = float64(res.Delivered) / took
	}

	return res
}

func distribution(h *hdrhistogram.Histogram) Distribution {
	millis := func(share float64) float64 {
		return float64(h.ValueAtQuantile(100*share)) / 1000
	}

	d := Distribution{
		Count: h.TotalCount(),
		Mean:  h.Mean() / 1000,
		P50:   millis(0.5),
		P90:   millis(0.9),
		P99:   millis(0.99),
		P999:  millis(0.999),
		Max:   float64(h.Max()) / 1000,
	}
	// The steps get finer towards the tail, which is the interesting part, but not
	// so fine that there are more steps than values.
	for rest := 1.0; rest*float64(d.Count) > 1; rest /= 1.5 {
		d.Curve = append(d.Curve, Quantile{1 - rest, millis(1 - rest)})
	}

	if d.Count > 0 {
		d.Curve = append(d.Curve, Quantile{1 - 1/float64(d.Count), d.Max})
	}

	return d
}

// Faults describes the delivery errors. It returns "" if there are none.
func (r *Result) Faults() string {
	var faults []string
	for _, f := range []struct {
		n    int64
		what string
	}{
		{r.Lost, "lost"},
		{r.Duplicated, "duplicated"},
		{r.OutOfOrder, "out of order"},
		{r.Damaged, "damaged"},
		{r.Misdirected, "misdirected"},
	} {
		if f.n > 0 {
			faults = append(faults, fmt.Sprintf("%d %s", f.n, f.what))
		}
	}

	for reason, n := range r.Ended {
		faults = append(faults, fmt.Sprintf("%d streams failed: %s", n, reason))
	}

	slices.Sort(faults)
	return strings.Join(faults, ", ")
}
