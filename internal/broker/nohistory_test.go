package broker_test

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/peald/peald/internal/broker"
)

// TestGapsWithSmallHistories disconnects clients before and after their first
// event. Without a history, marks have no id, so a client has none before its
// first event and gets no reset for the events it missed. With the smallest
// history, every client gets one.
func TestGapsWithSmallHistories(t *testing.T) {
	for name, test := range map[string]struct {
		maxEvents int
		before    bool     // whether to disconnect the client before its first event
		want      []string // types of the events it gets after missing two
	}{
		"no history, before":    {0, true, nil},
		"no history, after":     {0, false, []string{"peald.reset"}},
		"one event, before":     {1, true, []string{"peald.reset"}},
		"one event, after":      {1, false, []string{"peald.reset"}},
		"enough events, before": {2, true, []string{"broadcast", "broadcast"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := withHistory()
				cfg.History.MaxEvents = test.maxEvents
				b := broker.New(cfg)
				defer b.Close()

				c := connect(t, b, broker.Subscription{}, -1)
				if !test.before {
					publish(t, b, toAll("seen"))
				}

				synctest.Wait()

				if hasID := c.lastID() != ""; hasID != (test.maxEvents > 0 || !test.before) {
					t.Errorf("last event id is %q", c.lastID())
				}

				c.stream.HangUp()
				publish(t, b, toAll("missed"))
				publish(t, b, toAll("missed"))

				again := connect(t, b, broker.Subscription{LastEventID: c.lastID()}, -1)
				synctest.Wait()

				var got []string
				for _, e := range again.events() {
					got = append(got, e.typ)
				}

				if !slices.Equal(got, test.want) {
					t.Errorf("the client got %q, want %q", got, test.want)
				}
			})
		})
	}
}
