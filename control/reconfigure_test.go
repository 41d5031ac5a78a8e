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

func withToken(t *testing.T, token string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
}

func TestReconfigureTokens(t *testing.T) {
	old := control.Token{Name: "old", Token: "removed-token"}
	kept := control.Token{Name: "kept", Token: "remaining-token"}
	p := start(t, control.Config{Tokens: []control.Token{old, kept}, Version: "1"}, startBroker(t), nil)
	for _, token := range []string{old.Token, kept.Token} {
		if _, err := p.Stats(withToken(t, token), &pealv1.StatsRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	kept.Scopes = []string{control.ScopePublish}
	added := control.Token{Name: "new", Token: "added-token"}
	p.service.Reconfigure(control.Config{Tokens: []control.Token{kept, added}, MaxConnections: 7, Version: "2"}, nil)
	if _, err := p.Stats(withToken(t, old.Token), &pealv1.StatsRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("the removed token got %v", err)
	}
	if _, err := p.Stats(withToken(t, kept.Token), &pealv1.StatsRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the token that lost a scope got %v", err)
	}
	stats, err := p.Stats(withToken(t, added.Token), &pealv1.StatsRequest{})
	if err != nil || stats.GetMaxConnections() != 7 || stats.GetVersion() != "1" {
		t.Errorf("the new token got %v, %v", stats, err)
	}
}

func TestStreamingCallsEndWithTheirToken(t *testing.T) {
	tokens := []control.Token{{Name: "a", Token: "token-of-a"}, {Name: "b", Token: "token-of-b"}, {Name: "c", Token: "token-of-c"}}
	b := startBroker(t)
	p := start(t, control.Config{Tokens: tokens}, b, nil)
	open := func(token string) *messageStream {
		stream, err := p.PublishStream(withToken(t, token))
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
		w, err := p.WatchConnections(withToken(t, token), &pealv1.WatchConnectionsRequest{})
		if err != nil {
			t.Fatal(err)
		}

		if first, err := w.Recv(); err != nil || first.GetSnapshotComplete() == nil {
			t.Fatalf("the first event in a watch is %v, %v", first, err)
		}

		return w
	}

	messagesA, messagesB, messagesC := open("token-of-a"), open("token-of-b"), open("token-of-c")
	watchA, watchC := watch("token-of-a"), watch("token-of-c")
	health, err := healthv1.NewHealthClient(p.conn).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}

	// A token is identified by its value, so b can be renamed.
	p.service.Reconfigure(control.Config{Tokens: []control.Token{
		{Name: "b2", Token: "token-of-b"},
		{Name: "c", Token: "token-of-c", Scopes: []string{control.ScopeRead}},
	}}, nil)
	if ack, err := messagesA.ack(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("the stream of the removed token got %v, %v", ack, err)
	}

	if _, err := watchA.Recv(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("the watch of the removed token got %v", err)
	}

	if ack, err := messagesC.ack(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the stream of the token that lost publish got %v, %v", ack, err)
	}

	messagesB.send(t, toAll("y"))
	if ack, err := messagesB.ack(); err != nil || ack.GetNumber() != 2 {
		t.Errorf("the stream of the remaining token got %v, %v", ack, err)
	}

	stream(t, b, "alice")
	if event, err := watchC.Recv(); err != nil || event.GetOpened().GetUserId() != "alice" {
		t.Errorf("the watch of the remaining token got %v, %v", event, err)
	}

	if reply, err := health.Recv(); err != nil || reply.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("the health watch got %v, %v", reply, err)
	}
}

func TestFirstTokensRevokeOpenCalls(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	m := p.messages(t)
	m.send(t, toAll("x"))
	if _, err := m.ack(); err != nil {
		t.Fatal(err)
	}
	p.service.Reconfigure(control.Config{Tokens: []control.Token{{Name: "a", Token: "token-of-a"}}}, nil)
	if ack, err := m.ack(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("an unauthenticated stream got %v, %v", ack, err)
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

// A new limit applies to a PublishStream that is already open.
func TestReconfigureRateLimit(t *testing.T) {
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

	// The burst, and 10 at 20 per second. The bound is lower, because clocks are
	// inexact.
	if took := acked(30); took < 400*time.Millisecond {
		t.Errorf("30 messages at 20 per second took %s, want at least 400ms", took)
	}

	p.service.Reconfigure(control.Config{RateLimit: 1_000_000}, nil)
	if took := acked(30); took > time.Minute {
		t.Errorf("30 messages at a million per second took %s", took)
	}

	p.service.Reconfigure(control.Config{RateLimit: 1}, nil)
	var err error

	for n := 0; err == nil && n < 5; n++ {
		_, err = p.Stats(t.Context(), &pealv1.StatsRequest{})
	}

	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("calls over the new limit got %v", err)
	}

	p.service.Reconfigure(control.Config{}, nil)

	for range 5 {
		if _, err := p.Stats(t.Context(), &pealv1.StatsRequest{}); err != nil {
			t.Errorf("without a limit: %v", err)
		}
	}
}

// TestReconfigureUnderLoad is for the race detector.
func TestReconfigureUnderLoad(t *testing.T) {
	tokens := []control.Token{{Name: "a", Token: "token-of-a"}}
	p := start(t, control.Config{Tokens: tokens}, startBroker(t), nil)
	var running sync.WaitGroup

	for range 3 {
		running.Go(func() {
			for range 50 {
				stream, err := p.PublishStream(withToken(t, "token-of-a"))
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
