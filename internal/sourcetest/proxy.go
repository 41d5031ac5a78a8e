package sourcetest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy forwards TCP connections to a server, and can break them. Its methods are safe
// for concurrent use.
type Proxy struct {
	// Addr is the HOST:PORT on which the proxy listens.
	Addr string

	server   string
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	state  *sync.Cond // broadcasts a change of the fields below
	conns  map[net.Conn]struct{}
	cut    bool // new connections are closed
	frozen bool // nothing is forwarded
	closed bool
}

// NewProxy starts a proxy for the server at an address. It is stopped after the test.
func NewProxy(tb testing.TB, server string) *Proxy {
	tb.Helper()

	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // returns immediately
	if err != nil {
		tb.Fatal(err)
	}

	p := &Proxy{Addr: listener.Addr().String(), server: server, listener: listener, conns: make(map[net.Conn]struct{})}
	p.state = sync.NewCond(&p.mu)
	p.running.Go(p.accept)
	tb.Cleanup(p.close)

	return p
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(conn) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer p.remove(client)

	if !p.add(client) {
		return
	}
	server, err := net.Dial("tcp", p.server) //nolint:noctx // closed by the proxy
	if err != nil {
		return
	}
	defer p.remove(server)
	if !p.add(server) {
		return
	}

	var both sync.WaitGroup
	both.Go(func() { p.forward(server, client) })
	both.Go(func() { p.forward(client, server) })
	both.Wait()
}

// forward forwards bytes until one of the connections is closed.
func (p *Proxy) forward(to, from net.Conn) {
	defer func() {
		_ = to.Close()
		_ = from.Close()
	}()

	_, _ = io.Copy(waitingWriter{p, to}, from)
}

// waitingWriter waits while the proxy is frozen.
type waitingWriter struct {
	proxy *Proxy
	net.Conn
}

func (w waitingWriter) Write(b []byte) (int, error) {
	w.proxy.mu.Lock()
	for w.proxy.frozen && !w.proxy.closed {
		w.proxy.state.Wait()
	}
	w.proxy.mu.Unlock()

	return w.Conn.Write(b)
}

// add registers a connection. It returns false if the connection must be closed.
func (p *Proxy) add(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.conns[conn] = struct{}{}

	return !p.cut && !p.closed
}

func (p *Proxy) remove(conn net.Conn) {
	_ = conn.Close()

	p.mu.Lock()
	defer p.mu.Unlock()

	delete(p.conns, conn)
}

// Cut closes all connections, and new ones until Heal is called.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.cut = true
	for conn := range p.conns {
		_ = conn.Close()
	}
}

// Freeze stops forwarding, in both directions, until Heal is called. Connections stay
// open.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.frozen = true
}

// Heal ends Cut and Freeze.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.cut, p.frozen = false, false
	p.state.Broadcast()
}

func (p *Proxy) close() {
	_ = p.listener.Close()

	p.mu.Lock()
	p.closed = true
	for conn := range p.conns {
		_ = conn.Close()
	}
	p.state.Broadcast()
	p.mu.Unlock()

	p.running.Wait()
}
