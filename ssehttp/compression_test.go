package ssehttp_test

import (
	"bufio"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

func withCompression(c *ssehttp.Config, b *broker.Config) {
	withHistory(c, b)
	c.Compression = true
}

// TestContentCoding checks the content coding of the response to each
// Accept-Encoding (RFC 9110 §12.5.3).
func TestContentCoding(t *testing.T) { onAll(t, testContentCoding) }

func testContentCoding(t *testing.T, via path) {
	s := start(t, via, withCompression)
	for _, test := range []struct {
		accepted string // lines are separated by |
		want     string
	}{
		{"gzip", "gzip"},
		{"gzip, deflate, br, zstd", "gzip"},
		{"br|gzip", "gzip"},
		{"GZip", "gzip"},
		{"x-gzip", "gzip"},
		{"gzip;q=0.5", "gzip"},
		{" gzip ; Q=0.001 ,", "gzip"},
		{"gzip;q=1.0, identity; q=0.5, *;q=0", "gzip"},
		{"gzip, identity", "gzip"},
		{"identity;q=0, *", "gzip"},
		{"*", "gzip"},
		{"br, *;q=0.1", "gzip"},
		{"", ""},
		{"identity", ""},
		{"br", ""},
		{"deflate, gzip;q=0", ""},
		{"gzip;q=0.000, *", ""},
		{"*;q=0", ""},
		{"identity;q=0", ""}, // the daemon has no other coding that is listed
		{"gzip;q=0.5, identity", ""},
		{"gzip;q=0.5, *", ""},
		{"gzip;q=high", ""},
		{"gzip;q=-1", ""},
		{"gzip;q=NaN", ""},
		{"gzipped", ""},
	} {
		var headers []string
		for line := range strings.SplitSeq(test.accepted, "|") {
			headers = append(headers, "Accept-Encoding: "+line)
		}
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			resp := s.request(t, method, "/events", headers...)
			if got := resp.Header.Values("Content-Encoding"); strings.Join(got, "|") != test.want {
				t.Errorf("%s with Accept-Encoding %q: Content-Encoding %q, want %q", method, test.accepted, got, test.want)
			}
			if got := resp.Header.Values("Vary"); len(got) != 1 || got[0] != "Origin, Accept-Encoding" {
				t.Errorf("%s with Accept-Encoding %q: Vary %q", method, test.accepted, got)
			}
			resp.Body.Close()
		}
	}
}

// TestCompressionChanges checks that a change applies to new streams only, even
// to those opened in the same second, which share a head.
func TestCompressionChanges(t *testing.T) { onBoth(t, testCompressionChanges) }

func testCompressionChanges(t *testing.T, via path) {
	var cfg ssehttp.Config
	s := start(t, via, func(c *ssehttp.Config, b *broker.Config) {
		withCompression(c, b)
		cfg = *c
	})

	var bodies []*bufio.Reader
	for _, on := range []bool{true, false, true} {
		cfg.Compression = on
		s.handler.Reconfigure(cfg, verifier{})
		for _, accepted := range []string{"gzip", "identity"} {
			resp := s.request(t, http.MethodGet, "/events", "Accept-Encoding: "+accepted)
			wantVary := "Origin"
			if on {
				wantVary = "Origin, Accept-Encoding"
			}
			if got := resp.Header.Get("Vary"); got != wantVary {
				t.Errorf("compression %t, Accept-Encoding %s: Vary %q, want %q", on, accepted, got, wantVary)
			}
			zipped := resp.Header.Get("Content-Encoding") == "gzip"
			if zipped != (on && accepted == "gzip") {
				t.Errorf("compression %t, Accept-Encoding %s: Content-Encoding %q", on, accepted, resp.Header.Get("Content-Encoding"))
			}
			bodies = append(bodies, decoded(t, resp))
		}
	}

	sent := s.publish(t, broker.Message{Audience: broker.Everyone(), Data: strings.Repeat("x", 1000)})
	for i, body := range bodies {
		block(t, body)
		if got, want := block(t, body), "id: "+sent.ID+"\nevent: broadcast\ndata: "+strings.Repeat("x", 1000)+"\n\n"; got != want {
			t.Errorf("stream %d got %.60q, want %.60q", i, got, want)
		}
	}
}

// decoded returns a reader of a response's body without its content coding.
func decoded(t *testing.T, resp *http.Response) *bufio.Reader {
	t.Helper()
	if resp.Header.Get("Content-Encoding") != "gzip" {
		return bufio.NewReader(resp.Body)
	}
	body, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return bufio.NewReader(body)
}

// TestCompressedBodies reads compressed streams with the decoder in net/http. Each
// event must arrive before the next one is published, and the body must end
// properly, also on a stream that resumes.
func TestCompressedBodies(t *testing.T) { onAll(t, testCompressedBodies) }

