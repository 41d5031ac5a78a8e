package control_test

import (
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// TestGetPosition checks that a stream that starts at the position gets what is
// published after it, and nothing else.
func TestGetPosition(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	before, err := p.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "before"})
	if err != nil {
		t.Fatal(err)
	}
	reply, err := p.GetPosition(t.Context(), &pealv1.GetPositionRequest{})
	if err != nil || reply.GetId() != before.GetId() {
		t.Fatalf("the position is %v, %v; want %s", reply, err, before.GetId())
	}
	if got, want := p.do(t, http.MethodGet, "/v1/position", ""), `{"id":"`+before.GetId()+`"}`; strings.TrimSpace(got.body) != want {
		t.Errorf("GET returns %d %q, want %s", got.StatusCode, got.body, want)
	}

	if _, err := p.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "after"}); err != nil {
		t.Fatal(err)
	}
	page := &sink{grown: make(chan struct{}, 1)}
	if err := b.NewStream(broker.Subscription{LastEventID: reply.GetId()}).Start(page, broker.Opening{}); err != nil {
		t.Fatal(err)
	}
	page.waitFor(t, "id: "+before.GetId()+"\ndata:\n\nid: ")
	page.waitFor(t, "data: after\n")
}

func TestGetPositionWhileShuttingDown(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	b.Close()
	if _, err := p.GetPosition(t.Context(), &pealv1.GetPositionRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want Unavailable", err)
	}
}
