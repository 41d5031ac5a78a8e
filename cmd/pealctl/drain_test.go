package main_test

import (
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/peald/peald/internal/pealdtest"
)

func TestDrain(t *testing.T) {
	d := pealdtest.Start(t)
	watch(t, "tail", d.Events(t, ""))
	d.WaitForStreams(t, 1)
	at := []string{"--addr", d.GRPC}

	pealctl(t, append(at, "health")).want(t, "serving\n")
	pealctl(t, append(at, "health", "--service", "peal.v1.ControlService", "--output", "json")).want(t, `{"status":"SERVING"}`+"\n")
	pealctl(t, append(at, "health", "--service", "nothing")).wantError(t, "NOT_FOUND")

	pealctl(t, append(at, "drain")).want(t, "0 streams left\n")
	d.WaitForEnd(t)
	pealctl(t, append(at, "health", "--live")).wantError(t, "UNAVAILABLE")
	pealctl(t, append(at, "drain")).wantError(t, "UNAVAILABLE")
}

func TestDrainAsJSON(t *testing.T) {
	d := pealdtest.Start(t)
	r := pealctl(t, []string{"--addr", d.GRPC, "drain", "--output", "json"})
	if r.status != 0 || !strings.HasSuffix(r.stdout, `{"connections":0}`+"\n") {
		t.Errorf("status %d, %s%s", r.status, r.stdout, r.stderr)
	}
	d.WaitForEnd(t)
}

func TestHealthNotServing(t *testing.T) {
	d := startUnready(t)
	pealctl(t, []string{"--addr", d, "health"}).wantError(t, "the daemon is not serving")
	pealctl(t, []string{"--addr", d, "health", "--live"}).want(t, "not serving\n")
}

// startUnready starts a control plane that isn't ready and returns its address.
func startUnready(t *testing.T) string {
	t.Helper()
	server := grpc.NewServer()
	state := health.NewServer()
	state.Shutdown()
	healthv1.RegisterHealthServer(server, state)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })

	t.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})

	return listener.Addr().String()
}
