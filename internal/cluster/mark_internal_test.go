package cluster

import (
	"log/slog"
	"testing"
	"time"
)

// TestStaleLogs checks whether the event log of a cluster counts as stale once the node
// has used another event log.
func TestStaleLogs(t *testing.T) {
	t.Parallel()
	stored := time.Now()
	for name, test := range map[string]struct {
		last  uint64
		at    time.Time
		stale bool
	}{
		"no other entries":                     {7, stored, true},
		"entries that the node didn't apply":   {9, stored.Add(time.Second), true},
		"entries from the time of the other":   {9, stored.Add(2 * time.Minute), false},
		"entries from nodes that kept running": {900, stored.Add(time.Hour), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			m := readMarks(dir, true, nil, slog.New(slog.DiscardHandler))
			use := func(key, epoch string, entry uint64, at time.Time) {
				t.Helper()
				if err := m.open(key, eventLog{epoch: epoch, first: 1}); err != nil {
					t.Fatal(err)
				}
				m.note(epoch, entry, at)
			}
			use("cluster/test", "one", 7, stored)
			use("alone/test", "two", 3, stored.Add(time.Minute))
			m.close()

			m = readMarks(dir, true, nil, slog.New(slog.DiscardHandler))
			l := eventLog{epoch: "one", first: 1, last: test.last, lastAt: test.at, replicas: 3, hasBase: true}
			reason, doubt := m.check("cluster/test", l, false, false)
			if (reason != "") != test.stale || doubt != nil {
				t.Errorf("reason %q, doubt %v; want stale %t", reason, doubt, test.stale)
			}
		})
	}
}
