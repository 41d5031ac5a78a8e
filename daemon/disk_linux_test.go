package daemon_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

// TestFullDisk fills the disk of a single daemon. Its readiness and the errors
// for publishers must name the cause, and its streams continue once there is
// space.
func TestFullDisk(t *testing.T) {
	t.Parallel()

	dir := testbed.SmallDisk(t, "1m")
	d := pealdtest.Start(t, func(cfg *daemon.Config) {
		cfg.Cluster.Mode, cfg.Cluster.Dir, cfg.Cluster.Addr = daemon.ClusterEmbedded, dir, "127.0.0.1:0"
	})

	d.WaitUntilReady(t)
	calls, web := d.Control(t), client(t)
	before := stream(t, web, d.Events(t, ""))
	var err error

	for large := strings.Repeat("x", 100_000); err == nil; {
		_, err = calls.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: large})
	}

	full := "the disk of its event log is full: " + dir
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), full) {
		t.Errorf("publishing gets %v, want %v with %q", err, codes.Unavailable, full)
	}
	if ready := get(t, web, d.URL("/readyz")); !strings.HasPrefix(ready, "503 ") || !strings.HasSuffix(ready, full) {
		t.Errorf("/readyz: %s, want 503 %s", ready, full)
	}

	meanwhile := stream(t, web, d.Events(t, ""))
	testbed.ResizeDisk(t, dir, "64m")
	d.WaitUntilReady(t)
	if _, err := calls.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "there is space"}); err != nil {
		t.Fatal(err)
	}

	awaitLine(t, before, "data: there is space")
	awaitLine(t, meanwhile, "data: there is space")
}
