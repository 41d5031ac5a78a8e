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
)

// TestHandOver has one daemon take over from another under load, on the same
// addresses: no connection, no stream and no call is refused, and whoever held
// a stream gets every event, or is told that there were some.
func TestHandOver(t *testing.T) { //nolint:tparallel // each half is a load of its own
	t.Parallel()
	program := buildDaemon(t)

	t.Run("reuse_port", func(t *testing.T) {
		old := startDaemonWith(t, program, nil, "--sse.reuse_port", "--drain.timeout=4s", "--sse.retry=200ms",
			"--sse.addr=127.0.0.1:0", "--grpc.addr=127.0.0.1:0", "--rest.addr=127.0.0.1:0")
		testHandOver(t, old, func() *soaked {
			return startDaemonWith(t, program, nil, "--sse.reuse_port", "--drain.timeout=4s", "--sse.retry=200ms",
				"--sse.addr="+old.SSE, "--grpc.addr="+old.GRPC, "--rest.addr="+old.REST)
		})
	})

	t.Run("inherited", func(t *testing.T) {
		var files []*os.File

		for range 3 {
			_, file := openSocket(t)
			files = append(files, file)
		}

		start := func() *soaked {
			return startDaemonWith(t, program, files, "--drain.timeout=4s", "--sse.retry=200ms")
		}
		testHandOver(t, start(), start)
	})

	t.Run("one after the other", func(t *testing.T) { testRestart(t, program) })
}

// testRestart stops a daemon and then starts the next, with a socket that
// somebody keeps: whoever connects in between waits, and is served.
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
		t.Errorf("who connected in between: %v", err)
	}

	next.stop(t)
}

// openSocket opens a socket that listens, as systemd does: without Multipath
// TCP, which is what package net would have.
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

// startDaemonWith starts a daemon that inherits files as sockets that listen.
func startDaemonWith(t *testing.T, program string, files []*os.File, args ...string) *soaked {
	t.Helper()

	// The process has to be named whom the sockets are for, and its number is
	// not known before it is there.
	script := `exec "$0" "$@"`
	if len(files) > 0 {
		script = fmt.Sprintf("LISTEN_PID=$$ LISTEN_FDS=%d %s", len(files), script)
	}

	cmd := exec.Command("sh", append([]string{"-c", script, program}, args...)...)
	cmd.ExtraFiles, cmd.Env = files, os.Environ()

	return startCommand(t, cmd)
}

func testHandOver(t *testing.T, old *soaked, startNext func() *soaked) {
	load := &handOverLoad{sse: old.SSE, grpc: old.GRPC, rest: old.REST}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()

	const holders = 300

	var begun sync.WaitGroup

	begun.Add(holders)

	for range holders {
		load.running.Go(func() { load.hold(ctx, t, &begun) })
	}

	begun.Wait()
	load.running.Go(func() { load.publish(ctx, t) })
	load.running.Go(func() { load.publishOverREST(ctx, t) })

	for range 4 {
		load.running.Go(func() { load.come(ctx, t) })
	}

	next := startNext()
	old.stop(t)

	// All have reconnected by then, since all had to; and however slow the
	// machine is, there has been load.
	for load.resets.Load() < holders || load.came.Load() < 50 || load.number.Load() < 50 || load.overREST.Load() < 50 {
		if !next.wait(10 * time.Millisecond) {
			t.Fatal("the daemon that took over has ended")
		}
	}

	stop()
	load.running.Wait()
	next.stop(t)
	t.Logf("%d streams went over, %d came and %d were published meanwhile (%d over REST)",
		load.resets.Load(), load.came.Load(), load.number.Load(), load.overREST.Load())
}

// handOverLoad is what goes on while a daemon takes over from another.
type handOverLoad struct {
	sse, grpc, rest string

	running                        sync.WaitGroup
	resets, came, number, overREST atomic.Int64
}

// hold holds a stream as an EventSource does, and finds out whether it misses
// events without being told so.
func (l *handOverLoad) hold(ctx context.Context, t *testing.T, begun *sync.WaitGroup) {
	first := true

	for lastID := ""; ctx.Err() == nil; {
		stream, err := openStream(ctx, l.sse, lastID)
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("a stream that comes back: %v", err)
			}

			return
		}

		if stream.reset {
			l.resets.Add(1)
		} else if !first {
			t.Error("a stream comes back to a log that it doesn't know, and isn't told")
		}

		if first {
			begun.Done()
		}

		first = false

		for last := int64(0); ; {
			number, err := stream.next()
			if err != nil {
				break
			}

			if last != 0 && number > last+1 {
				t.Errorf("after event %d comes %d", last, number)
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

// come opens streams, one after the other.
func (l *handOverLoad) come(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		stream, err := openStream(ctx, l.sse, "")
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("a new stream: %v", err)
			}

			return
		}

		l.came.Add(1)

		_ = stream.body.Close()

		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// publish numbers events.
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
			t.Errorf("a call over gRPC: %v", err)
		}

		time.Sleep(5 * time.Millisecond)
	}
}

// publishOverREST sends what nobody gets.
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
			t.Errorf("a call over REST: %v, %v", response, err)

			return
		}

		l.overREST.Add(1)
		time.Sleep(5 * time.Millisecond)
	}
}

// openedStream is one whose first block has come.
type openedStream struct {
	body   io.ReadCloser
	lines  *bufio.Reader
	retry  time.Duration
	lastID string
	reset  bool
}

// openStream opens a stream. The error is also that it was refused.
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
		return nil, fmt.Errorf("its first block: %w", err)
	}

	if s.lastID == "" {
		return nil, fmt.Errorf("it is refused, with %s and retry %s", response.Status, s.retry)
	}

	return s, nil
}

// block reads to the next empty line, and takes note of what it says.
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

// next returns the number of the next event.
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
