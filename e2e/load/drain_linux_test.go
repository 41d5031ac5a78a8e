package load_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/testbed"
)

// TestDrain shuts down a daemon with many streams while messages are published.
// Each stream must be closed after all of its events. By default there are 150
// streams. DRAIN=10000 uses that number and a drain timeout of five seconds, and
// checks that streams are closed at an even rate, which requires an idle machine.
func TestDrain(t *testing.T) {
	streams, over, share := 150, 30*time.Second, 1.0
	if n, err := strconv.Atoi(os.Getenv("DRAIN")); err == nil {
		streams, over, share = n, 5*time.Second, 0.25
	}

	program := testbed.BuildDaemon(t)
	d := startDaemon(t, program, "--drain.timeout="+over.String())
	readers := openStreams(t, d.SSE, streams)

	conn, err := grpc.NewClient(d.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	control := pealv1.NewControlServiceClient(conn)
	published := make(chan int)

	go func() {
		pace := time.NewTicker(100 * time.Millisecond)
		defer pace.Stop()

		recipients := 0

		for {
			reply, err := control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "x"})
			if err != nil {
				break
			}

			recipients += int(reply.GetRecipients())
			<-pace.C
		}

		published <- recipients
	}()

	start := time.Now()
	ended := make(chan struct{})

	go func() {
		d.stop(t)
		close(ended)
	}()

	readers.read(t)
	took := time.Since(start)
	<-ended

	wanted := <-published
	got, last := 0, ""

	for i, response := range readers.got {
		text := body(t, response)
		got += bytes.Count(text, []byte("\ndata: x\n\n"))
		tail := text[bytes.LastIndex(text, []byte("\n\n"+"retry: "))+1:]

		if bytes.Count(tail, []byte("\n")) != 3 || !bytes.HasSuffix(tail, []byte("\n\n")) {
			t.Fatalf("the end of stream %d is %q", i, text[max(0, len(text)-80):])
		}

		for line := range strings.Lines(string(text)) {
			if id, ok := strings.CutPrefix(line, "id: "); ok {
				last = strings.TrimSpace(id)
			}
		}
	}

	if got != wanted || got == 0 {
		t.Errorf("streams received %d events, want the sum of recipients, %d", got, wanted)
	}

	slices.Sort(readers.ended)

	most := 0
	for i, from := range readers.ended {
		n, _ := slices.BinarySearch(readers.ended, from+500*time.Millisecond)
		most = max(most, n-i)
	}

	t.Logf("%d streams closed in %s, at most %d (%.1f %%) of them within 500 ms; %d deliveries",
		streams, took.Round(time.Millisecond), most, 100*float64(most)/float64(streams), got)

	if allowed := int(share * float64(streams)); most > allowed {
		t.Errorf("%d of %d streams closed within 500 ms, want at most %d", most, streams, allowed)
	}

	if took > over {
		t.Errorf("the drain took %s, want at most %s", took, over)
	}

	// The next daemon has another history, so a client that resumes gets a reset.
	next := startDaemon(t, program)

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+next.SSE+"/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}

	request.Header.Set("Last-Event-ID", last)

	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()

	first := make([]byte, 512)
	if n, err := response.Body.Read(first); err != nil || !bytes.Contains(first[:n], []byte("event: peald.reset\n")) {
		t.Errorf("the next daemon's stream begins with %q, %v, want a reset", first[:n], err)
	}
}

// body returns the body of a chunked response. The body must be complete.
func body(t *testing.T, response []byte) []byte {
	t.Helper()

	_, chunks, _ := bytes.Cut(response, []byte("\r\n\r\n"))

	text, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(chunks)))
	if err != nil {
		t.Fatalf("incomplete body (%v): %q", err, response[max(0, len(response)-80):])
	}

	return text
}

// streamReaders holds many streams as bare file descriptors. There may be more of
// them than the race detector supports goroutines.
type streamReaders struct {
	poll  int
	fds   []int
	got   [][]byte
	ended []time.Duration // since read was called, in the order in which streams were closed
}

// openStreams opens n streams and reads the first block of each.
func openStreams(t *testing.T, addr string, n int) *streamReaders {
	t.Helper()

	to := netip.MustParseAddrPort(addr)

	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}

	r := &streamReaders{poll: poll, got: make([][]byte, n)}
	t.Cleanup(func() {
		for _, fd := range append(r.fds, poll) {
			_ = unix.Close(fd)
		}
	})

	request := fmt.Appendf(nil, "GET /events HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", addr)

	for i := range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}

		r.fds = append(r.fds, fd)

		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
			t.Fatal(err)
		}

		if _, err := unix.Write(fd, request); err != nil {
			t.Fatal(err)
		}

		for !bytes.HasSuffix(r.got[i], []byte("\n\n\r\n")) {
			if r.take(i) != nil {
				t.Fatalf("stream %d begins with %q", i, r.got[i])
			}
		}

		if err := unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}); err != nil {
			t.Fatal(err)
		}
	}

	return r
}

// take reads once from a stream. It returns io.EOF at the stream's end.
func (r *streamReaders) take(i int) error {
	var buf [4096]byte

	n, err := unix.Read(r.fds[i], buf[:])
	if n > 0 {
		r.got[i] = append(r.got[i], buf[:n]...)
	}

	if n == 0 {
		return io.EOF
	}

	return err
}

// read reads all streams until they are closed.
func (r *streamReaders) read(t *testing.T) {
	t.Helper()

	events := make([]unix.EpollEvent, 256)
	start := time.Now()

	for left := len(r.fds); left > 0; {
		n, err := unix.EpollWait(r.poll, events, 30_000)
		if n == 0 {
			t.Fatalf("%d streams are still open", left)
		}

		if err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}

		for _, event := range events[:max(n, 0)] {
			err := r.take(int(event.Fd))
			if err == nil {
				continue
			}

			if !errors.Is(err, io.EOF) {
				t.Errorf("stream %d was broken: %v", event.Fd, err)
			}

			_ = unix.EpollCtl(r.poll, unix.EPOLL_CTL_DEL, r.fds[event.Fd], nil)
			r.ended = append(r.ended, time.Since(start))
			left--
		}
	}
}
