package main_test

import (
	"strings"
	"testing"

	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

// TestBenchConnectionRefused runs every kind of benchmark against an address that
// nothing listens on. Each must fail immediately, with an error that contains the
// address but not the token.
func TestBenchConnectionRefused(t *testing.T) {
	t.Parallel()

	d := pealdtest.Start(t)
	unused := testbed.FreeAddrs(t, 1)[0]

	for _, kind := range [][]string{nil, {"--chaos"}, {"--resume", "1"}} {
		args := append([]string{"--addr", d.GRPC, "bench", "--clients", "3", "--url", "http://" + unused + "/events?access_token=s3cret"}, kind...)

		r := pealctl(t, args)
		r.wantError(t, "http://"+unused+"/events", "connection refused")

		if strings.Contains(r.stderr, "s3cret") || strings.Contains(r.stderr, "after 20s") || strings.Contains(r.stderr, "--url is not set") {
			t.Errorf("%q: %s", kind, r.stderr)
		}
	}
}
