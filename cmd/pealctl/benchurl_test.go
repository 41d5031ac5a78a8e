package main_test

import (
	"strings"
	"testing"

	"github.com/peald/peald/internal/pealdtest"
)

// TestBenchWithoutStreams runs every kind of bench where nobody listens for
// streams. Each fails at once, with the address and without the token in it.
func TestBenchWithoutStreams(t *testing.T) {
	t.Parallel()

	d := pealdtest.Start(t)
	nobody := pealdtest.FreeAddrs(t, 1)[0]

	for _, kind := range [][]string{nil, {"--chaos"}, {"--resume", "1"}} {
		args := append([]string{"--addr", d.GRPC, "bench", "--clients", "3", "--url", "http://" + nobody + "/events?access_token=s3cret"}, kind...)

		r := pealctl(t, args)
		r.wantError(t, "http://"+nobody+"/events", "connection refused")

		if strings.Contains(r.stderr, "s3cret") || strings.Contains(r.stderr, "after 20s") || strings.Contains(r.stderr, "--url is not given") {
			t.Errorf("%q: %s", kind, r.stderr)
		}
	}
}
