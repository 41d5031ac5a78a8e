package ssehttp_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/testbed"
)

// TestWaitingPollsAreAsSmallAsStreams compares the memory of polls that wait with that of
// streams. Set POLLS to their number.
func TestWaitingPollsAreAsSmallAsStreams(t *testing.T) {
	onEach(t, enginePaths()[:2], testWaitingPollsAreAsSmallAsStreams)
}

func testWaitingPollsAreAsSmallAsStreams(t *testing.T, via path) {
	n := 500
	if set, err := strconv.Atoi(os.Getenv("POLLS")); err == nil {
		n = set
	}
	// Both include what the client needs for its side.
	stream := perConnection(t, via, n, "text/event-stream", "")
	poll := perConnection(t, via, n, "application/json", "?wait=1m")
	t.Logf("%d streams take %d bytes each, polls %d", n, stream, poll)
	if poll > stream+maxPollExtra {
		t.Errorf("a poll that waits takes %d bytes more than a stream, want at most %d", poll-stream, maxPollExtra)
	}
}

// maxPollExtra is the maximum number of bytes that a poll that waits may take more than a
// stream. A stream doesn't keep what is needed to read another request from its
// connection.
const maxPollExtra = 1500

// perConnection returns the memory and checks the goroutines of n connections with a
// request each, and closes them.
func perConnection(t *testing.T, via path, n int, accept, query string) int {
	t.Helper()
	s := start(t, via, keepingHistory)
	memory := func() int {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc + m.StackInuse)
	}

	before := 0
	conns := make([]net.Conn, n)
	for i := range conns {
		conns[i] = s.connect(t)
		if _, err := io.WriteString(conns[i], "GET /events"+query+" HTTP/1.1\r\nHost: x\r\nAccept: "+accept+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if i == n/10-1 {
			s.awaitConnections(t, n/10)
			before = memory() // with what is allocated only once
		}
	}
	s.awaitConnections(t, n)
	goroutines, after := runtime.NumGoroutine(), memory()
	if goroutines > n/2 {
		t.Errorf("%d goroutines for %d connections", goroutines, n)
	}
	if query != "" {
		s.publish(t, broker.Message{Audience: broker.Everyone(), Data: "x"})
		for _, conn := range conns {
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			read(t, resp)
			_ = resp.Body.Close()
		}
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	clear(conns)
	s.awaitConnections(t, 0)
	return (after - before) / (n - n/10)
}

// awaitConnections waits until the broker has the given number of connections.
func (s *server) awaitConnections(t *testing.T, n int) {
	t.Helper()
	if !testbed.Eventually(time.Minute, func() bool { return s.broker.Stats().Total.Connections == n }) {
		t.Fatalf("%d connections, want %d", s.broker.Stats().Total.Connections, n)
	}
}
