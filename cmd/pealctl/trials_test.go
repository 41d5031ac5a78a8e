package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/peald/peald/internal/bench"
	"github.com/peald/peald/internal/pealdtest"
)

// TestTrialsThroughTheDaemon tries what the daemon promises of connections that
// are lost, and what the trials say where it can't keep it.
func TestTrialsThroughTheDaemon(t *testing.T) {
	d := pealdtest.Start(t)
	at := func(args ...string) []string {
		return append([]string{"--addr", d.GRPC, "--output", "json", "bench", "--url", d.Events(t, "")}, args...)
	}

	r := pealctl(t, at("--chaos", "--clients", "50", "--rate", "300", "--duration", "2s", "--life", "300ms"))
	var chaos bench.ChaosResult
	if err := json.Unmarshal([]byte(r.stdout), &chaos); err != nil || r.status != 0 {
		t.Fatalf("chaos: status %d, %v: %s%s", r.status, err, r.stdout, r.stderr)
	}
	if chaos.Cuts < 50 || chaos.Published != 600 || chaos.Received != chaos.Expected || chaos.Expected < 600 || chaos.Faults() != "" {
		t.Errorf("chaos found %+v, want cuts and all 600 messages where they belong", chaos)
	}

	for _, reader := range []string{"every_id", "dispatched_ids"} {
		if got := chaos.Readers[reader]; got.Clients != 25 || got.Expected == 0 || got.Lost != 0 {
			t.Errorf("of clients that keep %s chaos found %+v, want 25 that lost nothing", reader, got)
		}
	}

	r = pealctl(t, at("--resume", "5", "--clients", "50", "--users", "10"))
	var resume bench.MassResumeResult
	if err := json.Unmarshal([]byte(r.stdout), &resume); err != nil || r.status != 0 {
		t.Fatalf("resume: status %d, %v: %s%s", r.status, err, r.stdout, r.stderr)
	}
	if resume.Logged != 50 || resume.Took == 0 || resume.Resets+resume.Faults != 0 {
		t.Errorf("resume found %+v, want 50 messages and no faults", resume)
	}

	// More than the log holds, which is 10,000 events.
	pealctl(t, at("--resume", "1100", "--clients", "10", "--users", "10")).wantFaults(t, "10 were told of a hole", "history.max_events")
}

// TestChaosNoticesWhatIsLost has a way to the daemon that forgets where a client
// was, so that it misses what was sent while it was away.
func TestChaosNoticesWhatIsLost(t *testing.T) {
	d := pealdtest.Start(t)
	forgets := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := r.Clone(r.Context())
		out.RequestURI, out.URL.Scheme, out.URL.Host = "", "http", d.SSE
		out.Header.Del("Last-Event-ID")

		resp, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			return
		}
		defer resp.Body.Close()

		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(flusher{w, http.NewResponseController(w)}, resp.Body)
	}))

	t.Cleanup(forgets.Close)
	url := strings.Replace(d.Events(t, ""), d.SSE, forgets.Listener.Addr().String(), 1)
	pealctl(t, []string{"--addr", d.GRPC, "bench", "--chaos", "--url", url, "--clients", "20", "--rate", "300", "--duration", "2s", "--life", "200ms", "--patience", "500ms"}).
		wantFaults(t, "messages lost")
}

// flusher passes on what it is given at once.
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

// wantFaults is for a result that is shown and not good.
func (r result) wantFaults(t *testing.T, parts ...string) {
	t.Helper()
	if r.status != 1 || r.stdout == "" {
		t.Errorf("status %d and %q, want 1 and a result", r.status, r.stdout)
	}
	for _, part := range parts {
		if !strings.Contains(r.stderr, part) {
			t.Errorf("said %q, want %q in it", r.stderr, part)
		}
	}
}
