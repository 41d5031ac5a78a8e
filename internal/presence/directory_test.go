package presence_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/presence"
)

func three(t *testing.T) (a, b, c *member) {
	t.Helper()
	s := startNATS(t)
	a, b, c = join(t, s, "a", names{name: "a"}), join(t, s, "b", names{name: "b"}), join(t, s, "c", names{name: "c"})
	all(t, a, b, c)
	return a, b, c
}

func TestStreamsElsewhereAreCounted(t *testing.T) {
	t.Parallel()
	a, b, c := three(t)
	hangUp := b.connect(t, "alice")
	b.connect(t, "alice")
	c.connect(t, "alice")
	a.connect(t, "alice")
	for m, want := range map[*member]int{a: 3, b: 2, c: 3} {
		eventually(t, func() bool { return m.Elsewhere("alice") == want }, "%s counts other than %d", m.name, want)
	}
	hangUp()
	for m, want := range map[*member]int{a: 2, b: 2, c: 2} {
		eventually(t, func() bool { return m.Elsewhere("alice") == want }, "%s counts other than %d", m.name, want)
	}
	if n := a.Elsewhere("bob"); n != 0 {
		t.Errorf("bob has %d streams, who has none", n)
	}
}

func TestRecipientsAreEstimated(t *testing.T) {
	t.Parallel()
	a, b, c := three(t)
	b.connect(t, "alice", "orders.1", "orders.*")
	c.connect(t, "bob", "orders.>")
	c.connect(t, "", "orders.1")
	a.connect(t, "alice")
	for what, test := range map[string]struct {
		to   broker.Audience
		want int
	}{
		"everyone":               {broker.Everyone(), 3},
		"a user":                 {broker.ToUser("alice"), 1},
		"a topic, twice for b's": {broker.ToTopic("orders.1"), 4 - 1}, // no more than c has streams, and one of b's
		"by patterns alone":      {broker.ToTopic("orders.2"), 2},
		"by one pattern":         {broker.ToTopic("orders.2.3"), 1},
		"nobody":                 {broker.ToTopic("stock"), 0},
	} {
		eventually(t, func() bool { return a.Recipients(test.to) == test.want }, "%s: other than %d are estimated", what, test.want)
	}
}

func TestANodeThatJoinsGetsToKnowAll(t *testing.T) {
	t.Parallel()
	const users = 20_000 // in many pages
	s := startNATS(t)
	a := join(t, s, "a", names{name: "a"})
	for i := range users {
		a.connect(t, fmt.Sprint("user", i), "topic"+fmt.Sprint(i), "all")
	}
	if _, err := a.broker.Disconnect("mallory", time.Hour); err != nil {
		t.Fatal(err)
	}
	b := join(t, s, "b", names{name: "b"})
	eventually(t, func() bool { return b.Recipients(broker.Everyone()) == users }, "the newcomer doesn't know all")
	for i := range users {
		if n := b.Elsewhere(fmt.Sprint("user", i)); n != 1 {
			t.Fatalf("user%d has %d streams, want 1", i, n)
		}
	}
	if n := b.Recipients(broker.ToTopic("all")); n != users {
		t.Errorf("the topic has %d recipients, want %d", n, users)
	}
	if !b.broker.Barred("mallory") {
		t.Error("whoever was to stay away doesn't have to on the newcomer")
	}
	if b.broker.Barred("user1") {
		t.Error("somebody has to stay away who was not told so")
	}
}

func TestABarIsAnnounced(t *testing.T) {
	t.Parallel()
	a, b, _ := three(t)
	b.connect(t, "mallory")
	eventually(t, func() bool { return a.Elsewhere("mallory") == 1 }, "no stream is announced")
	if _, err := a.broker.Disconnect("mallory", time.Hour); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return b.broker.Barred("mallory") }, "the other node doesn't know of the bar")
	eventually(t, func() bool { return b.broker.Tally().Streams == 0 }, "the stream goes on")

	// The later one holds, also if it is shorter.
	if _, err := b.broker.Disconnect("mallory", 2*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*member{a, b} {
		eventually(t, func() bool { return !m.broker.Barred("mallory") }, "the first bar still holds on %s", m.name)
	}
}

