package e2e_test

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy forwards connections to an address, and can break them.
type proxy struct {
	addr string
	dial func() (net.Conn, error)

	mu     sync.Mutex
	closed bool
	muted  bool
	conns  map[net.Conn]*atomic.Bool // whether the connection is dead
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()

	return startProxy(t, func() (net.Conn, error) { return new(net.Dialer).DialContext(context.Background(), "tcp", target) })
}

// newPatientProxy returns a proxy that, while the target isn't listening, keeps
// connections waiting.
func newPatientProxy(t *testing.T, target string) *proxy {
	t.Helper()

	ctx := t.Context()

	return startProxy(t, func() (net.Conn, error) {
		for {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", target)
			if err == nil || ctx.Err() != nil {
				return conn, err
			}

			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
}

func startProxy(t *testing.T, dial func() (net.Conn, error)) *proxy {
	t.Helper()

	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	p := &proxy{addr: listener.Addr().String(), dial: dial, conns: map[net.Conn]*atomic.Bool{}}

	var running sync.WaitGroup

	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}

			running.Go(func() { p.carry(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()

		p.cut()
		running.Wait()
	})

	return p
}

// carry forwards in both directions until either side closes.
func (p *proxy) carry(near net.Conn) {
	defer near.Close()

	far, err := p.dial()
	if err != nil {
		return
	}
	defer far.Close()

	dead, open := p.add(near, far)
	if !open {
		return
	}

	var back sync.WaitGroup

	back.Go(func() {
		_, _ = io.Copy(lossy{far, dead}, near)
		_ = far.Close()
	})

	_, _ = io.Copy(lossy{near, dead}, far)
	_ = near.Close()

	back.Wait()
}

// lossy writes to a connection, and drops everything once it is dead.
type lossy struct {
	net.Conn

	dead *atomic.Bool
}

// Write implements [io.Writer].
func (l lossy) Write(b []byte) (int, error) {
	if l.dead.Load() {
		return len(b), nil
	}

	return l.Conn.Write(b)
}

// add registers the two sides of a connection, and reports whether the proxy is open.
func (p *proxy) add(conns ...net.Conn) (dead *atomic.Bool, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()

	dead = new(atomic.Bool)
	dead.Store(p.muted)

	for _, c := range conns {
		p.conns[c] = dead
	}

	return dead, !p.closed
}

// mute makes the proxy drop everything that it should forward, without closing
// connections, until unmute is called. Afterwards, only new connections work.
func (p *proxy) mute() {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.muted = true
	for _, dead := range p.conns {
		dead.Store(true)
	}
}

func (p *proxy) unmute() {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.muted = false
}

// carrying returns the number of connections that the proxy has accepted and that
// nobody has cut.
func (p *proxy) carrying() int {
	p.mu.Lock()
	defer p.mu.Unlock()

	return len(p.conns) / 2
}

// refuse rejects new connections until open is called.
func (p *proxy) refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.closed = true
}

// cut breaks all connections, and rejects new ones until open is called.
func (p *proxy) cut() {
	p.refuse()

	p.mu.Lock()
	defer p.mu.Unlock()

	for c := range p.conns {
		_ = c.Close()
	}

	clear(p.conns)
}

func (p *proxy) open() {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.closed = false
}
