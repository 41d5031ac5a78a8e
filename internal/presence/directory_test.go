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
	a, b, c = join(t, s, "a", nameHandler{name: "a"}), join(t, s, "b", nameHandler{name: "b"}), join(t, s, "c", nameHandler{name: "c"})
	joined(t, a, b, c)
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
		eventually(t, func() bool { return m.Elsewhere("alice") == want }, "%s doesn't count %d streams", m.name, want)
	}
	hangUp()
	for m, want := range map[*member]int{a: 2, b: 2, c: 2} {
		eventually(t, func() bool { return m.Elsewhere("alice") == want }, "%s doesn't count %d streams", m.name, want)
	}
	if n := a.Elsewhere("bob"); n != 0 {
		t.Errorf("bob has %d streams, want 0", n)
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
		"everyone":             {broker.Everyone(), 3},
		"a user":               {broker.ToUser("alice"), 1},
		"a topic and patterns": {broker.ToTopic("orders.1"), 3}, // b's stream counts twice, but c has only 2 streams
		"several patterns":     {broker.ToTopic("orders.2"), 2},
		"one pattern":          {broker.ToTopic("orders.2.3"), 1},
		"nobody":               {broker.ToTopic("stock"), 0},
	} {
		eventually(t, func() bool { return a.Recipients(test.to) == test.want }, "%s: the estimate is not %d", what, test.want)
	}
}

func TestANewNodeRequestsAllCounts(t *testing.T) {
	t.Parallel()
	const users = 20_000 // on many pages
	s := startNATS(t)
	a := join(t, s, "a", nameHandler{name: "a"})
	for i := range users {
		a.connect(t, fmt.Sprint("user", i), "topic"+fmt.Sprint(i), "all")
	}
	if _, err := a.broker.Disconnect("mallory", time.Hour); err != nil {
		t.Fatal(err)
	}
	b := join(t, s, "b", nameHandler{name: "b"})
	eventually(t, func() bool { return b.Recipients(broker.Everyone()) == users }, "the new node lacks counts")
	for i := range users {
		if n := b.Elsewhere(fmt.Sprint("user", i)); n != 1 {
			t.Fatalf("user%d has %d streams, want 1", i, n)
		}
	}
	if n := b.Recipients(broker.ToTopic("all")); n != users {
		t.Errorf("the topic has %d recipients, want %d", n, users)
	}
	if !b.broker.Banned("mallory") {
		t.Error("the banned user is not banned on the new node")
	}
	if b.broker.Banned("user1") {
		t.Error("a user who is not banned is banned on the new node")
	}
}

func TestBansAreAnnounced(t *testing.T) {
	t.Parallel()
	a, b, _ := three(t)
	b.connect(t, "mallory")
	eventually(t, func() bool { return a.Elsewhere("mallory") == 1 }, "the stream is not announced")
	if _, err := a.broker.Disconnect("mallory", time.Hour); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return b.broker.Banned("mallory") }, "the ban is unknown to the other node")
	eventually(t, func() bool { return b.broker.Tally().Streams == 0 }, "the banned user's stream stays open")

	// The later ban applies, even if it is shorter.
	if _, err := b.broker.Disconnect("mallory", 2*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*member{a, b} {
		eventually(t, func() bool { return !m.broker.Banned("mallory") }, "the first ban still applies on %s", m.name)
	}
}