func testCompressedBodies(t *testing.T, via path) {
	s := start(t, via, withCompression)
	first := s.publish(t, broker.Message{Audience: broker.Everyone(), Data: strings.Repeat("first ", 1000)})
	open := func(lastID string) *bufio.Reader {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/events", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer good-alice")
		req.Header.Set("Last-Event-ID", lastID)
		resp, err := s.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		if !resp.Uncompressed {
			t.Errorf("the body over %s isn't compressed", resp.Proto)
		}
		return bufio.NewReader(resp.Body)
	}

	live := open(first.ID)
	block(t, live)
	texts := []string{"one", strings.Repeat("two ", 500), strings.Repeat("x", 200_000), "four"}
	for _, text := range texts {
		s.publish(t, broker.Message{Audience: broker.ToUser("alice"), Data: text})
		if got := block(t, live); !strings.HasSuffix(got, "\ndata: "+text+"\n\n") {
			t.Errorf("got %.80q, want %.80q", got, text)
		}
	}

	resumed := open(first.ID)
	block(t, resumed)
	for _, text := range texts {
		if got := block(t, resumed); !strings.HasSuffix(got, "\ndata: "+text+"\n\n") {
			t.Errorf("a resumed stream got %.80q, want %.80q", got, text)
		}
	}

	if _, err := s.broker.Disconnect("alice", 0); err != nil {
		t.Fatal(err)
	}
	for _, body := range []*bufio.Reader{live, resumed} {
		if rest, err := io.ReadAll(body); err != nil || len(rest) > 0 {
			t.Errorf("after the disconnect the body continues with %q (%v), want its end", rest, err)
		}
	}
}

// TestRetryBodiesOfFailedStarts suspends the broker after a request has been
// admitted. The client must be able to read what asks it to retry.
func TestRetryBodiesOfFailedStarts(t *testing.T) { onAll(t, testRetryBodiesOfFailedStarts) }

func testRetryBodiesOfFailedStarts(t *testing.T, via path) {
	var suspended atomic.Pointer[broker.Broker]
	s := start(t, via, func(c *ssehttp.Config, b *broker.Config) {
		withCompression(c, b)
		c.Application = onAuthorize(func() error { suspended.Load().Suspend(0); return nil })
	})
	suspended.Store(s.broker)
	resp := s.request(t, http.MethodGet, "/events", "Accept: text/event-stream", "Accept-Encoding: gzip")
	if body, err := io.ReadAll(decoded(t, resp)); err != nil || !strings.HasPrefix(string(body), "retry: ") {
		t.Errorf("got %q (%v) with Content-Encoding %q, want a reconnection time", body, err, resp.Header.Get("Content-Encoding"))
	}

	// Later requests are rejected before a coding is chosen.
	for _, accept := range []string{"text/event-stream", "text/*"} {
		resp := s.request(t, http.MethodGet, "/events", "Accept: "+accept, "Accept-Encoding: gzip")
		if got := resp.Header.Get("Content-Encoding"); got != "" {
			t.Errorf("Content-Encoding %q on a rejection", got)
		}
	}
}

// TestFailedStartsWhileShardsWrite suspends the broker while requests are waiting
// that have been admitted. What they get must be written apart from what shards
// write to other streams at the same time.
func TestFailedStartsWhileShardsWrite(t *testing.T) {
	onEach(t, enginePaths(), testFailedStartsWhileShardsWrite)
}

func testFailedStartsWhileShardsWrite(t *testing.T, via path) {
	const waiting = 30
	var arrived sync.WaitGroup
	var failing atomic.Bool
	suspended := make(chan struct{})
	s := start(t, via, func(c *ssehttp.Config, _ *broker.Config) {
		c.Application = onAuthorize(func() error {
			if failing.Load() {
				arrived.Done()
				<-suspended
			}
			return nil
		})
	})
	for range 50 {
		s.open(t, "/events")
	}

	arrived.Add(waiting)
	failing.Store(true)
	var all sync.WaitGroup
	for range waiting {
		all.Go(func() {
			resp := s.request(t, http.MethodGet, "/events", "Accept: text/event-stream")
			if body, err := io.ReadAll(resp.Body); err != nil || !strings.HasPrefix(string(body), "retry: ") || strings.Contains(string(body), "data:") {
				t.Errorf("got %q (%v), want a reconnection time", body, err)
			}
		})
	}
	arrived.Wait()
	for range 20 {
		s.publish(t, broker.Message{Audience: broker.Everyone(), Data: "for others"})
	}
	s.broker.Suspend(0)
	close(suspended)
	all.Wait()
}
