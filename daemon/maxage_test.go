package daemon_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/peald/peald/daemon"
)

// TestMaxAge opens a stream on each engine that is closed because of its age. The log, the
// metrics and the statistics name the reason.
func TestMaxAge(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{daemon.EngineAuto, daemon.EngineNetHTTP} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			change := func(cfg *daemon.Config) { cfg.SSE.Engine, cfg.SSE.MaxAge = engine, time.Second }
			onEachTransport(t, change, testMaxAge)
		})
	}
}

func testMaxAge(t *testing.T, d reachable) {
	t.Parallel()
	resp := open(t, d.browser(t), d.url)
	body, err := io.ReadAll(resp.Body)
	if blocks := strings.Split(string(body), "\n\n"); err != nil || len(blocks) < 3 || !strings.HasPrefix(blocks[len(blocks)-2], "retry: ") {
		t.Errorf("the stream ends with %v after %q, want a reconnection time", err, body)
	}
	waitForFamilies(t, d.running, func(families map[string]*dto.MetricFamily) bool {
		return byLabel(families["peald_disconnects_total"])["max_age"] == 1
	})
	if got := get(t, client(t), "http://"+d.REST+"/v1/stats"); !strings.Contains(got, `"disconnected":{"max_age":"1"}`) {
		t.Errorf("the statistics are %s", got)
	}
}

// TestReloadOfMaxAge checks that open streams follow a change of sse.max_age.
func TestReloadOfMaxAge(t *testing.T) {
	r := startReloadable(t, daemon.Options{}, func(cfg *daemon.Config) { cfg.SSE.Heartbeat = time.Second })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.SSE+"/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	if logged := r.reload(t, func(cfg *daemon.Config) { cfg.SSE.MaxAge = time.Second }); !strings.Contains(logged, "changed=sse.max_age") {
		t.Errorf("the log is %q", logged)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || strings.Count(string(body), "retry: ") != 2 {
		t.Errorf("the stream ends with %v after %q, want a reconnection time", err, body)
	}
}
