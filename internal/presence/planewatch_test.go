package presence_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// watchStream is the server stream of a WatchConnections call.
type watchStream struct {
	grpc.ServerStream

	ctx    context.Context
	mu     sync.Mutex
	events []string
}

func (w *watchStream) Context() context.Context { return w.ctx }

func (w *watchStream) Send(response *pealv1.WatchConnectionsResponse) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e := response.GetEvent().(type) {
	case *pealv1.WatchConnectionsResponse_Present:
		w.events = append(w.events, fmt.Sprintf("%s has %d", e.Present.GetUserId(), e.Present.GetConnections()))
	case *pealv1.WatchConnectionsResponse_SnapshotComplete:
		w.events = append(w.events, fmt.Sprintf("complete, %d anonymous", e.SnapshotComplete.GetAnonymousConnections()))
	case *pealv1.WatchConnectionsResponse_Opened:
		w.events = append(w.events, fmt.Sprintf("%s opened %d", e.Opened.GetUserId(), e.Opened.GetConnections()))
	case *pealv1.WatchConnectionsResponse_Ended:
		w.events = append(w.events, fmt.Sprintf("%s ended %d %s", e.Ended.GetUserId(), e.Ended.GetConnections(), e.Ended.GetReason()))
	}
	return nil
}

// expect waits until exactly these events were sent, and clears them.
func (w *watchStream) expect(t *testing.T, want ...string) {
	t.Helper()
	var events []string
	eventually(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		events = slices.Clone(w.events)
		return len(events) >= len(want)
	}, "got %q, want %q", &events, want)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.events, want) {
		t.Fatalf("got %q, want %q", w.events, want)
	}
	w.events = nil
}

// watch watches the subscribers of a topic, or all streams if it is empty.
func (p plane) watch(t *testing.T, topic string) *watchStream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &watchStream{ctx: ctx}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.WatchConnections(&pealv1.WatchConnectionsRequest{Topic: topic}, w); ctx.Err() == nil {
			t.Errorf("the watch has ended: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

func TestWatchConnectionsCoversAllNodes(t *testing.T) {
	t.Parallel()
	s := startNATS(t)
	a, b, c := joinPlane(t, s, "a"), joinPlane(t, s, "b"), joinPlane(t, s, "c")
	joined(t, a.member, b.member, c.member)
	a.connect(t, "alice")
	b.connect(t, "alice")
	b.connect(t, "bob")
	c.connect(t, "")
	w := a.watch(t, "")
	w.expect(t, "alice has 2", "bob has 1", "complete, 1 anonymous")

	c.connect(t, "alice")
	w.expect(t, "alice opened 3")
	a.connect(t, "")
	w.expect(t, " opened 2")
	if _, err := b.Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: "alice"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.events) == 3 }, "the closed streams are not reported")
	w.expect(t, "alice ended 2 disconnected", "alice ended 1 disconnected", "alice ended 0 disconnected")

	// A node that joins with an open stream.
	d := joinPlane(t, s, "d")
	d.connect(t, "bob")
	w.expect(t, "bob opened 2")

	// A node that dies.
	b.kill()
	w.expect(t, "bob ended 1 node_lost")
	c.stop()
	w.expect(t, " ended 1 node_lost")
}

func TestWatchOfATopicCoversAllNodes(t *testing.T) {
	t.Parallel()
	s := startNATS(t)
	a, b, c := joinPlane(t, s, "a"), joinPlane(t, s, "b"), joinPlane(t, s, "c")
	joined(t, a.member, b.member, c.member)
	a.connect(t, "alice", "orders.7")
	b.connect(t, "alice", "orders.*", ">")
	b.connect(t, "alice", "news")
	c.connect(t, "bob", "orders.7", "news")
	c.connect(t, "carol", "news")
	c.connect(t, "", "orders.>")
	w := a.watch(t, "orders.7")
	w.expect(t, "alice has 2", "bob has 1", "complete, 1 anonymous")

	c.connect(t, "carol")
	b.connect(t, "carol", "orders.8", "*.8")
	hangUp := b.connect(t, "carol", "orders.7", "*.7")
	w.expect(t, "carol opened 1")
	hangUp()
	w.expect(t, "carol ended 0 hung_up")
	if _, err := a.Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: "bob"}); err != nil {
		t.Fatal(err)
	}
	w.expect(t, "bob ended 0 disconnected")

	// A node that joins with subscribers.
	d := joinPlane(t, s, "d")
	d.connect(t, "bob", "news")
	d.connect(t, "bob", "orders.7")
	w.expect(t, "bob opened 1")

	// A node that dies.
	b.kill()
	w.expect(t, "alice ended 1 node_lost")
	c.stop()
	w.expect(t, " ended 0 node_lost")
}

// TestOlderNodesInAWatchOfATopic checks that a node that doesn't know watches of topics
// doesn't report all of its streams as subscribers.
func TestOlderNodesInAWatchOfATopic(t *testing.T) {
	t.Parallel()
	s := startNATS(t)
	a := joinPlane(t, s, "a")
	older := join(t, s, "older", olderHandler{})
	joined(t, a.member, older)
	older.connect(t, "bob", "news")
	a.connect(t, "alice", "orders.7")
	w := a.watch(t, "orders.7")
	w.expect(t, "alice has 1", "complete, 0 anonymous")
}

// olderHandler handles watches of connections without reading their requests, as the
// first versions of the daemon did.
type olderHandler struct{ nameHandler }

func (olderHandler) HandleWatch(ctx context.Context, method string, _ []byte, send func([]byte) error) error {
	if method != pealv1.ControlService_WatchConnections_FullMethodName {
		return errors.New("this method can't be watched")
	}
	for _, resp := range []*pealv1.WatchConnectionsResponse{
		{Event: &pealv1.WatchConnectionsResponse_Present{Present: &pealv1.User{UserId: "bob", Connections: 1}}},
		{Event: &pealv1.WatchConnectionsResponse_SnapshotComplete{SnapshotComplete: &pealv1.SnapshotComplete{}}},
	} {
		response, err := proto.Marshal(resp)
		if err != nil {
			return err
		}
		if err := send(response); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}
