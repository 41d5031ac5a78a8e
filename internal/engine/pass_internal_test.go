//go:build linux

package engine

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// countedPipe is a connection that is counted until it is closed.
type countedPipe struct {
	net.Conn

	open *atomic.Int64
}

func (c *countedPipe) Close() error {
	c.open.Add(-1)
	return c.Conn.Close()
}

// newCountedPipe returns a connection that open counts.
func newCountedPipe(open *atomic.Int64) net.Conn {
	conn, _ := net.Pipe()
	open.Add(1)
	return &countedPipe{conn, open}
}

// silent is a listener that accepts no connections.
type silent struct {
	net.Listener

	closed chan struct{}
}

func (s *silent) Accept() (net.Conn, error) {
	<-s.closed
	return nil, net.ErrClosed
}

func (s *silent) Close() error {
	close(s.closed)
	return nil
}

// TestPassAfterClose passes connections on to a listener that is closed.
func TestPassAfterClose(t *testing.T) {
	t.Parallel()

	l := newEngine(t).Listen(&silent{closed: make(chan struct{})}, listenerFor(nil, nil).cfg)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var open atomic.Int64
	for range maxPassed {
		l.pass(newCountedPipe(&open), nil)
	}
	if n := open.Load(); n != 0 {
		t.Errorf("%d of %d connections stay open", n, maxPassed)
	}
}

// TestPassWhileClosing passes connections on while a listener is being closed.
func TestPassWhileClosing(t *testing.T) {
	t.Parallel()

	e := newEngine(t)
	for range 100 {
		l := e.Listen(&silent{closed: make(chan struct{})}, listenerFor(nil, nil).cfg)
		var open atomic.Int64
		var passing sync.WaitGroup
		for range 4 {
			passing.Go(func() {
				for range maxPassed / 2 {
					l.pass(newCountedPipe(&open), nil)
				}
			})
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		passing.Wait()
		if n := open.Load(); n != 0 {
			t.Fatalf("%d connections stay open", n)
		}
	}
}
