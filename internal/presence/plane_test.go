package presence_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
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

// TestPagesOfSubscribersMergeAllNodes checks that each user with streams that stay open is
// on one page, with all of these streams, while others come and go between the pages.
func TestPagesOfSubscribersMergeAllNodes(t *testing.T) {
	t.Parallel()
	all := planes(t, 3)
	topics := []string{"x.1", "x.2", "x.*", "*.1", ">", "y"}
	rapid.Check(t, func(t *rapid.T) {
		stable := make(map[string]int32)
		var hangUps []func()
		open := func(covered func(string) bool, label string) {
			user := rapid.StringMatching(`[abé]{0,2}`).Draw(t, "user of a "+label)
			names := rapid.SliceOfNDistinct(rapid.SampledFrom(topics), 1, 3, rapid.ID[string]).Draw(t, "topics of a "+label)
			hangUps = append(hangUps, all[rapid.IntRange(0, 2).Draw(t, "node of a "+label)].connect(t, user, names...))
			if slices.ContainsFunc(names, covered) {
				stable[user]++
			}
		}
		topic := rapid.SampledFrom([]string{"x.1", "x.2", "x.*", "y"}).Draw(t, "topic")
		for range rapid.IntRange(0, 30).Draw(t, "streams") {
			open(func(name string) bool { return broker.Covers(name, topic) }, "stream")
		}
		stableStreams := len(hangUps)

		request := &pealv1.ListSubscribersRequest{
			Topic: topic, PageSize: int32(rapid.IntRange(1, 9).Draw(t, "size")), Prefix: rapid.SampledFrom([]string{"", "a", "é", "bb"}).Draw(t, "prefix"),
		}
		got := make(map[string]int32)
		var order []string
		for more := true; more; more = request.GetPageToken() != "" {
			reply, err := all[rapid.IntRange(0, 2).Draw(t, "queried")].ListSubscribers(context.Background(), request)
			if err != nil || len(reply.GetMissingNodes()) > 0 {
				t.Fatalf("%v, missing %q", err, reply.GetMissingNodes())
			}
			if reply.GetAnonymousConnections() < stable[""] || int32(len(reply.GetUsers())) > request.GetPageSize() {
				t.Fatalf("%d users and %d anonymous streams, want at least %d", len(reply.GetUsers()), reply.GetAnonymousConnections(), stable[""])
			}
			for _, u := range reply.GetUsers() {
				order = append(order, u.GetUserId())
				got[u.GetUserId()] = u.GetConnections()
			}
			request.PageToken = reply.GetNextPageToken()

			for _, hangUp := range hangUps[stableStreams:] {
				hangUp()
			}
			hangUps = hangUps[:stableStreams]
			for range rapid.IntRange(0, 3).Draw(t, "other streams") {
				open(func(string) bool { return false }, "brief stream")
			}
		}

		if !slices.IsSorted(order) || len(order) != len(got) {
			t.Fatalf("the users are listed as %q", order)
		}
		for user, streams := range stable {
			if user != "" && strings.HasPrefix(user, request.GetPrefix()) && got[user] < streams {
				t.Fatalf("%q has %d streams, want at least %d", user, got[user], streams)
			}
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
		p.connect(t, "alice", "orders.*")
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
	subscribers, err := all[0].ListSubscribers(ctx, &pealv1.ListSubscribersRequest{Topic: "orders.7"})
	if err != nil || !slices.Equal(subscribers.GetMissingNodes(), []string{"node2"}) || len(subscribers.GetUsers()) != 1 || subscribers.GetUsers()[0].GetConnections() != 2 {
		t.Errorf("%v, %v", subscribers, err)
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
		t.Errorf("five calls took %s", took)
	}
}
