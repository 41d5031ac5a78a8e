package hooks

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestTracker compares a tracker with a model that keeps the whole history of each key.
func TestTracker(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		delay := time.Duration(rapid.IntRange(0, 5).Draw(rt, "delay")) * time.Second
		tracker := newTracker(delay)
		now := time.Unix(1e9, 0)
		type state struct {
			online, streams bool
			since           time.Time // without streams
		}
		model := make(map[key]*state)
		for i := range 4 {
			model[key{kind(i % 2), fmt.Sprint("name", i/2)}] = &state{}
		}
		keys := make([]key, 0, len(model))
		for k := range model {
			keys = append(keys, k)
		}
		slices.SortFunc(keys, func(a, b key) int { return 2*(int(a.kind)-int(b.kind)) + len(a.name) - len(b.name) })

		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 4).Draw(rt, "wait")) * 500 * time.Millisecond)
			k := rapid.SampledFrom(keys).Draw(rt, "key")
			streams := rapid.Bool().Draw(rt, "streams")
			s := model[k]
			arrived := tracker.observe(k, streams, now)
			if want := streams && !s.online; arrived != want {
				rt.Fatalf("observe(%v, %t) reports %t, want %t", k, streams, arrived, want)
			}
			if s.streams && !streams {
				s.since = now
			}
			s.streams, s.online = streams, s.online || streams

			var want []string
			for k, s := range model {
				if s.online && !s.streams && now.Sub(s.since) >= delay {
					s.online = false
					want = append(want, fmt.Sprint(k, s.since))
				}
			}
			var got []string
			last := time.Time{}
			for _, d := range tracker.expire(now) {
				got = append(got, fmt.Sprint(d.key, d.at))
				if d.at.Before(last) {
					rt.Fatalf("departures aren't in order")
				}
				last = d.at
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				rt.Fatalf("departures %q, want %q", got, want)
			}

			present := tracker.keys()
			for k, s := range model {
				if s.online != slices.Contains(present, k) {
					rt.Fatalf("%v is present: %t, want %t", k, !s.online, s.online)
				}
			}
			if tracker.leaving.Len() > len(present) {
				rt.Fatalf("%d departures of %d keys", tracker.leaving.Len(), len(present))
			}
		}
	})
}
