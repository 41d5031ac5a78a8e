package engine

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"syscall"

	"github.com/peald/peald/internal/http2conn"
	"github.com/peald/peald/internal/tlsrecord"
)

// Listener accepts connections and serves the requests for streams on them. Its Accept
// method returns connections with other requests, together with the bytes read so far.
type Listener struct {
	net.Listener // accepts all connections

	raw    descriptorListener // the same listener; nil if Go's poller must know the connections
	engine *Engine
	cfg    ListenConfig
	passed chan accepted
	closed chan struct{}
	close  sync.Once

	requests context.Context //nolint:containedctx // Handshakes and requests end with the listener.
	cancel   func()

	handshaker *tlsrecord.Handshaker // nil for plain text
	http2      *http2conn.Server

	running sync.WaitGroup // the accepting goroutine, those of requests, and calls to pass

	// mu prevents calls to pass from starting while Close closes the channel.
	mu sync.Mutex
}

// descriptorListener is a listener that can return bare descriptors. With a [net.Conn],
// seven of the twelve system calls for a new stream would do nothing but add
// descriptors to Go's poller, duplicate them and remove them.
type descriptorListener interface {
	// AcceptDescriptor returns a non-blocking descriptor, which the caller owns. The
	// error is [errors.ErrUnsupported] if the listener has no descriptors to return.
	AcceptDescriptor() (fd int, remote net.Addr, err error)
	// Conn returns a connection that owns the descriptor and has the given remote
	// address. If it fails, it closes the descriptor.
	Conn(fd int, remote net.Addr) (net.Conn, error)
	// TakeOver must be called when a stream takes over a descriptor, and release when
	// the descriptor is closed.
	TakeOver() (release func())
	// Release must be called when a descriptor without a stream is closed.
	Release()
}

// accepted holds the results of one Accept call.
type accepted struct {
	conn net.Conn
	err  error
}

// maxPassed is the maximum number of connections that may wait for net/http to accept
// them. net/http pauses after an error.
const maxPassed = 64

// Listen returns a listener that serves the connections of l. Close it to stop
// its goroutines.
func (e *Engine) Listen(l net.Listener, cfg ListenConfig) *Listener {
	cfg.MaxHeader = min(cfg.MaxHeader, inputSize/2)
	listener := &Listener{
		Listener: l,
		engine:   e,
		cfg:      cfg,
		passed:   make(chan accepted, maxPassed),
		closed:   make(chan struct{}),
		http2:    http2conn.NewServer(http2conn.Config{MaxStreams: maxRunning, MaxHeaderBytes: cfg.MaxHeader}),
	}
	if raw, ok := l.(descriptorListener); ok && cfg.TLS == nil {
		listener.raw = raw
	}
	if cfg.TLS != nil {
		// A burst of handshakes must leave processors free for deliveries.
		listener.handshaker = tlsrecord.NewHandshaker(cfg.TLS, max(runtime.GOMAXPROCS(0)/2, 1), cfg.Handshake)
	}
	listener.requests, listener.cancel = context.WithCancel(context.Background())
	listener.running.Go(listener.run)
	return listener
}

// Accept implements [net.Listener].
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case a := <-l.passed:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close stops accepting connections, and closes those without a request. It cancels the
// requests that are being handled, and waits for them.
func (l *Listener) Close() error {
	err := net.ErrClosed
	l.close.Do(func() {
		l.mu.Lock()
		close(l.closed)
		l.mu.Unlock()
		l.cancel()
		err = l.Listener.Close()
		for _, set := range l.engine.sets {
			set.closeIdle()
		}
	})
	l.running.Wait()
	for {
		select {
		case a := <-l.passed:
			if a.conn != nil {
				_ = a.conn.Close()
			}
		default:
			return err
		}
	}
}

// isClosed reports whether Close has been called.
func (l *Listener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// run accepts connections until the listener is closed.
func (l *Listener) run() {
	for {
		conn, err := l.accept()
		if err != nil {
			if l.pass(nil, err); errors.Is(err, net.ErrClosed) || l.isClosed() {
				return
			}
			continue // not a busy loop: net/http pauses after each error
		}
		switch {
		case !l.cfg.Guard.Direct(conn.RemoteAddr()):
			l.passTransport(conn)
		case l.handshaker != nil:
			l.running.Go(func() { l.handshake(conn) })
		case !l.watch(conn, nil):
			l.passTransport(conn)
		}
	}
}

// accept accepts a connection, as a rawConn if possible.
func (l *Listener) accept() (transport, error) {
	if l.raw == nil {
		return l.Listener.Accept()
	}
	fd, remote, err := l.raw.AcceptDescriptor()
	if errors.Is(err, errors.ErrUnsupported) {
		l.raw = nil
		return l.accept()
	}
	if err != nil {
		return nil, err
	}
	return &rawConn{listener: l.raw, fd: int32(fd), remote: remote}, nil
}

// passTransport makes Accept return c.
func (l *Listener) passTransport(c transport) {
	if conn, err := connFrom(c); err != nil {
		l.cfg.Logger.Warn("connection not passed on", "error", err)
	} else {
		l.pass(conn, nil)
	}
}

// pass makes Accept return conn or err. If the listener is closed, pass closes conn.
func (l *Listener) pass(conn net.Conn, err error) {
	if l.beginPass() {
		defer l.running.Done()
		select {
		case l.passed <- accepted{conn, err}:
			return // Close closes conn if nobody accepts it.
		case <-l.closed:
		}
	}
	if conn != nil {
		_ = conn.Close()
	}
}

// beginPass adds to running and returns true, unless the listener is closed. A
// connection that is passed after Close has waited for running would stay open forever.
func (l *Listener) beginPass() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() {
		return false
	}
	l.running.Add(1)
	return true
}

// watch adds a connection to an epoll set, which reads its requests. It returns
// false if that isn't possible. tls is nil for plain text.
func (l *Listener) watch(conn transport, tls *session) bool {
	fd, err := descriptor(conn)
	if err != nil {
		return false
	}
	c := &incoming{listener: l, set: l.engine.nextSet(), conn: conn, fd: fd, tls: tls}
	return c.set.await(c, l.cfg.HeaderTimeout)
}

// descriptor returns the descriptor of conn. It is valid until conn is closed.
func descriptor(conn transport) (int32, error) {
	if raw, ok := conn.(*rawConn); ok {
		return raw.fd, nil
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return -1, errNoDescriptor
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, err
	}
	var fd int32
	err = raw.Control(func(number uintptr) { fd = int32(number) })
	return fd, err
}

var errNoDescriptor = errors.New("the connection has no descriptor")
