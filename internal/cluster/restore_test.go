package cluster_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/cluster"
	"github.com/peald/peald/internal/testbed"
)

// TestAllNodesLoseEntries makes all nodes of a cluster lose entries that they had
// acknowledged. The event log must start a new epoch, so that no id is used twice and
// clients get a reset.
func TestAllNodesLoseEntries(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(t *testing.T, dir, older string){
		"older copies": func(t *testing.T, dir, older string) {
			t.Helper()
			must(t, os.RemoveAll(dir))
			copyDir(t, older, dir)
		},
		"crash of all machines": func(t *testing.T, dir, older string) {
			t.Helper()
			must(t, os.RemoveAll(dir+"/cluster"))
			copyDir(t, older+"/cluster", dir+"/cluster")
			cluster.CrashMark(t, dir, published)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			members := startAll(t, 3)
			first := members[0].publish(t, toAll("first")).ID
			restart(t, members, func(dir string) { copyDir(t, dir, dir+".older") })
			given := make(map[string]bool)
			var last string
			for range published {
				last = members[0].publish(t, toAll("lost")).ID
				given[last] = true
			}
			for _, m := range members {
				applied(t, m, last)
			}
			restart(t, members, func(dir string) { lose(t, dir, dir+".older") })

			for _, m := range members {
				for range published {
					if id := m.publish(t, toAll("new")).ID; given[id] || epochOf(id) == epochOf(last) {
						t.Errorf("the id %s is in the same epoch as %s", id, last)
					}
				}
			}
			for _, m := range members {
				for _, id := range []string{first, last} {
					if reason := m.reset(t, id); reason != "unknown" {
						t.Errorf("a client with the id %s gets a reset with reason %s, want unknown", id, reason)
					}
				}
			}
		})
	}
}

// restart shuts all nodes down, and starts them again after between was called with the
// directory of each.
func restart(t *testing.T, members []*member, between func(dir string)) {
	t.Helper()
	for _, m := range members {
		m.end(t)
	}
	for i, m := range members {
		between(m.cfg.Embedded.Dir)
		members[i] = start(t, m.cfg)
	}
	serving(t, members...)
}

// applied waits until a node has applied the entry of an event.
func applied(t *testing.T, m *member, id string) {
	t.Helper()
	c := m.connect(t, broker.Subscription{LastEventID: id})
	eventually(t, func() bool { return c.lastID() != "" }, func() string { return "a client receives no position mark" })
}

// TestCopyOfOneNode restarts one node of three on a copy of its directory, as an operator
// does who moves it to another machine. The event log must keep its epoch.
func TestCopyOfOneNode(t *testing.T) {
	t.Parallel()
	members := startAll(t, 3)
	first := members[0].publish(t, toAll("one")).ID
	moved := members[2]
	moved.end(t)
	dir := moved.cfg.Embedded.Dir
	copyDir(t, dir, dir+".copy")
	must(t, os.RemoveAll(dir))
	must(t, os.Rename(dir+".copy", dir))
	members[0].publish(t, toAll("two"))
	members[2] = start(t, moved.cfg)
	serving(t, members[2])
	members[2].publish(t, toAll("three"))
	for _, m := range members {
		m.connect(t, broker.Subscription{LastEventID: first}).gets(t, "two", "three")
	}
}

// TestLogsThatWereSetAside runs a node alone and as one of two in turn. Each of the two
// event logs misses what is published in the other, so that it needs a new epoch when it
// is used again.
func TestLogsThatWereSetAside(t *testing.T) {
	t.Parallel()
	cfgs := configs(t, 2)
	alone := cfgs[0]
	own := *alone.Embedded
	own.Peers = nil
	alone.Embedded = &own

	last := make(map[bool]string) // the last id, by whether the node was alone
	for _, isAlone := range []bool{true, false, true, false, true} {
		running := cfgs
		if isAlone {
			running = []cluster.Config{alone}
		}
		var members []*member
		for _, cfg := range running {
			members = append(members, start(t, cfg))
		}
		serving(t, members...)
		for _, m := range members {
			m.rejects(t, last[isAlone])
		}
		last[isAlone] = members[0].publish(t, toAll("between")).ID
		for _, m := range members {
			m.end(t)
		}
	}
}

// rejects waits until a client with an id gets a reset. Its streams may be closed before,
// if the node opens the event log before another node starts a new epoch.
func (m *member) rejects(t *testing.T, id string) {
	t.Helper()
	if id == "" {
		return
	}
	var got []string
	eventually(t, func() bool {
		c := m.connect(t, broker.Subscription{LastEventID: id})
		testbed.Eventually(time.Second, func() bool {
			got = c.data()
			return len(got) > 0
		})
		return len(got) > 0
	}, func() string { return "a client with the id " + id + " receives nothing" })
	if !strings.Contains(got[0], `"reason":"unknown"`) {
		t.Errorf("a client with the id %s receives %q, want a reset with reason unknown", id, got[0])
	}
}