// TestEndedBansReplaceEarlierOnes sets a ban on a node that doesn't know of an earlier,
// longer ban, and that ends before any other node learns of it. The earlier ban must
// end on all nodes, including one that joins later.
func TestEndedBansReplaceEarlierOnes(t *testing.T) {
	t.Parallel()
	s := startNATS(t)
	a := join(t, s, "a", nameHandler{name: "a"})
	if _, err := a.broker.Disconnect("mallory", time.Hour); err != nil {
		t.Fatal(err)
	}
	b := join(t, s, "b", nameHandler{name: "b"})
	if _, err := b.broker.Disconnect("mallory", time.Nanosecond); err != nil {
		t.Fatal(err)
	}
	known := func(m *member) bool {
		bans := m.broker.Bans("", 10)
		return len(bans) == 1 && bans[0].Until.Before(time.Now()) && time.Until(bans[0].KeepUntil) > 30*time.Minute
	}
	for _, m := range []*member{a, b} {
		eventually(t, func() bool { return known(m) }, "%s doesn't know that the ban has ended: %v", m.name, m.broker.Bans("", 10))
	}

	c := join(t, s, "c", nameHandler{name: "c"})
	eventually(t, func() bool { return known(c) }, "the new node doesn't know that the ban has ended: %v", c.broker.Bans("", 10))
	for _, m := range []*member{a, b, c} {
		if m.broker.Banned("mallory") {
			t.Errorf("the earlier ban still applies on %s", m.name)
		}
	}
}

func TestNodesLeaveOrAreLost(t *testing.T) {
	t.Parallel()
	a, b, c := three(t)
	b.connect(t, "alice")
	c.connect(t, "alice")
	eventually(t, func() bool { return a.Elsewhere("alice") == 2 }, "the streams are not counted")
	b.stop()
	eventually(t, func() bool { return len(a.Nodes()) == 2 && a.Elsewhere("alice") == 1 }, "the node that left is still listed: %v", a.Nodes())
	c.kill()
	eventually(t, func() bool { return a.Elsewhere("alice") == 0 }, "streams of a dead node are counted")
	eventually(t, func() bool { return state(a, "c") == pealv1.NodeState_NODE_STATE_LOST }, "the dead node is not lost: %v", a.Nodes())
	if n := a.Recipients(broker.Everyone()); n != 0 {
		t.Errorf("a lost node has %d streams", n)
	}
	if missing := a.Query(t.Context(), "call", nil, func(string, []byte) {}); !slices.Equal(missing, []string{"c"}) {
		t.Errorf("missing nodes: %q, want the lost node", missing)
	}
}

func TestAbsentMembersAreListedUntilRemoved(t *testing.T) {
	t.Parallel()
	a, b, c := three(t)
	a.members.Store(&[]string{"a", "b", "c", "d"})
	if got := state(a, "d"); got != pealv1.NodeState_NODE_STATE_ABSENT {
		t.Errorf("the unknown member is %s, want absent", got)
	}
	b.stop()
	eventually(t, func() bool { return state(a, "b") == pealv1.NodeState_NODE_STATE_ABSENT }, "the member that left is not absent: %v", a.Nodes())
	c.kill()
	eventually(t, func() bool { return state(a, "c") == pealv1.NodeState_NODE_STATE_LOST }, "the dead node is not lost: %v", a.Nodes())
	if missing := a.Query(t.Context(), "call", nil, func(string, []byte) {}); !slices.Equal(missing, []string{"c"}) {
		t.Errorf("missing nodes: %q, want only the lost node", missing)
	}
	a.members.Store(&[]string{"a"})
	eventually(t, func() bool { return len(a.Nodes()) == 1 }, "removed nodes are still listed: %v", a.Nodes())
}

func state(m *member, name string) pealv1.NodeState {
	for _, n := range m.Nodes() {
		if n.GetName() == name {
			return n.GetState()
		}
	}
	return pealv1.NodeState_NODE_STATE_UNSPECIFIED
}

func TestDrainingNodesDontCountForLimits(t *testing.T) {
	t.Parallel()
	a, b, _ := three(t)
	b.connect(t, "alice")
	eventually(t, func() bool { return a.Elsewhere("alice") == 1 }, "the stream is not counted")
	b.SetDraining(true)
	eventually(t, func() bool { return a.Elsewhere("alice") == 0 }, "a stream that is about to be closed counts")
	if got := state(a, "b"); got != pealv1.NodeState_NODE_STATE_DRAINING {
		t.Errorf("the node is %s, want draining", got)
	}
	if n := a.Recipients(broker.ToUser("alice")); n != 1 {
		t.Errorf("%d recipients, want 1", n)
	}
}

