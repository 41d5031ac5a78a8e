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

// TestChurn opens and closes streams at random while events are published. With
// numbers of descriptors that are given anew all the time, one used after its
// end would show as an event in another's stream, as a stream that breaks, or
// to the race detector.
func TestChurn(t *testing.T) { onBoth(t, testChurn) }

func testChurn(t *testing.T, engine ssehttp.Engine) {
	s := start(t, engine, func(_ *ssehttp.Config, b *broker.Config) {
		b.QueueBytes = 64 << 20
		// net/http doesn't see that a client is gone which has sent more after
		// its request; the next heartbeats do.
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
	// That a client which sent more than its request has left shows when it is
	// written to.
	waitFor(t, "the end of all streams", func() bool {
		return s.broker.Stats().Total.Connections == 0 && s.handler.Open() == 0
	})
	close(done)
	publishing.Wait()
	waitFor(t, "all descriptors to be closed", func() bool { return descriptors(t) <= before })
	if stats := s.broker.Stats().Total; stats.Connected != 600 || stats.QueuedBytes != 0 {
		t.Errorf("at the end: %+v", stats)
	}
}

// visit opens a stream, reads some of it or none, and leaves in one of the ways
// in which clients leave. It returns an error if it got what isn't its own.
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
		return fmt.Errorf("the stream of %s: %w", user, err)
	}
	r := bufio.NewReader(resp.Body) // a line may stand in two chunks
	individual := false
	for range rand.IntN(60) {
		line, err := r.ReadString('\n')
		if err != nil {
			return fmt.Errorf("the stream of %s: %w", user, err)
		}
		switch {
		case line == "event: individual\n":
			individual = true
		case individual && strings.HasPrefix(line, "data: "):
			individual = false
			if got := strings.TrimSpace(line[len("data: "):]); got != user {
				return fmt.Errorf("%s got what is for %s", user, got)
			}
		}
	}
	switch tcp := conn.(*net.TCPConn); rand.IntN(4) {
	case 0:
		return tcp.SetLinger(0) // so that closing resets the connection
	case 1:
		return tcp.CloseWrite()
	case 2:
		_, err = io.WriteString(conn, "GET /events HTTP/1.1\r\n\r\n") // after the request: thrown away
		return err
	}
	return nil
}

// descriptors counts this process's.
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
