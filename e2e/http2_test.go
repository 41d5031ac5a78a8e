package e2e_test

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
)

// TestStreamsShareHTTP2Connection opens streams over HTTP/2 without TLS, as some
// proxies do.
func TestStreamsShareHTTP2Connection(t *testing.T) {
	d := pealdtest.Start(t)

	var dialled atomic.Int32

	transport := &http.Transport{
		Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialled.Add(1)

			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)

	client := &http.Client{Transport: transport}

	const streams = 20

	bodies := make([]*bufio.Reader, streams)
	for i := range bodies {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.Events(t, "alice"), nil)
		if err != nil {
			t.Fatal(err)
		}

		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}

		t.Cleanup(func() { _ = resp.Body.Close() })

		if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
			t.Fatalf("stream %d: %s over %s", i, resp.Status, resp.Proto)
		}

		bodies[i] = bufio.NewReader(resp.Body)
	}

	d.WaitForStreams(t, streams)

	sent, err := d.Control(t).SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "alice", Data: "to all twenty"})
	if err != nil || sent.GetRecipients() != streams {
		t.Fatalf("sent to %d streams (%v), want %d", sent.GetRecipients(), err, streams)
	}

	for i, body := range bodies {
		for {
			line, err := body.ReadString('\n')
			if err != nil {
				t.Fatalf("stream %d: %v", i, err)
			}

			if strings.HasPrefix(line, "data: ") {
				if line != "data: to all twenty\n" {
					t.Errorf("stream %d got %q", i, line)
				}

				break
			}
		}
	}

	if n := dialled.Load(); n != 1 {
		t.Errorf("%d connections for %d streams, want 1", n, streams)
	}
}
