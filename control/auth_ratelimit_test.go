package control_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func TestRateLimitPerName(t *testing.T) {
	const limit = 2
	p := start(t, control.Config{
		Tokens: []control.Token{{Name: "one", Token: "token-of-one"}, {Name: "other", Token: "token-of-other"}},

		RateLimit: limit,
	}, startBroker(t), nil)
	one := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer token-of-one")
	other := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer token-of-other")
	var err error

	for n := 0; err == nil && n < 1000; n++ {
		_, err = p.Stats(one, &pealv1.StatsRequest{})
	}

	var retry time.Duration

	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			retry = info.GetRetryDelay().AsDuration()
		}
	}

	if status.Code(err) != codes.ResourceExhausted || retry <= 0 || retry > time.Second {
		t.Errorf("unlimited calls got %v with a delay of %s, want RESOURCE_EXHAUSTED and at most 1s", err, retry)
	}

	for range limit {
		if _, err := p.Stats(other, &pealv1.StatsRequest{}); err != nil {
			t.Errorf("another name got %v", err)
		}
	}

	for range 10 * limit {
		if _, err := healthv1.NewHealthClient(p.conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
			t.Fatalf("health got %v", err)
		}
	}

	var resp *http.Response

	for range 1000 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/v1/stats", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}

		req.Header.Set("Authorization", "Bearer token-of-one")
		if resp, err = http.DefaultClient.Do(req); err != nil {
			t.Fatal(err)
		}

		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			break
		}
	}

	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "1" {
		t.Errorf("REST responded %s with Retry-After %q, want 429 and 1", resp.Status, resp.Header.Get("Retry-After"))
	}
}

func TestRateLimitEvictsNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := control.NewRateLimits(1)
		if err := l.Take("busy"); err != nil {
			t.Fatal(err)
		}
		for n := range 3 * control.MaxNames {
			if err := l.Take(fmt.Sprintf("process-%d", n)); err != nil {
				t.Fatalf("first call under a name: %v", err)
			}
			// A busy name isn't evicted to make room for others.
			if l.Take("busy") == nil {
				t.Fatalf("after %d other names, a limited caller has a new limiter", n)
			}
		}
		if got := l.Names(); got != control.MaxNames {
			t.Errorf("%d names have a limiter, want %d", got, control.MaxNames)
		}
	})
}

func TestPublishStreamIsDelayedToTheLimit(t *testing.T) {
	const limit, messages = 20, 30
	p := start(t, control.Config{RateLimit: limit}, startBroker(t), nil)
	began := time.Now()
	stream, err := p.PublishStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	for range messages {
		if err := stream.Send(&pealv1.PublishStreamRequest{Audience: everyone(), Data: strings.Repeat("x", 10)}); err != nil {
			t.Fatal(err)
		}
	}

	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}

	for acked := 0; acked < messages; {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatalf("after %d acknowledgements: %v", acked, err)
		}

		for _, ack := range resp.GetAcks() {
			if ack.GetError() != nil {
				t.Errorf("message %d got %v", ack.GetNumber(), ack.GetError())
			}

			acked++
		}
	}

	// Messages beyond the burst are delayed. The bound is lower, because clocks are
	// inexact.
	if took, least := time.Since(began), 400*time.Millisecond; took < least {
		t.Errorf("%d messages at %d a second took %s, want at least %s", messages, limit, took, least)
	}
}
