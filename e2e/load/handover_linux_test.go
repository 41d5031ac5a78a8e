package load_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/testbed"
)

// TestHandOver hands over from one daemon to another on the same addresses, under
// load. No connection, stream or call may be rejected, and each stream must
// receive every event or a reset. By default, the load includes 30 streams; with SOAK,
// there are 300.
func TestHandOver(t *testing.T) { //nolint:tparallel // each subtest is a load of its own
	t.Parallel()
	program := testbed.BuildDaemon(t)

	t.Run("reuse_port", func(t *testing.T) {
		old := startDaemonWith(t, program, nil, "--sse.reuse_port", "--drain.timeout=2s", "--sse.retry=200ms",
			"--sse.addr=127.0.0.1:0", "--grpc.addr=127.0.0.1:0", "--rest.addr=127.0.0.1:0")
		testHandOver(t, old, func() *daemonProcess {
			return startDaemonWith(t, program, nil, "--sse.reuse_port", "--drain.timeout=2s", "--sse.retry=200ms",
				"--sse.addr="+old.SSE, "--grpc.addr="+old.GRPC, "--rest.addr="+old.REST)
		})
	})

	t.Run("inherited", func(t *testing.T) {
		var files []*os.File

		for range 3 {
			_, file := openSocket(t)
			files = append(files, file)
		}

		start := func() *daemonProcess {
			return startDaemonWith(t, program, files, "--drain.timeout=2s", "--sse.retry=200ms")
		}
		testHandOver(t, start(), start)
	})

	t.Run("restart", func(t *testing.T) { testRestart(t, program) })
}

// testRestart stops a daemon and then starts the next one with the same
// listening socket. A client that connects in between must be served by the next
// daemon.
func testRestart(t *testing.T, program string) {
	addr, file := openSocket(t)
	old := startDaemonWith(t, program, []*os.File{file}, "--grpc.addr=127.0.0.1:0", "--rest.addr=127.0.0.1:0")
	old.stop(t)

	answered := make(chan error, 1)

	go func() {
		stream, err := openStream(t.Context(), addr, "")
		if err == nil {
			_ = stream.body.Close()
		}

		answered <- err
	}()

	next := startDaemonWith(t, program, []*os.File{file}, "--grpc.addr=127.0.0.1:0", "--rest.addr=127.0.0.1:0")

	if err := <-answered; err != nil {
		t.Errorf("a client that connected in between: %v", err)
	}

	next.stop(t)
}

// openSocket opens a listening socket as systemd does: without Multipath TCP,
// which package net enables by default.
func openSocket(t *testing.T) (addr string, file *os.File) {
	t.Helper()

	var lc net.ListenConfig

	lc.SetMultipathTCP(false)

	listener, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = listener.Close() })

	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		t.Fatalf("%T", listener)
	}

	if file, err = tcp.File(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = file.Close() })

	return listener.Addr().String(), file
}

// startDaemonWith starts a daemon that inherits files as listening sockets.
func startDaemonWith(t *testing.T, program string, files []*os.File, args ...string) *daemonProcess {
	t.Helper()

	// LISTEN_PID must be the daemon's PID, which is unknown until it is started.
	script := `exec "$0" "$@"`
	if len(files) > 0 {
		script = fmt.Sprintf("LISTEN_PID=$$ LISTEN_FDS=%d %s", len(files), script)
	}

	cmd := exec.Command("sh", append([]string{"-c", script, program}, args...)...)
	cmd.ExtraFiles, cmd.Env = files, os.Environ()

	return startCommand(t, cmd)
}

func testHandOver(t *testing.T, old *daemonProcess, startNext func() *daemonProcess) {
	load := &handOverLoad{sse: old.SSE, grpc: old.GRPC, rest: old.REST}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()

	holders := 30
	if os.Getenv("SOAK") != "" {
		holders = 300
	}

	var opened sync.WaitGroup

	opened.Add(holders)

	for range holders {
		load.running.Go(func() { load.hold(ctx, t, &opened) })
	}

	opened.Wait()
	load.running.Go(func() { load.publish(ctx, t) })
	load.running.Go(func() { load.publishOverREST(ctx, t) })

	for range 4 {
		load.running.Go(func() { load.connect(ctx, t) })
	}

	next := startNext()
	old.stop(t)

	// Wait until all streams have reconnected, and until there has been load, even
	// on a slow machine.
	for load.resets.Load() < int64(holders) || load.connects.Load() < 50 || load.number.Load() < 50 || load.overREST.Load() < 50 {
		if !next.wait(10 * time.Millisecond) {
			t.Fatal("the next daemon exited")
		}
	}

	stop()
	load.running.Wait()
	next.stop(t)
	t.Logf("%d streams reconnected, %d new ones were opened, %d messages were published and %d over REST",
		load.resets.Load(), load.connects.Load(), load.number.Load(), load.overREST.Load())
}

