package main_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	peald "github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/bench"
	"github.com/peald/peald/internal/pealdtest"
)

// TestBenchTrials runs the chaos and the resume trial against a daemon, first
// without and then with lost messages.
func TestBenchTrials(t *testing.T) {
	d := pealdtest.Start(t, func(cfg *peald.Config) { cfg.History.MaxEvents = 1000 })
	at := func(args ...string) []string {
		return append([]string{"--addr", d.GRPC, "--output", "json", "bench", "--url", d.Events(t, "")}, args...)
	}

	r := pealctl(t, at("--chaos", "--clients", "20", "--rate", "100", "--duration", "1s", "--life", "200ms"))
	var chaos bench.ChaosResult
	if err := json.Unmarshal([]byte(r.stdout), &chaos); err != nil || r.status != 0 {
		t.Fatalf("chaos: status %d, %v: %s%s", r.status, err, r.stdout, r.stderr)
	}
	if chaos.Cuts < 20 || chaos.Published != 100 || chaos.Received != chaos.Expected || chaos.Expected < 50 || chaos.Faults() != "" {
		t.Errorf("chaos result %+v, want at least 20 cuts and no faults in 100 messages", chaos)
	}

	for _, reader := range []string{"every_id", "dispatched_ids"} {
		if got := chaos.Readers[reader]; got.Clients != 10 || got.Expected == 0 || got.Lost != 0 {
			t.Errorf("chaos result for clients that keep %s: %+v, want 10 clients without losses", reader, got)
		}
	}

	r = pealctl(t, at("--resume", "5", "--clients", "50", "--users", "10"))
	var resume bench.MassResumeResult
	if err := json.Unmarshal([]byte(r.stdout), &resume); err != nil || r.status != 0 {
		t.Fatalf("resume: status %d, %v: %s%s", r.status, err, r.stdout, r.stderr)
	}
	if resume.Logged != 50 || resume.Took == 0 || resume.Resets+resume.Faults != 0 {
		t.Errorf("resume result %+v, want 50 messages and no faults", resume)
	}

	// This publishes more messages than the event history holds.
	pealctl(t, at("--resume", "110", "--clients", "10", "--users", "10")).wantFaults(t, "10 got a peald.reset", "history.max_events")
}

// TestBenchChaosFindsLostMessages connects to the daemon through a proxy that
// removes Last-Event-ID, so that clients lose the messages sent while they are
// disconnected.
func TestBenchChaosFindsLostMessages(t *testing.T) {
	d := pealdtest.Start(t)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := r.Clone(r.Context())
		out.RequestURI, out.URL.Scheme, out.URL.Host = "", "http", d.SSE
		out.Header.Del("Last-Event-ID")

		resp, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			return
		}
		defer resp.Body.Close()

		maps.Copy(w.Header(), resp.Header)
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(flusher{w, http.NewResponseController(w)}, resp.Body)
	}))

	t.Cleanup(proxy.Close)
	url := strings.Replace(d.Events(t, ""), d.SSE, proxy.Listener.Addr().String(), 1)
	pealctl(t, []string{"--addr", d.GRPC, "bench", "--chaos", "--url", url, "--clients", "20", "--rate", "100", "--duration", "1s", "--life", "200ms", "--patience", "500ms"}).
		wantFaults(t, "messages lost")
}

// flusher flushes after each write.
type flusher struct {
	io.Writer

	rc *http.ResponseController
}

func (f flusher) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	if err == nil {
		err = f.rc.Flush()
	}
	return n, err
}

// wantFaults fails the test unless the run printed a result, failed, and reported
// all parts on stderr.
func (r result) wantFaults(t *testing.T, parts ...string) {
	t.Helper()
	if r.status != 1 || r.stdout == "" {
		t.Errorf("status %d and stdout %q, want status 1 and a result", r.status, r.stdout)
	}
	for _, part := range parts {
		if !strings.Contains(r.stderr, part) {
			t.Errorf("stderr is %q, want %q in it", r.stderr, part)
		}
	}
}
