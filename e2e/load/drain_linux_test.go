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
)

// TestDrain ends a daemon that holds many streams while it publishes, and holds
// that each ends after all that was for it. DRAIN=10000 makes it more of them
// than the five hundred of a quick run, over five seconds, and looks how evenly
// they end, for which the machine must be quiet.
func TestDrain(t *testing.T) {
	streams, over, share := 500, 30*time.Second, 1.0
	if n, err := strconv.Atoi(os.Getenv("DRAIN")); err == nil {
		streams, over, share = n, 5*time.Second, 0.25
	}

	program := buildDaemon(t)
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

	begun := time.Now()
	ended := make(chan struct{})

	go func() {
		d.stop(t)
		close(ended)
	}()

	readers.read(t)
	took := time.Since(begun)
	<-ended

	wanted := <-published
	got, last := 0, ""

	for i, response := range readers.got {
		text := body(t, response)
		got += bytes.Count(text, []byte("\ndata: x\n\n"))
		tail := text[bytes.LastIndex(text, []byte("\n\n"+"retry: "))+1:]

		if bytes.Count(tail, []byte("\n")) != 3 || !bytes.HasSuffix(tail, []byte("\n\n")) {
			t.Fatalf("stream %d ends with %q", i, text[max(0, len(text)-80):])
		}

		for line := range strings.Lines(string(text)) {
			if id, ok := strings.CutPrefix(line, "id: "); ok {
				last = strings.TrimSpace(id)
			}
		}
	}

	if got != wanted || got == 0 {
		t.Errorf("%d events got to streams, want the %d that they were counted for", got, wanted)
	}

	slices.Sort(readers.ended)

	most := 0
	for i, from := range readers.ended {
		n, _ := slices.BinarySearch(readers.ended, from+500*time.Millisecond)
		most = max(most, n-i)
	}

	t.Logf("%d streams ended in %s, at most %d (%.1f %%) of them in 500 ms; %d deliveries meanwhile",
		streams, took.Round(time.Millisecond), most, 100*float64(most)/float64(streams), got)

	if allowed := int(share * float64(streams)); most > allowed {
		t.Errorf("%d streams of %d ended within 500 ms, want at most %d", most, streams, allowed)
	}

	if took > over {
		t.Errorf("the drain took %s, more than the %s that it may", took, over)
	}

	// The next daemon has a log of its own, and says so to whoever comes back.
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
		t.Errorf("the next daemon begins with %q, %v", first[:n], err)
	}
}

// body returns the body of a response, which must have an end.
func body(t *testing.T, response []byte) []byte {
	t.Helper()

	_, chunks, _ := bytes.Cut(response, []byte("\r\n\r\n"))

	text, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(chunks)))
	if err != nil {
		t.Fatalf("the body has no end (%v): %q", err, response[max(0, len(response)-80):])
	}

	return text
}

// streamReaders holds many streams as bare descriptors: there may be more than
// there can be goroutines under the race detector.
type streamReaders struct {
	poll  int
	fds   []int
	got   [][]byte
	ended []time.Duration // since the reading began, in the order in which they did
}

// openStreams opens n streams and waits for the first block of each.
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

// take reads once from a stream; the error is its end.
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

// read reads all streams to their ends.
func (r *streamReaders) read(t *testing.T) {
	t.Helper()

	events := make([]unix.EpollEvent, 256)
	start := time.Now()

	for left := len(r.fds); left > 0; {
		n, err := unix.EpollWait(r.poll, events, 30_000)
		if n == 0 {
			t.Fatalf("%d streams have not ended", left)
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
				t.Errorf("stream %d breaks: %v", event.Fd, err)
			}

			_ = unix.EpollCtl(r.poll, unix.EPOLL_CTL_DEL, r.fds[event.Fd], nil)
			r.ended = append(r.ended, time.Since(start))
			left--
		}
	}
}
