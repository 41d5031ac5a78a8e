package sourcetest

import (
	"net"
	"sync"
	"testing"
)

// Proxy is a TCP proxy between a source and its server, whose connections can be cut.
type Proxy struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	closed  bool
	blocked chan struct{} // closed when data may pass
}

// NewProxy starts a proxy for connections to target, until the test ends.
func NewProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()

	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // returns immediately
	if err != nil {
		tb.Fatal(err)
	}

	open := make(chan struct{})
	close(open)
	p := &Proxy{listener: listener, target: target, conns: make(map[net.Conn]struct{}), blocked: open}
	p.running.Go(p.accept)
	tb.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		_ = listener.Close()
		p.Resume()
		p.Cut()
		p.running.Wait()
	})

	return p
}

// Addr returns the address to connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut closes all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()

	for c := range p.conns {
		_ = c.Close()
	}
}

// Pause holds back all data without closing connections, as a network does that drops
// packets.
func (p *Proxy) Pause() {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.blocked = make(chan struct{})
}

// Resume ends a pause.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()

	select {
	case <-p.blocked:
	default:
		close(p.blocked)
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(client) })
	}
}

// serve copies data in both directions until one side closes its connection.
func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.target) //nolint:noctx // loopback
	if err != nil {
		return
	}
	defer server.Close()

	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.conns[client], p.conns[server] = struct{}{}, struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, client)
		delete(p.conns, server)
	}()

	var copying sync.WaitGroup
	copying.Go(func() { p.copy(server, client) })
	copying.Go(func() { p.copy(client, server) })
	copying.Wait()
}

func (p *Proxy) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()

	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)

		p.mu.Lock()
		blocked := p.blocked
		p.mu.Unlock()
		<-blocked

		if _, failed := to.Write(buffer[:n]); failed != nil || err != nil {
			return
		}
	}
}
