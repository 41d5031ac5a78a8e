package daemon_test

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// TestDrain checks a daemon that closes its streams one after another: the
// remaining streams get new events, new streams are asked to retry, and the
// daemon isn't ready.
func TestDrain(t *testing.T) {
	for _, engine := range []string{daemon.EngineNetHTTP, daemon.EngineEpoll} {
		t.Run(engine, func(t *testing.T) {
			if engine == daemon.EngineEpoll && runtime.GOOS != "linux" {
				t.Skip("epoll is available on Linux only")
			}
			// A loaded machine may take longer to observe the drain than the drain
			// lasts: a drain closes at least 200 streams a second.
			for streams := 200; !testDrain(t, engine, streams); streams *= 2 {
				if streams > 5000 {
					t.Fatal("the daemon ends before its drain can be observed")
				}
			}
		})
	}
}

// testDrain drains a daemon. It returns false if the daemon ended before it could
// be observed.
func testDrain(t *testing.T, engine string, streams int) (seen bool) {
	d := start(t, func(cfg *daemon.Config) { cfg.SSE.Engine = engine })
	rpc, _ := controlClient(t, d.GRPC)
	web := client(t)
	got := make([]string, streams)
	var reading sync.WaitGroup

	for i := range got {
		lines := stream(t, web, "http://"+d.SSE+"/events")
		reading.Go(func() {
			rest, err := io.ReadAll(lines)
			if err != nil {
				t.Errorf("stream %d fails: %v", i, err)
			}

			got[i] = string(rest)
		})
	}

	sent, some := 0, false
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
			reply, err := rpc.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "in the drain"})
			if err != nil || reply.GetRecipients() == 0 {
				return
			}

			sent += int(reply.GetRecipients())
			some = some || int(reply.GetRecipients()) < streams
		}
	})

	began := time.Now()
	d.end()

	seen = lookAtDrain(t, d)

	publishing.Wait()
	if err := d.awaitEnd(t); err != nil {
		t.Errorf("Run returned %v", err)
	}
	if took := time.Since(began); took < 500*time.Millisecond || took > time.Minute {
		t.Errorf("the drain of %d streams took %s", streams, took)
	}

	reading.Wait()
	if !some {
		t.Error("nothing was published while streams were being closed")
	}

	for _, text := range got {
		sent -= strings.Count(text, "data: in the drain\n\n")
		cut := strings.LastIndex(text, "\n\nretry: ")
		if cut < 0 || strings.Count(text[cut:], "\n") != 4 || !strings.HasSuffix(text, "\n\n") {
			t.Errorf("a stream ends with %q", text[max(0, len(text)-100):])
		}
	}
	if sent != 0 {
		t.Errorf("%d events are missing on their streams", sent)
	}
	return seen
}

// lookAtDrain checks how a draining daemon responds. It returns false if the
// daemon ended in the meantime.
func lookAtDrain(t *testing.T, d running) bool {
	t.Helper()
	web := client(t)
	ended := false
	get := func(url, accept string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		resp, err := web.Do(req)
		if err != nil {
			ended = true
			return ""
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		ended = ended || err != nil
		return fmt.Sprintf("%d %s", resp.StatusCode, body)
	}

	// /readyz changes first, and new streams are rejected a moment later.
	for !ended && !strings.Contains(get("http://"+d.REST+"/metrics", "*/*"), "\npeald_draining 1\n") {
		runtime.Gosched()
	}

	for _, want := range []struct{ url, accept, answer string }{
		{d.REST + "/readyz", "*/*", `(?s)^503 .*draining\n?$`},
		{d.REST + "/healthz", "*/*", `^200 `},
		{d.SSE + "/events", "text/event-stream", `^200 retry: \d+\n\n$`},
		{d.SSE + "/events", "*/*", `^503 `},
	} {
		if answer := get("http://"+want.url, want.accept); !ended && !regexp.MustCompile(want.answer).MatchString(answer) {
			t.Errorf("GET %s with Accept: %s gets %q, want %s", want.url, want.accept, answer, want.answer)
		}
	}
	return !ended
}

// TestDrainOfABlockedStream checks that a connection that accepts no bytes delays
// the shutdown by two seconds, not by the full drain.timeout.
func TestDrainOfABlockedStream(t *testing.T) {
	for _, engine := range []string{daemon.EngineNetHTTP, daemon.EngineEpoll} {
		t.Run(engine, func(t *testing.T) {
			if engine == daemon.EngineEpoll && runtime.GOOS != "linux" {
				t.Skip("epoll is available on Linux only")
			}

			d := start(t, func(cfg *daemon.Config) {
				cfg.SSE.Engine = engine
				cfg.Broker.QueueBytes = 64 << 20
			})

			rpc, _ := controlClient(t, d.GRPC)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.SSE+"/events", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}

			resp, err := client(t).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			for range 20 { // more than socket buffers hold
				if _, err := rpc.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: strings.Repeat("x", 1<<20)}); err != nil {
					t.Fatal(err)
				}
			}

			began := time.Now()
			d.end()
			if err := d.awaitEnd(t); err != nil || time.Since(began) > 8*time.Second {
				t.Errorf("Run returned after %s with %v", time.Since(began), err)
			}
		})
	}
}
