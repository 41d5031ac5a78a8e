package presence_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// plane is a node with a control plane.
type plane struct {
	*member
	*control.Service
}

// lateHandler is a Handler whose service is created after it.
type lateHandler struct {
	service *control.Service
	created chan struct{}
}

func (l *lateHandler) HandleQuery(ctx context.Context, method string, request []byte) ([]byte, error) {
	<-l.created
	return l.service.HandleQuery(ctx, method, request)
}

func (l *lateHandler) HandleWatch(ctx context.Context, method string, request []byte, send func([]byte) error) error {
	<-l.created
	return l.service.HandleWatch(ctx, method, request, send)
}

func joinPlane(tb testing.TB, s *server.Server, name string) plane {
	tb.Helper()
	handler := &lateHandler{created: make(chan struct{})}
	m := join(tb, s, name, handler)
	handler.service = control.New(control.Config{Version: "of " + name, Cluster: m.Directory}, m.broker, nil)
	close(handler.created)
	tb.Cleanup(handler.service.Close)
	stop := m.stop
	m.stop = func() { handler.service.EndCalls(); stop() }
	return plane{m, handler.service}
}

func planes(tb testing.TB, n int) (planes []plane) {
	tb.Helper()
	s := startNATS(tb)
	var members []*member
	for i := range n {
		planes = append(planes, joinPlane(tb, s, fmt.Sprint("node", i)))
		members = append(members, planes[i].member)
	}
	joined(tb, members...)
	return planes
}

func TestPagesMergeAllNodes(t *testing.T) {
	t.Parallel()
	all := planes(t, 3)
	rapid.Check(t, func(t *rapid.T) {
		want := make(map[string]int32)
		topics := make(map[string]int32)
		var hangUps []func()
		open := func(p plane, user, topic string) {
			hangUps = append(hangUps, p.connect(t, user, topic))
			want[user]++
			topics[topic]++
		}
		for range rapid.IntRange(0, 60).Draw(t, "streams") {
			open(all[rapid.IntRange(0, 2).Draw(t, "node")],
				rapid.StringMatching(`[abé]{1,3}`).Draw(t, "user"), rapid.StringMatching(`[xyz]{1,2}(\.\*)?`).Draw(t, "topic"))
		}
		size := int32(rapid.IntRange(1, 20).Draw(t, "size"))
		prefix := rapid.SampledFrom([]string{"", "a", "é", "bb"}).Draw(t, "prefix")
		got := make(map[string]int32)
		var order []string
		for token := ""; ; {
			reply, err := all[rapid.IntRange(0, 2).Draw(t, "queried")].ListUsers(context.Background(),
				&pealv1.ListUsersRequest{PageSize: size, PageToken: token, Prefix: prefix})
			if err != nil || len(reply.GetMissingNodes()) > 0 {
				t.Fatalf("%v, missing %q", err, reply.GetMissingNodes())
			}
			for _, u := range reply.GetUsers() {
				order = append(order, u.GetUserId())
				got[u.GetUserId()] += u.GetConnections()
			}
			token = reply.GetNextPageToken()
			if n := int32(len(reply.GetUsers())); n > size || token != "" && n < size {
				t.Fatalf("a page of %d users, want %d", n, size)
			}
			if token == "" {
				break
			}
		}
		for user := range want {
			if !strings.HasPrefix(user, prefix) {
				delete(want, user)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) || !slices.IsSorted(order) || len(order) != len(want) {
			t.Fatalf("got %v in the order %q, want %v", got, order, want)
		}
		reply, err := all[0].ListTopics(context.Background(), &pealv1.ListTopicsRequest{PageSize: 1000})
		if err != nil {
			t.Fatal(err)
		}
		gotTopics := make(map[string]int32)
		for _, topic := range reply.GetTopics() {
			gotTopics[topic.GetTopic()] = topic.GetSubscribers()
		}
		if fmt.Sprint(gotTopics) != fmt.Sprint(topics) {
			t.Fatalf("topics are %v, want %v", gotTopics, topics)
		}
		for _, hangUp := range hangUps {
			hangUp()
		}
		for _, p := range all {
			eventually(t, func() bool { return p.broker.Tally().Streams == 0 }, "streams stay open")
		}
	})
}

func TestStatsAreSummed(t *testing.T) {
	t.Parallel()
	all := planes(t, 3)
	for i, p := range all {
		for range i + 1 {
			p.connect(t, "alice", "topic")
		}
	}
	for _, p := range all {
		eventually(t, func() bool { return p.broker.Stats().Total.Connections == p.broker.Tally().Streams }, "streams are not counted")
	}
	reply, err := all[1].Stats(t.Context(), &pealv1.StatsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got := reply.GetTotal().GetConnections(); got != 6 {
		t.Errorf("%d streams in total, want 6", got)
	}
	var rows, nodes []string
	for _, row := range reply.GetShards() {
		rows = append(rows, fmt.Sprint(row.GetNode(), "/", row.GetShard()))
	}
	if want := []string{"node0/0", "node0/1", "node1/0", "node1/1", "node2/0", "node2/1"}; !slices.Equal(rows, want) {
		t.Errorf("rows are %q, want %q", rows, want)
	}
	for _, n := range reply.GetNodes() {
		nodes = append(nodes, fmt.Sprint(n.GetName(), " ", n.GetConnections(), " ", n.GetUsers(), " ", n.GetVersion(), " ", n.GetAnswering(), " ", n.GetState()))
	}
	if want := []string{
		"node0 1 1 of node0 false NODE_STATE_SERVING", "node1 2 1 of node1 true NODE_STATE_SERVING", "node2 3 1 of node2 false NODE_STATE_SERVING",
	}; !slices.Equal(nodes, want) {
		t.Errorf("nodes are %q, want %q", nodes, want)
	}
	if got := reply.GetVersion(); got != "of node1" {
		t.Errorf("version %q, want that of node1", got)
	}
}

func TestDisconnectReachesAllNodes(t *testing.T) {
	t.Parallel()
	all := planes(t, 3)
	for _, p := range all {
		p.connect(t, "mallory")
		p.connect(t, "alice")
	}
	reply, err := all[0].Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: "mallory"})
	if err != nil || reply.GetConnections() != 3 || len(reply.GetMissingNodes()) > 0 {
		t.Errorf("%v, %v", reply, err)
	}
	// With a ban, a node may close the streams before the query arrives, namely
	// when the ban is announced.
	reply, err = all[0].Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: "mallory", For: durationpb.New(time.Hour)})
	if err != nil || len(reply.GetMissingNodes()) > 0 {
		t.Errorf("%v, %v", reply, err)
	}
	for _, p := range all {
		if !p.broker.Banned("mallory") {
			t.Errorf("mallory is not banned on %s", p.name)
		}
		eventually(t, func() bool { return p.broker.Tally().Streams == 1 }, "mallory's streams on %s stay open", p.name)
	}
}

