package clients_test

import (
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

// world holds the daemons that all clients share, and the points in time at which
// one of them is killed and one is shut down.
type world struct {
	app *application

	daemon  *pealdtest.Daemon
	control pealv1.ControlServiceClient

	killed        *process
	killedControl pealv1.ControlServiceClient
	killing       *meeting

	drained, successor         *pealdtest.Daemon
	drainedControl, drainingTo pealv1.ControlServiceClient
	draining                   *meeting
}

// meeting is a point in time that all streams of a scenario wait for.
type meeting struct {
	mu      sync.Mutex
	streams []*stream
	missing sync.WaitGroup
	done    chan struct{}
}

func newMeeting() *meeting { return &meeting{done: make(chan struct{})} }

// arrive adds a stream to those that are waiting.
func (m *meeting) arrive(s *stream) {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.streams = append(m.streams, s)
	m.missing.Done()
}

func newWorld(t *testing.T) *world {
	t.Helper()

	w := &world{app: newApplication(t), killing: newMeeting(), draining: newMeeting()}
	// A heartbeat would flush events that a client buffers.
	w.daemon = pealdtest.Start(t, w.app.configure, func(cfg *daemon.Config) { cfg.SSE.Heartbeat = 10 * time.Minute })
	w.drained = pealdtest.Start(t, w.app.configure)
	w.successor = pealdtest.Start(t, w.app.configure)
	w.killed = startProcess(t, testbed.BuildDaemon(t), w.app)

	w.control = control(t, w.daemon.GRPC)
	w.drainedControl, w.drainingTo = control(t, w.drained.GRPC), control(t, w.successor.GRPC)
	w.killedControl = control(t, w.killed.GRPC)

	return w
}

// kill kills the daemon once all streams have arrived, and restarts it after their
// clients' connections have been refused.
func (w *world) kill(t *testing.T) {
	t.Helper()
	defer close(w.killing.done)

	w.killing.missing.Wait()

	for _, s := range w.killing.streams {
		s.recorder.refuse()
	}

	w.killed.kill()

	// A refused connection can't be observed unless the client gives up. This is
	// thirty times the clients' reconnection time.
	await := time.NewTimer(30 * retry)
	defer await.Stop()
	<-await.C

	w.killed.start(t)

	for _, s := range w.killing.streams {
		send(t, w.killedControl, s, missed)
		s.recorder.admit(t)
	}
}

// drain shuts the daemon down once all streams have arrived.
func (w *world) drain(t *testing.T) {
	t.Helper()
	defer close(w.draining.done)

	w.draining.missing.Wait()

	for _, s := range w.draining.streams {
		s.recorder.forward(w.successor.SSE)
	}

	w.drained.Stop(t)
}

// upstream returns the address of the daemon for a column's streams.
func (w *world) upstream(column string) string {
	switch column {
	case "kill":
		return w.killed.SSE
	case "drain":
		return w.drained.SSE
	default:
		return w.daemon.SSE
	}
}

// build builds a program of the module in dir and returns its path.
func build(t *testing.T, name, dir, pkg string) string {
	t.Helper()

	path := filepath.Join(t.TempDir(), name)

	args := slices.Concat([]string{"-C", dir, "build", "-ldflags=-w", "-o", path}, testbed.BuildFlags(), []string{pkg})

	out, err := exec.CommandContext(t.Context(), testbed.Program(t, "go"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}

	return path
}
