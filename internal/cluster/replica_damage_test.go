package cluster_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/cluster"
)

// TestADamagedFileOfAReplica damages each file of one node of three while it is
// down: it serves then, and its replica gets what it lacks from the others; or it
// refuses to start with one line that names the file. A client misses nothing, or
// gets a reset.
//
// Each file is damaged in one way, and flipped too where the server can't check
// it; with SOAK_CLUSTER each is damaged in all ways.
//
//nolint:tparallel // it is one cluster, whose files are damaged in turn
func TestADamagedFileOfAReplica(t *testing.T) {
	t.Parallel()
	another := newVictim(t)
	another.publish(t, 2*published)
	for _, m := range another.members {
		m.end(t)
	}
	v := newVictim(t)
	v.publish(t, published)
	v.restart(t) // which makes the snapshots
	v.victim().end(t)
	older := v.dir() + ".older"
	copyDir(t, v.dir(), older)
	v.members[2] = start(t, v.victim().cfg)
	serving(t, v.victim())
	v.publish(t, published)
	v.restart(t)

	v.victim().end(t)
	names := slices.Sorted(maps.Keys(damages()))
	var kinds []string
	for _, file := range filesOf(t, v.dir()) {
		if kind := kindOf(file); !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	for _, need := range []string{"name", "mark", "blk", "_meta_/snapshots/snap", "group/snapshots/snap", "_meta_/tav.idx"} {
		if !slices.ContainsFunc(kinds, func(kind string) bool { return strings.HasSuffix(kind, need) }) {
			t.Fatalf("no %s among %q", need, kinds)
		}
	}
	for i, kind := range kinds {
		for j, damage := range names {
			fragile := damage == "flipped" && (strings.HasSuffix(kind, "/snap") || strings.HasSuffix(kind, "/tav.idx"))
			if os.Getenv("SOAK_CLUSTER") == "" && i%len(names) != j && !fragile {
				continue
			}
			t.Run(kind+"/"+damage, func(t *testing.T) {
				path := ofKind(t, v.dir(), kind)
				if path == "" {
					t.Skip("the node has no such file at the moment")
				}
				v.damage(t, damaged{path, older, another.dir(), kind}, damages()[damage])
			})
			if t.Failed() {
				return // the cluster may be of no use any more
			}
		}
	}
}

// victim is a cluster of three whose last node has its files damaged.
type victim struct {
	t       *testing.T // of the cluster, which outlives those of files
	members []*member
	ids     []string
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	return &victim{t: t, members: startAll(t, 3)}
}

func (v *victim) victim() *member { return v.members[2] }
func (v *victim) dir() string     { return v.victim().cfg.Embedded.Dir }

// publish publishes on another node.
func (v *victim) publish(t *testing.T, messages int) {
	t.Helper()
	for range messages {
		data := fmt.Sprint(len(v.ids), strings.Repeat(" ", 1000))
		v.ids = append(v.ids, v.members[0].publish(t, toAll(data)).ID)
	}
}

func (v *victim) restart(t *testing.T) {
	t.Helper()
	v.victim().end(t)
	v.members[2] = start(v.t, v.victim().cfg)
	serving(t, v.victim())
	v.same(t)
}

// damage does something to a file of the node, which is down, before and after.
func (v *victim) damage(t *testing.T, file damaged, do func(*testing.T, damaged) bool) {
	t.Helper()
	sound := v.dir() + ".sound"
	must(t, os.RemoveAll(sound))
	copyDir(t, v.dir(), sound)
	if !do(t, file) {
		t.Skip("it is the same file")
	}
	v.publish(t, 1)
	m, err := tryStart(v.t, v.victim().cfg, brokerConfig())
	if err != nil {
		namesFile(t, err, file.path)
		must(t, os.RemoveAll(v.dir()))
		must(t, os.Rename(sound, v.dir()))
		return
	}
	v.members[2] = m
	defer m.end(t)
	serving(t, m)
	c := m.connect(t, broker.Subscription{LastEventID: v.ids[0]})
	eventually(t, func() bool {
		got := c.data()
		return len(got) >= len(v.ids)-1 || len(got) > 0 && strings.Contains(got[0], `"reason":`)
	}, func() string {
		return fmt.Sprintf("a client gets %d events and no reset, want %d", len(c.data()), len(v.ids)-1)
	})
	v.same(t)
}

// same waits until the node's replica of the log is what the first node's is.
func (v *victim) same(t *testing.T) {
	t.Helper()
	var have, want string
	eventually(t, func() bool {
		have, want = v.victim().Replica(t), v.members[0].Replica(t)
		replicas := v.members[0].LogMembers()
		return have == want && len(replicas) == 3 && !slices.ContainsFunc(replicas, func(r cluster.Member) bool { return !r.Current })
	}, func() string {
		return fmt.Sprintf("the node's replica has %s, want %s; the replicas are %+v", have, want, v.members[0].LogMembers())
	})
}
