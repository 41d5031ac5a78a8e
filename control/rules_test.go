package control_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func bearing(t *testing.T, token string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
}

func TestTokensChange(t *testing.T) {
	old := control.Token{Name: "old", Token: "token-that-goes"}
	kept := control.Token{Name: "kept", Token: "token-that-stays"}
	p := start(t, control.Config{Tokens: []control.Token{old, kept}, Version: "1"}, startBroker(t), nil)
	for _, token := range []string{old.Token, kept.Token} {
		if _, err := p.Stats(bearing(t, token), &pealv1.StatsRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	kept.Scopes = []string{control.ScopePublish}
	added := control.Token{Name: "new", Token: "token-that-comes"}
	p.service.Reconfigure(control.Config{Tokens: []control.Token{kept, added}, MaxConnections: 7, Version: "2"}, nil)
	if _, err := p.Stats(bearing(t, old.Token), &pealv1.StatsRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("the token that was removed gets %v", err)
	}
	if _, err := p.Stats(bearing(t, kept.Token), &pealv1.StatsRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the token that has lost a scope gets %v", err)
	}
	stats, err := p.Stats(bearing(t, added.Token), &pealv1.StatsRequest{})
	if err != nil || stats.GetMaxConnections() != 7 || stats.GetVersion() != "1" {
		t.Errorf("the new token gets %v, %v", stats, err)
	}
}

func TestCallsUnderWayEndWithTheirToken(t *testing.T) {
	tokens := []control.Token{{Name: "a", Token: "token-of-a"}, {Name: "b", Token: "token-of-b"}, {Name: "c", Token: "token-of-c"}}
	b := startBroker(t)
	p := start(t, control.Config{Tokens: tokens}, b, nil)
	open := func(token string) *messageStream {
		stream, err := p.PublishStream(bearing(t, token))
		if err != nil {
			t.Fatal(err)
		}
		m := &messageStream{BidiStreamingClient: stream}
		m.send(t, toAll("x"))
		if _, err := m.ack(); err != nil {
			t.Fatal(err)
		}
		return m
	}
	watch := func(token string) pealv1.ControlService_WatchConnectionsClient {
		w, err := p.WatchConnections(bearing(t, token), &pealv1.WatchConnectionsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if first, err := w.Recv(); err != nil || first.GetSnapshotComplete() == nil {
			t.Fatalf("a watch begins with %v, %v", first, err)
		}
		return w
	}
	messagesA, messagesB, messagesC := open("token-of-a"), open("token-of-b"), open("token-of-c")
	watchA, watchC := watch("token-of-a"), watch("token-of-c")
	health, err := healthv1.NewHealthClient(p.conn).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	// A token is who it is by its value: b's gets another name.
	p.service.Reconfigure(control.Config{Tokens: []control.Token{
		{Name: "b2", Token: "token-of-b"},
		{Name: "c", Token: "token-of-c", Scopes: []string{control.ScopeRead}},
	}}, nil)
	if ack, err := messagesA.ack(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("the stream of the token that was removed gets %v, %v", ack, err)
	}
	if _, err := watchA.Recv(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("the watch of the token that was removed gets %v", err)
	}
	if ack, err := messagesC.ack(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the stream of the token that may read alone gets %v, %v", ack, err)
	}
	messagesB.send(t, toAll("y"))
	if ack, err := messagesB.ack(); err != nil || ack.GetNumber() != 2 {
		t.Errorf("the stream of the token that stays gets %v, %v", ack, err)
	}
	stream(t, b, "alice")
	if event, err := watchC.Recv(); err != nil || event.GetOpened().GetUserId() != "alice" {
		t.Errorf("the watch of the token that stays gets %v, %v", event, err)
	}
	if reply, err := health.Recv(); err != nil || reply.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("the watch of health gets %v, %v", reply, err)
	}
}

func TestTokensComeWhereThereWereNone(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	m := p.messages(t)
	m.send(t, toAll("x"))
	if _, err := m.ack(); err != nil {
		t.Fatal(err)
	}
	p.service.Reconfigure(control.Config{Tokens: []control.Token{{Name: "a", Token: "token-of-a"}}}, nil)
	if ack, err := m.ack(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a stream from before gets %v, %v", ack, err)
	}
	resp, err := http.Get(p.url + "/v1/stats")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("REST without a token: %s", resp.Status)
	}
}

// TestRateLimitChanges looks at a PublishStream that is older than the limit.
func TestRateLimitChanges(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	m := p.messages(t)
	acked := func(n int) (took time.Duration) {
		began := time.Now()
		for range n {
			m.send(t, toAll("x"))
			if _, err := m.ack(); err != nil {
				t.Fatal(err)
			}
		}
		return time.Since(began)
	}
	acked(50)
	p.service.Reconfigure(control.Config{RateLimit: 20}, nil)
	// The burst, and 10 at 20 a second; a bit less for clocks.
	if took := acked(30); took < 400*time.Millisecond {
		t.Errorf("30 messages at 20 a second took %s", took)
	}
	p.service.Reconfigure(control.Config{RateLimit: 1_000_000}, nil)
	if took := acked(30); took > time.Minute {
		t.Errorf("30 messages at a million a second took %s", took)
	}
	p.service.Reconfigure(control.Config{RateLimit: 1}, nil)
	var err error
	for n := 0; err == nil && n < 5; n++ {
		_, err = p.Stats(t.Context(), &pealv1.StatsRequest{})
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("calls past a new limit get %v", err)
	}
	p.service.Reconfigure(control.Config{}, nil)
	for range 5 {
		if _, err := p.Stats(t.Context(), &pealv1.StatsRequest{}); err != nil {
			t.Errorf("without a limit: %v", err)
		}
	}
}

// TestRulesChangeUnderLoad has the race detector look.
func TestRulesChangeUnderLoad(t *testing.T) {
	tokens := []control.Token{{Name: "a", Token: "token-of-a"}}
	p := start(t, control.Config{Tokens: tokens}, startBroker(t), nil)
	var running sync.WaitGroup
	for range 3 {
		running.Go(func() {
			for range 50 {
				stream, err := p.PublishStream(bearing(t, "token-of-a"))
				if err != nil {
					t.Error(err)
					return
				}
				_ = stream.Send(toAll("x"))
				_ = stream.CloseSend()
				for err == nil {
					_, err = stream.Recv()
				}
			}
		})
	}
	running.Go(func() {
		for i := range 300 {
			p.service.Reconfigure(control.Config{Tokens: tokens[:i%2], RateLimit: i % 3 * 10_000}, nil)
		}
	})
	running.Wait()
}
