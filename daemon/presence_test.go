package daemon_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
)

// until calls get until good returns true for the result.
func until[R any](t *testing.T, get func(context.Context) (R, error), good func(R) bool) R {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		reply, err := get(t.Context())
		if err == nil && good(reply) {
			return reply
		}
		if time.Now().After(deadline) {
			t.Fatalf("the result is still %v, %v", reply, err)
		}
	}
}

func statusOf(t *testing.T, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// poll sends a request for JSON, which must be accepted.
func poll(t *testing.T, url string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("a poll gets %s", resp.Status)
	}
}

func TestPresenceInACluster(t *testing.T) {
	daemons := pealdtest.StartCluster(t, 3, func(cfg *daemon.Config) {
		cfg.SSE.MaxConnectionsPerUser = 2
		cfg.Auth.JWT.HMACSecret = "a secret shared by all daemons of the cluster"
	})

	control := daemons[0].Control(t)
	until(t, func(ctx context.Context) (*pealv1.StatsResponse, error) {
		return control.Stats(ctx, &pealv1.StatsRequest{})
	},
		func(r *pealv1.StatsResponse) bool { return len(r.GetNodes()) == 3 && len(r.GetMissingNodes()) == 0 })

	alice, bob := daemons[0].Events(t, "alice"), daemons[2].Events(t, "bob")
	atSecond, atThird := daemons[1].Events(t, "alice"), daemons[2].Events(t, "alice")
	stream(t, client(t), alice)
	stream(t, client(t), atSecond+"&since=all")
	stream(t, client(t), bob+"&rewind=3")

	// Her two streams are on two nodes; a third exceeds her limit on any node.
	until(t, func(context.Context) (int, error) { return statusOf(t, atThird), nil },
		func(got int) bool { return got == http.StatusTooManyRequests })
	reply := until(t, func(ctx context.Context) (*pealv1.BroadcastResponse, error) {
		return control.Broadcast(ctx, &pealv1.BroadcastRequest{Data: "hello"})
	}, func(r *pealv1.BroadcastResponse) bool { return r.GetRecipients() == 3 })
	if reply.GetId() == "" {
		t.Error("a broadcast has no id")
	}

	users, err := control.ListUsers(t.Context(), &pealv1.ListUsersRequest{})
	if err != nil || len(users.GetUsers()) != 2 || users.GetUsers()[0].GetConnections() != 2 || len(users.GetMissingNodes()) > 0 {
		t.Errorf("users are %v, %v", users, err)
	}

	for _, d := range daemons[1:] {
		poll(t, d.Events(t, "carol"))
		if _, err := d.Control(t).ListMessages(t.Context(), &pealv1.ListMessagesRequest{Audience: &pealv1.ListMessagesRequest_Everyone{Everyone: true}}); err != nil {
			t.Fatal(err)
		}
	}

	watching, err := control.WatchConnections(t.Context(), &pealv1.WatchConnectionsRequest{})
	if err != nil {
		t.Fatal(err)
	}

	var present []string

	for {
		e, err := watching.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if e.GetSnapshotComplete() != nil {
			break
		}

		present = append(present, e.GetPresent().GetUserId())
	}
	if !slices.Equal(present, []string{"alice", "bob"}) {
		t.Errorf("present are %q", present)
	}

	closed, err := control.Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: "alice", For: durationpb.New(time.Hour)})
	if err != nil || closed.GetConnections() != 2 || len(closed.GetMissingNodes()) > 0 {
		t.Errorf("Disconnect returned %v, %v", closed, err)
	}

	for _, url := range []string{alice, atSecond, atThird} {
		if got := statusOf(t, url); got != http.StatusNoContent {
			t.Errorf("a banned user gets %d", got)
		}
	}

	for left := int32(1); left >= 0; left-- {
		e, err := watching.Recv()
		if err != nil || e.GetEnded().GetUserId() != "alice" || e.GetEnded().GetConnections() != left {
			t.Fatalf("the watch reports %v, %v", e, err)
		}
	}

	stats, err := control.Stats(t.Context(), &pealv1.StatsRequest{})
	if err != nil {
		t.Fatal(err)
	}

	if since, rewinds := stats.GetSince().GetReplayed(), stats.GetRewinds().GetReplayed(); since != 1 || rewinds != 1 {
		t.Errorf("%d streams with since and %d with rewind are counted on all nodes, want 1 and 1", since, rewinds)
	}

	if polls, reads := stats.GetPolls(), stats.GetReads(); polls.GetAnswered()["empty"] != 2 || polls.GetWaiting() != 0 || reads.GetBroadcast() != 2 {
		t.Errorf("%v and %v are counted on all nodes, want 2 polls without events and 2 pages of broadcasts", polls, reads)
	}

	leaders := 0
	for _, n := range stats.GetNodes() {
		if n.GetLeader() {
			leaders++
		}
		if n.GetState() != pealv1.NodeState_NODE_STATE_SERVING || !n.GetReplica() || !n.GetQuorum() {
			t.Errorf("a node is %v", n)
		}
	}
	if leaders != 1 {
		t.Errorf("%d nodes are leaders", leaders)
	}

	// One node shuts down: the watch reports that its streams have closed. The node
	// is an absent member until it is removed.
	daemons[2].Stop(t)
	if e, err := watching.Recv(); err != nil || e.GetEnded().GetUserId() != "bob" || e.GetEnded().GetConnections() != 0 {
		t.Errorf("the watch reports %v, %v", e, err)
	}

	nodes := func(ctx context.Context) (*pealv1.StatsResponse, error) {
		return control.Stats(ctx, &pealv1.StatsRequest{})
	}

	stats = until(t, nodes, func(r *pealv1.StatsResponse) bool {
		return len(r.GetNodes()) == 3 && len(r.GetMissingNodes()) == 0 && len(inState(r, pealv1.NodeState_NODE_STATE_ABSENT)) == 1
	})

	gone := inState(stats, pealv1.NodeState_NODE_STATE_ABSENT)[0]
	for _, name := range inState(stats, pealv1.NodeState_NODE_STATE_SERVING) {
		if _, err := control.RemoveNode(t.Context(), &pealv1.RemoveNodeRequest{Name: name}); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("removing a running node: %v", err)
		}
	}
	if _, err := control.RemoveNode(t.Context(), &pealv1.RemoveNodeRequest{Name: "nobody"}); status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), gone) {
		t.Errorf("removing an unknown node: %v", err)
	}
	if left, err := control.RemoveNode(t.Context(), &pealv1.RemoveNodeRequest{Name: gone}); err != nil || len(left.GetMembers()) != 2 {
		t.Errorf("removing %s left %v, %v", gone, left, err)
	}

	until(t, nodes, func(r *pealv1.StatsResponse) bool { return len(r.GetNodes()) == 2 && len(r.GetMissingNodes()) == 0 })
}

// inState returns the names of the nodes in a state.
func inState(r *pealv1.StatsResponse, state pealv1.NodeState) (names []string) {
	for _, n := range r.GetNodes() {
		if n.GetState() == state {
			names = append(names, n.GetName())
		}
	}
	return names
}
