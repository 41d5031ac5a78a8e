package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/cluster"
	"github.com/peald/peald/internal/testbed"
)

// joining returns the configuration of a node that joins a cluster with a new
// directory.
func joining(tb testing.TB, cfg cluster.Config) cluster.Config {
	tb.Helper()
	embedded := *cfg.Embedded
	embedded.Dir, embedded.Addr = tb.TempDir(), testbed.FreeAddrs(tb, 1)[0]
	cfg.Embedded, cfg.Logger = &embedded, logger(tb).With("node", "new")
	return cfg
}

// replicated waits until the event log has three current replicas, and none on the
// node called gone.
func (m *member) replicated(tb testing.TB, gone string) {
	tb.Helper()
	eventually(tb, func() bool {
		replicas := m.LogMembers()
		return len(replicas) == 3 && !slices.ContainsFunc(replicas, func(r cluster.Member) bool { return r.Name == gone || !r.Current })
	}, func() string { return fmt.Sprintf("the replicas of the event log are %+v", m.LogMembers()) })
}

// TestReplaceNode loses a node together with its disk, replaces it, and then loses
// another node. If the first node still counted as a member, two of four would be
// missing.
func TestReplaceNode(t *testing.T) {
	t.Parallel()
	members := startAll(t, 3)
	first := members[0].publish(t, toAll("one"))
	checkRemoveErrors(t, members)
	name := members[2].Name()
	members[2].end(t)
	if err := os.RemoveAll(members[2].cfg.Embedded.Dir); err != nil {
		t.Fatal(err)
	}
	next := start(t, joining(t, members[0].cfg))
	serving(t, next)

	// The new node can only know the name from the leader.
	eventually(t, func() bool { return slices.Contains(next.Status().Members, name) }, func() string {
		return fmt.Sprintf("the new node lists the members %q, want %s among them", next.Status().Members, name)
	})

	// Any node can remove it.
	left, err := next.Remove(t.Context(), name)
	want := []string{members[0].Name(), members[1].Name(), next.Name()}
	slices.Sort(want)
	if err != nil || !slices.Equal(left, want) {
		t.Fatalf("removing %s left %q, %v; want %q", name, left, err, want)
	}
	members[2] = next
	for _, m := range members {
		m.replicated(t, name)
	}
	members[2].end(t)
	last := members[1].publish(t, toAll("two"))
	if last.ID == first.ID {
		t.Error("two events have the same id")
	}
	members[1].connect(t, broker.Subscription{LastEventID: first.ID}).gets(t, "two")

	// One of three members isn't a quorum.
	members[1].end(t)
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	_, err = members[0].Remove(ctx, members[2].Name())
	if _, ok := errors.AsType[*broker.UnavailableError](err); !ok {
		t.Errorf("without a quorum: error %v, want unavailable", err)
	}
}

func checkRemoveErrors(t *testing.T, members []*member) {
	t.Helper()
	for name, c := range map[string]struct {
		remove string
		kind   error
		reason string // part of it
	}{
		"a running node":  {members[1].Name(), cluster.ErrNotRemovable, "is running"},
		"the node itself": {members[0].Name(), cluster.ErrNotRemovable, "send the request to another one"},
		"an unknown node": {"nobody", cluster.ErrNoSuchMember, members[2].Name()},
	} {
		_, err := members[0].Remove(t.Context(), c.remove)
		if failure, ok := errors.AsType[*cluster.RemoveError](err); !ok || !errors.Is(err, c.kind) || !strings.Contains(failure.Reason, c.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