func TestNodesThatDontReplyAreMissing(t *testing.T) {
	t.Parallel()
	all := planes(t, 3)
	for _, p := range all {
		p.connect(t, "alice")
	}
	all[2].kill()
	ctx, begin := t.Context(), time.Now()
	users, err := all[0].ListUsers(ctx, &pealv1.ListUsersRequest{})
	if err != nil || !slices.Equal(users.GetMissingNodes(), []string{"node2"}) || users.GetUsers()[0].GetConnections() != 2 {
		t.Errorf("%v, %v", users, err)
	}
	topics, err := all[0].ListTopics(ctx, &pealv1.ListTopicsRequest{})
	if err != nil || !slices.Equal(topics.GetMissingNodes(), []string{"node2"}) {
		t.Errorf("%v, %v", topics, err)
	}
	stats, err := all[0].Stats(ctx, &pealv1.StatsRequest{})
	if err != nil || !slices.Equal(stats.GetMissingNodes(), []string{"node2"}) || stats.GetTotal().GetConnected() > 2 {
		t.Errorf("%v, %v", stats, err)
	}
	disconnected, err := all[0].Disconnect(ctx, &pealv1.DisconnectRequest{UserId: "alice"})
	if err != nil || !slices.Equal(disconnected.GetMissingNodes(), []string{"node2"}) || disconnected.GetConnections() != 2 {
		t.Errorf("%v, %v", disconnected, err)
	}
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("four calls took %s", took)
	}
}

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

func (p plane) watch(t *testing.T) *watchStream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &watchStream{ctx: ctx}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.WatchConnections(&pealv1.WatchConnectionsRequest{}, w); ctx.Err() == nil {
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
	w := a.watch(t)
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