func TestANodeThatLeavesIsForgottenAndOneThatDiesIsLost(t *testing.T) {
	t.Parallel()
	a, b, c := three(t)
	b.connect(t, "alice")
	c.connect(t, "alice")
	eventually(t, func() bool { return a.Elsewhere("alice") == 2 }, "the streams are not known")
	b.stop()
	eventually(t, func() bool { return len(a.Nodes()) == 2 && a.Elsewhere("alice") == 1 }, "the node that left is still there: %v", a.Nodes())
	c.kill()
	eventually(t, func() bool { return a.Elsewhere("alice") == 0 }, "streams of a dead node count")
	eventually(t, func() bool { return state(a, "c") == pealv1.NodeState_NODE_STATE_LOST }, "the dead node is not lost: %v", a.Nodes())
	if n := a.Recipients(broker.Everyone()); n != 0 {
		t.Errorf("a lost node has %d streams", n)
	}
	if missing := a.Ask(t.Context(), "call", nil, func(string, []byte) {}); !slices.Equal(missing, []string{"c"}) {
		t.Errorf("missing are %q, want the lost node", missing)
	}
}

func TestMembersThatAreNotThereAreToldOfUntilTheyAreRemoved(t *testing.T) {
	t.Parallel()
	a, b, c := three(t)
	a.counted.Store(&[]string{"a", "b", "c", "d"})
	if got := state(a, "d"); got != pealv1.NodeState_NODE_STATE_ABSENT {
		t.Errorf("a member of whom nothing is known is %s", got)
	}
	b.stop()
	eventually(t, func() bool { return state(a, "b") == pealv1.NodeState_NODE_STATE_ABSENT }, "the member that left is not absent: %v", a.Nodes())
	c.kill()
	eventually(t, func() bool { return state(a, "c") == pealv1.NodeState_NODE_STATE_LOST }, "the dead node is not lost: %v", a.Nodes())
	if missing := a.Ask(t.Context(), "call", nil, func(string, []byte) {}); !slices.Equal(missing, []string{"c"}) {
		t.Errorf("missing are %q, want the lost node: streams of the others are not", missing)
	}
	a.counted.Store(&[]string{"a"})
	eventually(t, func() bool { return len(a.Nodes()) == 1 }, "nodes that were removed are still told of: %v", a.Nodes())
}

func state(m *member, name string) pealv1.NodeState {
	for _, n := range m.Nodes() {
		if n.GetName() == name {
			return n.GetState()
		}
	}
	return pealv1.NodeState_NODE_STATE_UNSPECIFIED
}

func TestWhoDrainsIsNotHeldAgainstUsers(t *testing.T) {
	t.Parallel()
	a, b, _ := three(t)
	b.connect(t, "alice")
	eventually(t, func() bool { return a.Elsewhere("alice") == 1 }, "the stream is not known")
	b.SetDraining(true)
	eventually(t, func() bool { return a.Elsewhere("alice") == 0 }, "a stream that is about to end counts")
	if got := state(a, "b"); got != pealv1.NodeState_NODE_STATE_DRAINING {
		t.Errorf("the node is %s", got)
	}
	if n := a.Recipients(broker.ToUser("alice")); n != 1 {
		t.Errorf("%d streams are left, want the one", n)
	}
}

