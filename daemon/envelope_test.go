package daemon_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/peald/peald/daemon"
)

// TestEnvelopes compares events in envelopes with what the control plane returns for them,
// on each engine: events that arrive live, that are replayed, and that are retained.
func TestEnvelopes(t *testing.T) {
	for _, engine := range []string{daemon.EngineAuto, daemon.EngineNetHTTP} {
		t.Run(engine, func(t *testing.T) {
			onEachTransport(t, func(cfg *daemon.Config) {
				cfg.SSE.Engine = engine
				cfg.Auth.AnonymousTopics = []string{"orders.*"}
			}, testEnvelopes)
		})
	}
}

func testEnvelopes(t *testing.T, d reachable) {
	web, control := d.browser(t), client(t)
	live := stream(t, &web.Client, d.url+"?topic=orders.*&envelope=1")
	const path = "/v1/topics/orders.7/messages"
	if got := call(t, control, http.MethodPost, "http://"+d.REST+path, `{"data":"a <b>\n\"c\"","event":"paid","retain":true}`); !strings.HasPrefix(got, "200 ") {
		t.Fatal(got)
	}
	listed := get(t, control, "http://"+d.REST+path)
	_, stamp, _ := strings.Cut(listed, `"time":"`)
	stamp, _, ok := strings.Cut(stamp, `"`)
	if !ok {
		t.Fatalf("ListMessages returns %q", listed)
	}

	want := `data: {"topic":"orders.7","event":"paid","data":"a <b>\n\"c\"","time":"` + stamp + "\"}\n"
	awaitLine(t, live, want)
	for _, start := range []string{"&since=all", "&rewind=1", ""} {
		awaitLine(t, stream(t, &web.Client, d.url+"?topic=orders.*&envelope=1"+start), want)
		awaitLine(t, stream(t, &web.Client, d.url+"?topic=orders.*"+start), "data: a <b>\n")
	}
}
