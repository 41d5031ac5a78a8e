package daemon_test

import (
	"strings"
	"testing"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// TestStartMetrics checks that streams that start in the past are counted by outcome,
// over each transport.
func TestStartMetrics(t *testing.T) {
	onEachTransport(t, func(*daemon.Config) {}, func(t *testing.T, d reachable) {
		web := &d.browser(t).Client
		rpc, _ := controlClient(t, d.GRPC)
		for _, data := range []string{"first", "last"} {
			if _, err := rpc.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: data}); err != nil {
				t.Fatal(err)
			}
		}
		awaitLine(t, stream(t, web, d.url+"?rewind=1"), "data: last")
		awaitLine(t, stream(t, web, d.url+"?since=all"), "data: first")
		long := stream(t, web, d.url+"?since=1h")
		awaitLine(t, long, "event: peald.reset")
		awaitLine(t, long, "data: first")
		families := scrape(t, d.running)
		for series, want := range map[string]float64{
			"since_total replayed": 1, "since_total expired": 1, "since_total ended": 0,
			"rewinds_total replayed": 1, "rewinds_total expired": 0, "resumes_total replayed": 0,
		} {
			name, outcome, _ := strings.Cut(series, " ")
			if got := byLabel(families["peald_"+name])[outcome]; got != want {
				t.Errorf("%s is %v, want %v", series, got, want)
			}
		}
	})
}
