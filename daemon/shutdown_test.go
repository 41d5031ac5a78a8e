package daemon_test

import (
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// TestDrain checks that while streams are closed one after another, those that
// are left get new events, new streams are asked to retry, and the daemon isn't
// ready.
func TestDrain(t *testing.T) {
	for _, engine := range []string{daemon.EngineNetHTTP, daemon.EngineEpoll} {
		t.Run(engine, func(t *testing.T) {
			if engine == daemon.EngineEpoll && runtime.GOOS != "linux" {
				t.Skip("epoll is available on Linux only")
			}
			testDrain(t, engine)
		})
	}
}

func testDrain(t *testing.T, engine string) {
	const streams = 200 // closed within a second
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
			some = some || reply.GetRecipients() < streams
		}
	})

	began := time.Now()
	d.end()

	// /readyz changes first, and new streams are rejected a moment later.
	for !strings.Contains(get(t, web, "http://"+d.REST+"/metrics"), "\npeald_draining 1\n") {
		runtime.Gosched()
	}
	if ready := get(t, web, "http://"+d.REST+"/readyz"); !strings.HasSuffix(ready, "draining") {
		t.Errorf("/readyz: %s", ready)
	}
	if alive := get(t, web, "http://"+d.REST+"/healthz"); !strings.HasPrefix(alive, "200 ") {
		t.Errorf("health: %s", alive)
	}

	rejected := stream(t, client(t), "http://"+d.SSE+"/events")
	if rest, err := io.ReadAll(rejected); err != nil || string(rest) != "\n" {
		t.Errorf("after its retry a rejected stream gets %q, %v", rest, err)
	}
	if answer := get(t, web, "http://"+d.SSE+"/events"); !strings.HasPrefix(answer, "503 ") {
		t.Errorf("a request that doesn't accept event streams gets %s", answer)
	}

	publishing.Wait()
	if err := d.awaitEnd(t); err != nil {
		t.Errorf("Run returned %v", err)
	}
	if took := time.Since(began); took < 500*time.Millisecond || took > time.Minute {
		t.Errorf("the drain took %s, want about a second", took)
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
}

// TestDrainOfABlockedStream checks that a connection that accepts no bytes delays
// the shutdown by two seconds, not by the whole drain.timeout.
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
