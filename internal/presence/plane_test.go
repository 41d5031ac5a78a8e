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

// plane is a daemon with a control plane.
type plane struct {
	*member
	*control.Service
}

// late is an Answerer that is made after who needs it.
type late struct {
	service *control.Service
	made    chan struct{}
}

func (l *late) Answer(ctx context.Context, method string, request []byte) ([]byte, error) {
	<-l.made
	return l.service.Answer(ctx, method, request)
}

func (l *late) Tell(ctx context.Context, method string, request []byte, send func([]byte) error) error {
	<-l.made
	return l.service.Tell(ctx, method, request, send)
}

func joinPlane(tb testing.TB, s *server.Server, name string) plane {
	tb.Helper()
	answers := &late{made: make(chan struct{})}
	m := join(tb, s, name, answers)
	answers.service = control.New(control.Config{Version: "of " + name, Cluster: m.Directory}, m.broker, nil)
	close(answers.made)
	tb.Cleanup(answers.service.Close)
	stop := m.stop
	m.stop = func() { answers.service.EndCalls(); stop() }
	return plane{m, answers.service}
}

func planes(tb testing.TB, n int) (planes []plane) {
	tb.Helper()
	s := startNATS(tb)
	var members []*member
	for i := range n {
		planes = append(planes, joinPlane(tb, s, fmt.Sprint("node", i)))
		members = append(members, planes[i].member)
	}
	all(tb, members...)
	return planes
}

func TestPagesOfAllNodesAreTheSortedUnion(t *testing.T) {
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
			reply, err := all[rapid.IntRange(0, 2).Draw(t, "asked")].ListUsers(context.Background(),
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
				t.Fatalf("a page of %d, want %d", n, size)
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
			t.Fatalf("listed %v in the order %q, want %v", got, order, want)
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
			eventually(t, func() bool { return p.broker.Tally().Streams == 0 }, "streams don't end")
		}
	})
}

func TestFiguresAreSummedAndRowsNamed(t *testing.T) {
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
		t.Errorf("%d streams in all, want 6", got)
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
		t.Errorf("version %q", got)
	}
}

func TestDisconnectReachesAllNodes(t *testing.T) {
	t.Parallel()
	all := planes(t, 3)
	for _, p := range all {
		p.connect(t, "mallory")
		p.connect(t, "alice")
	}
	reply, err := all[0].Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: "mallory", For: durationpb.New(time.Hour)})
	if err != nil || reply.GetConnections() != 3 || len(reply.GetMissingNodes()) > 0 {
		t.Errorf("%v, %v", reply, err)
	}
	for _, p := range all {
		if !p.broker.Barred("mallory") {
			t.Errorf("mallory may come back to %s", p.name)
		}
		eventually(t, func() bool { return p.broker.Tally().Streams == 1 }, "streams of mallory's on %s go on", p.name)
	}
}

func TestANodeThatDoesNotAnswerIsNamed(t *testing.T) {
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
	ended, err := all[0].Disconnect(ctx, &pealv1.DisconnectRequest{UserId: "alice"})
	if err != nil || !slices.Equal(ended.GetMissingNodes(), []string{"node2"}) || ended.GetConnections() != 2 {
		t.Errorf("%v, %v", ended, err)
	}
	if took := time.Since(begin); took > time.Minute {
		t.Errorf("four calls took %s", took)
	}
}

// watching is the stream of a WatchConnections.
type watching struct {
	grpc.ServerStream

	ctx  context.Context
	mu   sync.Mutex
	told []string
}

func (w *watching) Context() context.Context { return w.ctx }

func (w *watching) Send(told *pealv1.WatchConnectionsResponse) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e := told.GetEvent().(type) {
	case *pealv1.WatchConnectionsResponse_Present:
		w.told = append(w.told, fmt.Sprintf("%s has %d", e.Present.GetUserId(), e.Present.GetConnections()))
	case *pealv1.WatchConnectionsResponse_SnapshotComplete:
		w.told = append(w.told, fmt.Sprintf("complete, %d anonymous", e.SnapshotComplete.GetAnonymousConnections()))
	case *pealv1.WatchConnectionsResponse_Opened:
		w.told = append(w.told, fmt.Sprintf("%s opened %d", e.Opened.GetUserId(), e.Opened.GetConnections()))
	case *pealv1.WatchConnectionsResponse_Ended:
		w.told = append(w.told, fmt.Sprintf("%s ended %d %s", e.Ended.GetUserId(), e.Ended.GetConnections(), e.Ended.GetReason()))
	}
	return nil
}

// tells waits until exactly these were told, and forgets them.
func (w *watching) tells(t *testing.T, want ...string) {
	t.Helper()
	var told []string
	eventually(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		told = slices.Clone(w.told)
		return len(told) >= len(want)
	}, "told %q, want %q", &told, want)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.told, want) {
		t.Fatalf("told %q, want %q", w.told, want)
	}
	w.told = nil
}

func (p plane) watch(t *testing.T) *watching {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &watching{ctx: ctx}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.WatchConnections(&pealv1.WatchConnectionsRequest{}, w); ctx.Err() == nil {
			t.Errorf("the watch ended: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

func TestAWatchTellsOfAllNodes(t *testing.T) {
	t.Parallel()
	s := startNATS(t)
	a, b, c := joinPlane(t, s, "a"), joinPlane(t, s, "b"), joinPlane(t, s, "c")
	all(t, a.member, b.member, c.member)
	a.connect(t, "alice")
	b.connect(t, "alice")
	b.connect(t, "bob")
	c.connect(t, "")
	w := a.watch(t)
	w.tells(t, "alice has 2", "bob has 1", "complete, 1 anonymous")

	c.connect(t, "alice")
	w.tells(t, "alice opened 3")
	a.connect(t, "")
	w.tells(t, " opened 2")
	if _, err := b.Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: "alice"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.told) == 3 }, "the ends are not told")
	w.tells(t, "alice ended 2 disconnected", "alice ended 1 disconnected", "alice ended 0 disconnected")

	// One that comes, with streams already.
	d := joinPlane(t, s, "d")
	d.connect(t, "bob")
	w.tells(t, "bob opened 2")

	// One that dies.
	b.kill()
	w.tells(t, "bob ended 1 node_lost")
	c.stop()
	w.tells(t, " ended 1 node_lost")
}
