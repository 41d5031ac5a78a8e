package control_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

func (p *plane) watch(t *testing.T) grpc.ServerStreamingClient[pealv1.WatchConnectionsResponse] {
	t.Helper()
	w, err := p.WatchConnections(t.Context(), &pealv1.WatchConnectionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func next(t *testing.T, w grpc.ServerStreamingClient[pealv1.WatchConnectionsResponse]) *pealv1.WatchConnectionsResponse {
	t.Helper()
	resp, err := w.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestWatchReportsChanges(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	zoe := stream(t, b, "zoë")
	stream(t, b, "alice")
	stream(t, b, "alice")
	stream(t, b, "")
	w := p.watch(t)
	if u := next(t, w).GetPresent(); u.GetUserId() != "alice" || u.GetConnections() != 2 || time.Since(u.GetConnectedSince().AsTime()) > time.Minute {
		t.Errorf("present: %v", u)
	}

	if u := next(t, w).GetPresent(); u.GetUserId() != "zoë" || u.GetConnections() != 1 {
		t.Errorf("present: %v", u)
	}

	if marker := next(t, w); marker.GetSnapshotComplete().GetAnonymousConnections() != 1 {
		t.Fatalf("instead of SnapshotComplete: %v", marker)
	}

	wantOpened := func(user string, connections int32) {
		t.Helper()
		if o := next(t, w).GetOpened(); o == nil || o.GetUserId() != user || o.GetConnections() != connections || time.Since(o.GetTime().AsTime()) > time.Minute {
			t.Errorf("opened: %v, want stream %d for %q", o, connections, user)
		}
	}

	wantEnded := func(user string, connections int32, reason string) {
		t.Helper()
		if e := next(t, w).GetEnded(); e == nil || e.GetUserId() != user || e.GetConnections() != connections || e.GetReason() != reason || time.Since(e.GetTime().AsTime()) > time.Minute {
			t.Errorf("ended: %v, want %d remaining streams for %q and reason %s", e, connections, user, reason)
		}
	}

	stream(t, b, "bob")
	wantOpened("bob", 1)
	stream(t, b, "alice")
	wantOpened("alice", 3)
	stream(t, b, "")
	wantOpened("", 2)
	zoe.HangUp()
	wantEnded("zoë", 0, "hung_up")
	if reply, err := p.Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: "alice"}); err != nil || reply.GetConnections() != 3 {
		t.Fatalf("%v, %v", reply, err)
	}

	for left := int32(2); left >= 0; left-- {
		wantEnded("alice", left, "disconnected")
	}
}

func TestWatchOfATopic(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	stream(t, b, "alice", "orders.7")
	stream(t, b, "alice", "news")
	stream(t, b, "bob", "orders.*", ">")
	stream(t, b, "carol", "news")
	stream(t, b, "", "orders.7")

	w, err := p.WatchConnections(t.Context(), &pealv1.WatchConnectionsRequest{Topic: "orders.7"})
	if err != nil {
		t.Fatal(err)
	}
	want := func(want string) {
		t.Helper()
		got := ""
		switch e := next(t, w).GetEvent().(type) {
		case *pealv1.WatchConnectionsResponse_Present:
			got = fmt.Sprint(e.Present.GetUserId(), " has ", e.Present.GetConnections())
		case *pealv1.WatchConnectionsResponse_SnapshotComplete:
			got = fmt.Sprint("complete, ", e.SnapshotComplete.GetAnonymousConnections())
		case *pealv1.WatchConnectionsResponse_Opened:
			got = fmt.Sprint(e.Opened.GetUserId(), " opened ", e.Opened.GetConnections())
		case *pealv1.WatchConnectionsResponse_Ended:
			got = fmt.Sprint(e.Ended.GetUserId(), " ended ", e.Ended.GetConnections(), " ", e.Ended.GetReason())
		}
		if got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	want("alice has 1")
	want("bob has 1")
	want("complete, 1")

	stream(t, b, "carol", "news", "orders.8")
	stream(t, b, "alice")
	stream(t, b, "carol", "news", "orders.7").HangUp()
	want("carol opened 1")
	want("carol ended 0 hung_up")
	stream(t, b, "", ">")
	want(" opened 2")
	if _, err := p.Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: "alice"}); err != nil {
		t.Fatal(err)
	}
	want("alice ended 0 disconnected")
	p.service.EndCalls()
	_, err = w.Recv()
	if f := failureOf(t, err); f.code != codes.Unavailable || f.reason != "STOPPING" {
		t.Errorf("%+v", f)
	}
}

func TestWatchOfAnInvalidTopic(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	for _, topic := range []string{"a.>.b", "a\nb", strings.Repeat("x", 256)} {
		w, err := p.WatchConnections(t.Context(), &pealv1.WatchConnectionsRequest{Topic: topic})
		if err == nil {
			_, err = w.Recv()
		}
		if f := failureOf(t, err); f.code != codes.InvalidArgument || f.fields["topic"] == "" {
			t.Errorf("%q: %+v", topic, f)
		}
	}
}

func TestWatchWithoutUsers(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	if marker := next(t, p.watch(t)); marker.GetSnapshotComplete() == nil {
		t.Errorf("instead of SnapshotComplete: %v", marker)
	}
}

// A watch that is read too slowly ends with an error instead of a gap.
func TestWatchReadTooSlowly(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	w := p.watch(t)
	next(t, w)
	user := strings.Repeat("u", 255)
	for range 40_000 {
		stream(t, b, user).HangUp()
	}
	for changes := 0; ; changes++ {
		_, err := w.Recv()
		if err == nil {
			continue
		}
		if f := failureOf(t, err); f.code != codes.Aborted || f.reason != "WATCH_OVERFLOW" || changes == 0 {
			t.Errorf("after %d changes: %+v", changes, f)
		}
		return
	}
}

func TestWatchEndsWithTheDaemon(t *testing.T) {
	for name, end := range map[string]func(*plane, *broker.Broker){
		"drained":         func(p *plane, _ *broker.Broker) { p.service.EndCalls() },
		"a closed broker": func(_ *plane, b *broker.Broker) { b.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t)
			p := start(t, control.Config{}, b, nil)
			w := p.watch(t)
			next(t, w)
			end(p, b)
			_, err := w.Recv()
			if f := failureOf(t, err); f.code != codes.Unavailable || f.reason != "STOPPING" {
				t.Errorf("%+v", f)
			}
			_, err = p.watch(t).Recv()
			if name == "a closed broker" && failureOf(t, err).code != codes.Unavailable {
				t.Errorf("a new watch: %v", err)
			}
		})
	}
}