func TestAllAreAskedAndWhoIsSilentIsNamed(t *testing.T) {
	t.Parallel()
	s := startNATS(t)
	a := join(t, s, "a", names{name: "a"})
	b, c := join(t, s, "b", names{name: "b"}), join(t, s, "c", names{name: "c", mute: true})
	all(t, a, b, c)
	var heard []string
	begin := time.Now()
	missing := a.Ask(t.Context(), "call", []byte("request"), func(node string, response []byte) {
		heard = append(heard, node+": "+string(response))
	})
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("asking took %s", took)
	}
	if !slices.Equal(missing, []string{"c"}) || !slices.Equal(heard, []string{"b: b call request"}) {
		t.Errorf("heard %q, missing %q", heard, missing)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if missing := a.Ask(ctx, "call", nil, func(string, []byte) {}); ctx.Err() != nil || !slices.Equal(missing, []string{"c"}) {
		t.Errorf("the answers came after the caller's deadline: %v, missing %q", ctx.Err(), missing)
	}
}

// hearing collects what a follower hears.
type hearing struct {
	mu    sync.Mutex
	heard []string
}

func (h *hearing) add(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard = append(h.heard, what)
}

func (h *hearing) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprintf("%q", h.heard)
}

func (h *hearing) has(what ...string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Equal(slices.Sorted(slices.Values(h.heard)), what)
}

func (h *hearing) Hear(node string, responses [][]byte) {
	for _, r := range responses {
		h.add(node + " tells " + string(r))
	}
}
func (h *hearing) Again(node string) { h.add(node + " again") }
func (h *hearing) Gone(node string)  { h.add(node + " gone") }

var _ presence.Hearing = new(hearing)

func TestNodesAreFollowedAsTheyComeAndGo(t *testing.T) {
	t.Parallel()
	s := startNATS(t)
	a, b := join(t, s, "a", names{name: "a"}), join(t, s, "b", names{name: "b"})
	all(t, a, b)
	var (
		h       hearing
		running sync.WaitGroup
	)
	ctx, cancel := context.WithCancel(t.Context())
	defer running.Wait()
	defer cancel()
	begun := make(chan []string, 1)
	running.Go(func() { a.Follow(ctx, "call", nil, &h, func(nodes []string) { begun <- nodes }) })
	if nodes := <-begun; !slices.Equal(nodes, []string{"b"}) {
		t.Errorf("at the beginning there were %q", nodes)
	}
	eventually(t, func() bool { return h.has("b tells b") }, "heard %s", &h)
	c := join(t, s, "c", names{name: "c"})
	eventually(t, func() bool { return h.has("b tells b", "c tells c") }, "heard %s", &h)
	b.kill()
	eventually(t, func() bool { return h.has("b gone", "b tells b", "c tells c") }, "heard %s", &h)
	c.stop()
	eventually(t, func() bool { return h.has("b gone", "b tells b", "c gone", "c tells c") }, "heard %s", &h)
}

// TestAnErrorReplyIsNotWaitedFor asks a daemon that replies with an error, without
// any limit of time.
func TestAnErrorReplyIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	s := startNATS(t)
	a := join(t, s, "a", names{name: "a"})
	join(t, s, "b", names{name: "b", fail: true})
	eventually(t, func() bool { return len(a.Nodes()) == 2 }, "the daemons don't meet")
	failed, err := a.AskForever(t.Context(), "/method")
	if err != nil || !slices.Equal(failed, []string{"b"}) {
		t.Errorf("failed are %q, %v, want b", failed, err)
	}
}

func TestABrokenReplicaIsAnnounced(t *testing.T) {
	t.Parallel()
	a, b, _ := three(t)
	reason := func() string {
		for _, n := range a.Nodes() {
			if n.GetName() == "b" && n.GetState() == pealv1.NodeState_NODE_STATE_SERVING {
				return n.GetReason()
			}
		}
		return ""
	}
	b.broken.Store(true)
	eventually(t, func() bool { return strings.HasSuffix(reason(), "broken: it holds nothing") }, "the broken replica isn't announced: %v", a.Nodes())
	b.broken.Store(false)
	eventually(t, func() bool { return reason() == "" }, "the replica is still announced as broken: %v", a.Nodes())
}
