package bench

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Result is what a measurement found.
type Result struct {
	URL     string `json:"url"`
	Clients int    `json:"clients"`
	Users   int    `json:"users,omitempty"`
	Size    int    `json:"size"`

	OpenSeconds float64      `json:"openSeconds"` // until all streams were open
	Connect     Distribution `json:"connect"`     // of one stream, from connect to the response's head

	Published         int     `json:"published"`
	PublishSeconds    float64 `json:"publishSeconds"`
	PublishedPerSec   float64 `json:"publishedPerSecond"`
	Expected          int64   `json:"expected"`  // deliveries
	Delivered         int64   `json:"delivered"` // without those that came twice
	DeliveredPerSec   float64 `json:"deliveredPerSecond"`
	DeliveringSeconds float64 `json:"deliveringSeconds"` // from the first message's sending to the last arrival

	Latency Distribution `json:"latency"` // from before publishing to after reading

	Lost        int64          `json:"lost"`
	Doubled     int64          `json:"doubled"`
	OutOfOrder  int64          `json:"outOfOrder"`
	Damaged     int64          `json:"damaged"`
	Misdirected int64          `json:"misdirected"` // messages for another user
	Ended       map[string]int `json:"ended,omitempty"`

	Foreign int64 `json:"foreign"` // events of others, which are no fault

	Slow      int  `json:"slow,omitempty"`
	SlowEnded *int `json:"slowEnded,omitempty"` // slow streams that the server ended, where that can be known
}

// Distribution is how long something took, in milliseconds.
type Distribution struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`

	// Curve has more of the same, for a plot.
	Curve []Quantile `json:"curve"`
}

// Quantile is the time within which a share of all was done.
type Quantile struct {
	Share  float64 `json:"share"` // 0 to 1
	Millis float64 `json:"ms"`
}

// result is what the load did that was begun when so many messages were
// missing.
func (r *run) result(before int64) (res *Result) {
	r.locked(func() { res = r.count(before) })
	res.Ended = r.ends()
	return res
}

func (r *run) count(before int64) *Result {
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

	for _, t := range r.herd.tallies() {
		connects.Merge(t.connects)
		latency.Merge(t.latency)
		last = max(last, t.lastAt)
		res.Delivered += t.arrived
		res.Doubled += t.doubled
		res.OutOfOrder += t.late
		res.Damaged += t.damaged
		res.Misdirected += t.misdirected
		res.Foreign += t.foreign
	}

	// What was given up on may have come after all.
	res.Lost = max(0, r.missing()-before)
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
	// Ever finer towards the end, where the interesting part is, and no finer
	// than there are values.
	for rest := 1.0; rest*float64(d.Count) > 1; rest /= 1.5 {
		d.Curve = append(d.Curve, Quantile{1 - rest, millis(1 - rest)})
	}

	if d.Count > 0 {
		d.Curve = append(d.Curve, Quantile{1 - 1/float64(d.Count), d.Max})
	}

	return d
}

// Faults says in words what went wrong, and is empty if nothing did.
func (r *Result) Faults() string {
	var faults []string
	for _, f := range []struct {
		n    int64
		what string
	}{
		{r.Lost, "lost"},
		{r.Doubled, "doubled"},
		{r.OutOfOrder, "out of order"},
		{r.Damaged, "damaged"},
		{r.Misdirected, "misdirected"},
	} {
		if f.n > 0 {
			faults = append(faults, fmt.Sprintf("%d %s", f.n, f.what))
		}
	}

	for why, n := range r.Ended {
		faults = append(faults, fmt.Sprintf("%d streams ended: %s", n, why))
	}

	slices.Sort(faults)
	return strings.Join(faults, ", ")
}