func TestQueryNamesNodesThatDontReply(t *testing.T) {
	t.Parallel()
	s := startNATS(t)
	a := join(t, s, "a", nameHandler{name: "a"})
	b, c := join(t, s, "b", nameHandler{name: "b"}), join(t, s, "c", nameHandler{name: "c", mute: true})
	d := join(t, s, "d", nameHandler{name: "d", fail: true})
	joined(t, a, b, c, d)
	var responses []string
	begin := time.Now()
	missing := a.Query(t.Context(), "call", []byte("request"), func(node string, response []byte) {
		responses = append(responses, node+": "+string(response))
	})
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("the query took %s", took)
	}
	if !slices.Equal(missing, []string{"c", "d"}) || !slices.Equal(responses, []string{"b: b call request"}) {
		t.Errorf("got %q, missing %q", responses, missing)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if missing := a.Query(ctx, "call", nil, func(string, []byte) {}); ctx.Err() != nil || !slices.Equal(missing, []string{"c", "d"}) {
		t.Errorf("the query returned after the caller's deadline: %v, missing %q", ctx.Err(), missing)
	}
}

// recorder records the calls to a receiver.
type recorder struct {
	mu    sync.Mutex
	calls []string
}

func (h *recorder) add(call string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, call)
}

func (h *recorder) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprintf("%q", h.calls)
}

func (h *recorder) has(calls ...string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Equal(slices.Sorted(slices.Values(h.calls)), calls)
}

func (h *recorder) Receive(node string, responses [][]byte) {
	for _, r := range responses {
		h.add(node + " sends " + string(r))
	}
}
func (h *recorder) Restart(node string) { h.add(node + " restarts") }
func (h *recorder) End(node string)     { h.add(node + " ends") }

var _ presence.Receiver = new(recorder)

func TestWatchFollowsNodesThatJoinAndLeave(t *testing.T) {
	t.Parallel()
	s := startNATS(t)
	a, b := join(t, s, "a", nameHandler{name: "a"}), join(t, s, "b", nameHandler{name: "b"})
	joined(t, a, b)
	var (
		h       recorder
		running sync.WaitGroup
	)
	ctx, cancel := context.WithCancel(t.Context())
	defer running.Wait()
	defer cancel()
	started := make(chan []string, 1)
	running.Go(func() { a.Watch(ctx, "call", nil, &h, func(nodes []string) { started <- nodes }) })
	if nodes := <-started; !slices.Equal(nodes, []string{"b"}) {
		t.Errorf("the watch started on %q, want b", nodes)
	}
	eventually(t, func() bool { return h.has("b sends b") }, "got %s", &h)
	c := join(t, s, "c", nameHandler{name: "c"})
	eventually(t, func() bool { return h.has("b sends b", "c sends c") }, "got %s", &h)
	b.kill()
	eventually(t, func() bool { return h.has("b ends", "b sends b", "c sends c") }, "got %s", &h)
	c.stop()
	eventually(t, func() bool { return h.has("b ends", "b sends b", "c ends", "c sends c") }, "got %s", &h)
}

// TestQueryReturnsAfterAnErrorReply queries a node that replies with an error,
// without a timeout.
func TestQueryReturnsAfterAnErrorReply(t *testing.T) {
	t.Parallel()
	s := startNATS(t)
	a := join(t, s, "a", nameHandler{name: "a"})
	join(t, s, "b", nameHandler{name: "b", fail: true})
	eventually(t, func() bool { return len(a.Nodes()) == 2 }, "the nodes don't find each other")
	failed, err := a.QueryWithoutTimeout(t.Context(), "/method")
	if err != nil || !slices.Equal(failed, []string{"b"}) {
		t.Errorf("failed: %q (%v), want b", failed, err)
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
	eventually(t, func() bool { return strings.HasSuffix(reason(), "broken replica of the event log: empty") }, "the broken replica is not announced: %v", a.Nodes())
	b.broken.Store(false)
	eventually(t, func() bool { return reason() == "" }, "the recovered replica is still announced as broken: %v", a.Nodes())
}
