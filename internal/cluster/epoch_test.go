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

// epochOf returns the epoch of an id.
func epochOf(id string) string {
	epoch, _, _ := strings.Cut(id, "-")
	return epoch
}

// copyDir copies a directory as an operator would.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp -a: %v: %s", err, out)
	}
}

// eventLog returns the directory of the event log of a standalone node.
func eventLog(dir string) string {
	return filepath.Join(dir, "alone", "jetstream", "$G", "streams", "test")
}

// reset returns the reason for the reset that a client with an id gets first.
func (m *member) reset(t *testing.T, id string) string {
	t.Helper()
	c := m.connect(t, broker.Subscription{LastEventID: id})
	eventually(t, func() bool { return len(c.data()) > 0 }, func() string { return "a client with the id " + id + " receives nothing" })
	data := c.data()[0]
	for _, reason := range []string{"unknown", "expired"} {
		if strings.Contains(data, `"reason":"`+reason+`"`) {
			return reason
		}
	}
	return "none: " + data
}

// published is the number of messages that a node acknowledges before its directory
// is changed.
const published = 5

// TestEpochs changes the directory of a standalone node while it is down. If the
// whole event log is left, the node must keep its epoch. Otherwise it must use no
// id twice, and clients must get a reset.
func TestEpochs(t *testing.T) {
	t.Parallel()
	blocks := func(t *testing.T, cfg cluster.Config) string {
		t.Helper()
		return filepath.Join(eventLog(cfg.Embedded.Dir), "msgs", "1.blk")
	}
	for name, test := range map[string]struct {
		// midway is called with the directory of the node while it is down, after
		// half of the messages.
		midway func(t *testing.T, dir string)
		while  func(t *testing.T, cfg cluster.Config)
		killed bool // whether the node is killed instead of shut down
		same   bool // whether the node keeps its epoch
		gap    bool // whether the event log has a gap
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
		"event log removed": {while: func(t *testing.T, cfg cluster.Config) { must(t, os.RemoveAll(eventLog(cfg.Embedded.Dir))) }},
		"mark removed":      {while: func(t *testing.T, cfg cluster.Config) { must(t, os.Remove(filepath.Join(cfg.Embedded.Dir, "mark"))) }},
		"mark emptied": {while: func(t *testing.T, cfg cluster.Config) {
			must(t, os.Truncate(filepath.Join(cfg.Embedded.Dir, "mark"), 0))
		}},
		"replaced with an older copy": {
			midway: func(t *testing.T, dir string) { copyDir(t, dir, dir+".backup") },
			while: func(t *testing.T, cfg cluster.Config) {
				must(t, os.RemoveAll(cfg.Embedded.Dir))
				copyDir(t, cfg.Embedded.Dir+".backup", cfg.Embedded.Dir)
			},
		},
		"older copy copied over it": {
			midway: func(t *testing.T, dir string) { copyDir(t, dir, dir+".backup") },
			while:  func(t *testing.T, cfg cluster.Config) { copyDir(t, cfg.Embedded.Dir+".backup/.", cfg.Embedded.Dir) },
		},
		"older copy of the event log only": {
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
					t.Errorf("the id %s is used twice", id)
				} else if same := epochOf(id) == epochOf(last); same != test.same {
					t.Fatalf("the epoch went from %s to %s", epochOf(last), epochOf(id))
				}
			}
			if test.gap {
				if reason := m.reset(t, first); reason != "expired" {
					t.Errorf("a client with the id %s gets a reset with reason %s, want expired", first, reason)
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
					t.Errorf("a client with the id %s gets a reset with reason %s, want unknown", id, reason)
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
