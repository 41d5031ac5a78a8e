package cluster_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/cluster"
)

// epochOf is the epoch in an id.
func epochOf(id string) string {
	epoch, _, _ := strings.Cut(id, "-")
	return epoch
}

// copyDir copies a directory as an operator does.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp -a: %v: %s", err, out)
	}
}

// eventLog is the directory of the log of a node alone.
func eventLog(dir string) string {
	return filepath.Join(dir, "alone", "jetstream", "$G", "streams", "test")
}

// reset is the reason of the first event, a reset, that a client with an id gets.
func (m *member) reset(t *testing.T, id string) string {
	t.Helper()
	c := m.connect(t, broker.Subscription{LastEventID: id})
	eventually(t, func() bool { return len(c.data()) > 0 }, func() string { return "a client with the id " + id + " gets nothing" })
	data := c.data()[0]
	for _, reason := range []string{"unknown", "expired"} {
		if strings.Contains(data, `"reason":"`+reason+`"`) {
			return reason
		}
	}
	return "none: " + data
}

// published holds the messages that a node had acknowledged before something happened to its
// directory.
const published = 5

// TestAnEpochLastsAsLongAsItsLog lets something happen to the directory of a node
// alone while it is down: where all of its log is left, it goes on under the same
// epoch, and else no id is given twice, and clients get a reset.
func TestAnEpochLastsAsLongAsItsLog(t *testing.T) {
	t.Parallel()
	blocks := func(t *testing.T, cfg cluster.Config) string {
		t.Helper()
		return filepath.Join(eventLog(cfg.Embedded.Dir), "msgs", "1.blk")
	}
	for name, test := range map[string]struct {
		// midway gets the directory of the node, which is shut down.
		midway func(t *testing.T, dir string)
		while  func(t *testing.T, cfg cluster.Config)
		killed bool // the node is not shut down in order
		same   bool // whether the epoch remains
		gap    bool // whether entries are missing in it
	}{
		"nothing": {same: true},
		"killed":  {killed: true, same: true},
		"directory renamed": {same: true, while: func(t *testing.T, cfg cluster.Config) {
			dir := cfg.Embedded.Dir
			must(t, os.Rename(dir, dir+".moved"))
			must(t, os.Rename(dir+".moved", dir))
		}},
		"block emptied": {same: true, gap: true, while: func(t *testing.T, cfg cluster.Config) { must(t, os.Truncate(blocks(t, cfg), 0)) }},
		"block removed": {same: true, gap: true, while: func(t *testing.T, cfg cluster.Config) { must(t, os.Remove(blocks(t, cfg))) }},
		"block cut in half": {while: func(t *testing.T, cfg cluster.Config) {
			info, err := os.Stat(blocks(t, cfg))
			must(t, err)
			must(t, os.Truncate(blocks(t, cfg), info.Size()/2))
			must(t, os.RemoveAll(filepath.Join(eventLog(cfg.Embedded.Dir), "msgs", "index.db")))
		}},
		"block cut in half with its index": {same: true, gap: true, while: func(t *testing.T, cfg cluster.Config) {
			info, err := os.Stat(blocks(t, cfg))
			must(t, err)
			must(t, os.Truncate(blocks(t, cfg), info.Size()/2))
		}},
		"log removed":  {while: func(t *testing.T, cfg cluster.Config) { must(t, os.RemoveAll(eventLog(cfg.Embedded.Dir))) }},
		"mark removed": {while: func(t *testing.T, cfg cluster.Config) { must(t, os.Remove(filepath.Join(cfg.Embedded.Dir, "mark"))) }},
		"mark emptied": {while: func(t *testing.T, cfg cluster.Config) {
			must(t, os.Truncate(filepath.Join(cfg.Embedded.Dir, "mark"), 0))
		}},
		"older copy put in its place": {
			midway: func(t *testing.T, dir string) { copyDir(t, dir, dir+".backup") },
			while: func(t *testing.T, cfg cluster.Config) {
				must(t, os.RemoveAll(cfg.Embedded.Dir))
				copyDir(t, cfg.Embedded.Dir+".backup", cfg.Embedded.Dir)
			},
		},
		"older copy written over it": {
			midway: func(t *testing.T, dir string) { copyDir(t, dir, dir+".backup") },
			while:  func(t *testing.T, cfg cluster.Config) { copyDir(t, cfg.Embedded.Dir+".backup/.", cfg.Embedded.Dir) },
		},
		"older copy of the log alone": {
			midway: func(t *testing.T, dir string) { copyDir(t, filepath.Join(dir, "alone"), dir+".backup") },
			while: func(t *testing.T, cfg cluster.Config) {
				must(t, os.RemoveAll(filepath.Join(cfg.Embedded.Dir, "alone")))
				copyDir(t, cfg.Embedded.Dir+".backup", filepath.Join(cfg.Embedded.Dir, "alone"))
			},
		},
		"used under another name": {while: func(t *testing.T, cfg cluster.Config) {
			cfg.Name = "other"
			m := start(t, cfg)
			serving(t, m)
			m.publish(t, toAll("between"))
			m.end(t)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := configs(t, 1)[0]
			m := start(t, cfg)
			serving(t, m)
			given := make(map[string]bool)
			var first, last string
			for i := range published {
				if last = m.publish(t, toAll(fmt.Sprint(i))).ID; i == 0 {
					first = last
				}
				given[last] = true
				if i == published/2 && test.midway != nil {
					m.end(t)
					test.midway(t, cfg.Embedded.Dir)
					m = start(t, cfg)
					serving(t, m)
				}
			}
			if test.killed {
				m.kill(t)
			} else {
				m.end(t)
			}
			if test.while != nil {
				test.while(t, cfg)
			}
			m = start(t, cfg)
			serving(t, m)
			for i := range 2 * published {
				if id := m.publish(t, toAll(fmt.Sprint("new ", i))).ID; given[id] {
					t.Errorf("the id %s is given twice", id)
				} else if same := epochOf(id) == epochOf(last); same != test.same {
					t.Fatalf("the epoch was %s and is %s", epochOf(last), epochOf(id))
				}
			}
			if test.gap {
				if reason := m.reset(t, first); reason != "expired" {
					t.Errorf("a client with the id %s gets a reset for %s, want expired", first, reason)
				}
				return
			}
			if test.same {
				c := m.connect(t, broker.Subscription{LastEventID: first})
				eventually(t, func() bool { return len(c.data()) >= 3*published-1 }, func() string { return fmt.Sprintf("got %q", c.data()) })
				return
			}
			for _, id := range []string{first, last} {
				if reason := m.reset(t, id); reason != "unknown" {
					t.Errorf("a client with the id %s gets a reset for %s, want unknown", id, reason)
				}
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