// handOverLoad is the load during a handover.
type handOverLoad struct {
	sse, grpc, rest string

	running                            sync.WaitGroup
	resets, connects, number, overREST atomic.Int64
}

// hold holds a stream as EventSource does. It fails if events are missing and the
// stream wasn't reset.
func (l *handOverLoad) hold(ctx context.Context, t *testing.T, opened *sync.WaitGroup) {
	first := true

	for lastID := ""; ctx.Err() == nil; {
		stream, err := openStream(ctx, l.sse, lastID)
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("reconnecting: %v", err)
			}

			return
		}

		if stream.reset {
			l.resets.Add(1)
		} else if !first {
			t.Error("a stream that resumed in another history got no reset")
		}

		if first {
			opened.Done()
		}

		first = false

		for last := int64(0); ; {
			number, err := stream.next()
			if err != nil {
				break
			}

			if last != 0 && number > last+1 {
				t.Errorf("received event %[2]d after %[1]d", last, number)
			}

			last = number
		}

		_ = stream.body.Close()
		lastID = stream.lastID

		select {
		case <-time.After(stream.retry):
		case <-ctx.Done():
		}
	}
}

// connect opens and closes streams, one after another.
func (l *handOverLoad) connect(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		stream, err := openStream(ctx, l.sse, "")
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("opening a stream: %v", err)
			}

			return
		}

		l.connects.Add(1)

		_ = stream.body.Close()

		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// publish broadcasts consecutive numbers over gRPC.
func (l *handOverLoad) publish(ctx context.Context, t *testing.T) {
	conn, err := grpc.NewClient(l.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Error(err)

		return
	}
	defer conn.Close()

	for control := pealv1.NewControlServiceClient(conn); ctx.Err() == nil; {
		_, err := control.Broadcast(ctx, &pealv1.BroadcastRequest{Data: strconv.FormatInt(l.number.Add(1), 10)})
		if err != nil && ctx.Err() == nil {
			t.Errorf("gRPC: %v", err)
		}

		time.Sleep(10 * time.Millisecond)
	}
}

// publishOverREST publishes messages for a user without streams.
func (l *handOverLoad) publishOverREST(ctx context.Context, t *testing.T) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()

	for ctx.Err() == nil {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+l.rest+"/v1/users/nobody/messages", strings.NewReader(`{"data":"x"}`))
		if err != nil {
			t.Error(err)

			return
		}

		response, err := client.Do(request)
		if err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}

		if ctx.Err() == nil && (err != nil || response.StatusCode != http.StatusOK) {
			t.Errorf("REST: %v, %v", response, err)

			return
		}

		l.overREST.Add(1)
		time.Sleep(10 * time.Millisecond)
	}
}

// openedStream is a stream whose first block has been read.
type openedStream struct {
	body   io.ReadCloser
	lines  *bufio.Reader
	retry  time.Duration
	lastID string
	reset  bool
}

// openStream opens a stream. It returns an error if the stream is rejected.
func openStream(ctx context.Context, addr, lastID string) (*openedStream, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/events", http.NoBody)
	if err != nil {
		return nil, err
	}

	request.Close = true
	request.Header.Set("Accept", "text/event-stream")

	if lastID != "" {
		request.Header.Set("Last-Event-ID", lastID)
	}

	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}

	s := &openedStream{body: response.Body, lines: bufio.NewReader(response.Body)}
	if err := s.block(func(string) {}); err != nil {
		return nil, fmt.Errorf("read the first block: %w", err)
	}

	if s.lastID == "" {
		return nil, fmt.Errorf("rejected with %s and retry %s", response.Status, s.retry)
	}

	return s, nil
}

// block reads and evaluates the lines up to the next empty line. It calls data with
// the value of each data line.
func (s *openedStream) block(data func(string)) error {
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return err
		}

		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")

		switch name {
		case "":
			return nil
		case "retry":
			ms, err := strconv.Atoi(value)
			if err != nil {
				return err
			}

			s.retry = time.Duration(ms) * time.Millisecond
		case "id":
			s.lastID = value
		case "event":
			s.reset = s.reset || value == "peald.reset"
		case "data":
			data(value)
		}
	}
}

// next returns the number in the next event.
func (s *openedStream) next() (number int64, err error) {
	for number == 0 && err == nil {
		var bad error

		err = s.block(func(data string) { number, bad = strconv.ParseInt(data, 10, 64) })
		if bad != nil {
			return 0, bad
		}
	}

	return number, err
}
