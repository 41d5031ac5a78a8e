package ssehttp_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

// TestChurn opens and closes streams at random while events are published.
// Descriptor numbers are reused all the time, so using one after it was closed
// would show as an event in the wrong stream, as a broken stream, or in the race
// detector.
func TestChurn(t *testing.T) { onBoth(t, testChurn) }

func testChurn(t *testing.T, via path) {
	s := start(t, via, func(_ *ssehttp.Config, b *broker.Config) {
		b.QueueBytes = 64 << 20

		// If a client has sent more than its request, net/http doesn't notice
		// that the client is gone. The next heartbeats do.
		b.Heartbeat = 300 * time.Millisecond
	})

	before := descriptors(t)
	done := make(chan struct{})
	var publishing, clients sync.WaitGroup
	publishing.Go(func() {
		pace := time.NewTicker(200 * time.Microsecond)
		defer pace.Stop()
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case <-pace.C:
			}
			user := fmt.Sprint("user", n%20)
			_, _ = s.broker.Publish(t.Context(), broker.Message{Audience: broker.Everyone(), Data: "all " + strings.Repeat("x", n%3000)})
			_, _ = s.broker.Publish(t.Context(), broker.Message{Audience: broker.ToUser(user), Data: user})
		}
	})

	for i := range 20 {
		clients.Go(func() {
			for range 30 {
				if err := visit(s.Listener.Addr().String(), fmt.Sprint("user", i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}

	clients.Wait()

	// If a client has sent more than its request, only a write shows that it has
	// left.
	waitFor(t, "all streams to be closed", func() bool {
		return s.broker.Stats().Total.Connections == 0 && s.handler.Open() == 0
	})

	close(done)
	publishing.Wait()
	waitFor(t, "all descriptors to be closed", func() bool { return descriptors(t) <= before })
	if stats := s.broker.Stats().Total; stats.Connected != 600 || stats.QueuedBytes != 0 {
		t.Errorf("final stats %+v", stats)
	}
}

// visit opens a stream, reads some of it or nothing, and leaves in one of several
// ways. It returns an error if it got an event for another user.
func visit(addr, user string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}

	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}

	if _, err := io.WriteString(conn, "GET /events?access_token=good-"+user+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err
	}

	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return fmt.Errorf("stream of %s: %w", user, err)
	}

	r := bufio.NewReader(resp.Body) // a line may be split into two chunks
	individual := false
	for range rand.IntN(60) {
		line, err := r.ReadString('\n')
		if err != nil {
			return fmt.Errorf("stream of %s: %w", user, err)
		}

		switch {
		case line == "event: individual\n":
			individual = true
		case individual && strings.HasPrefix(line, "data: "):
			individual = false
			if got := strings.TrimSpace(line[len("data: "):]); got != user {
				return fmt.Errorf("%s got an event for %s", user, got)
			}
		}
	}

	switch tcp := conn.(*net.TCPConn); rand.IntN(4) {
	case 0:
		return tcp.SetLinger(0) // so that closing resets the connection
	case 1:
		return tcp.CloseWrite()
	case 2:
		_, err = io.WriteString(conn, "GET /events HTTP/1.1\r\n\r\n") // discarded
		return err
	}

	return nil
}

// descriptors returns the number of open descriptors of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
