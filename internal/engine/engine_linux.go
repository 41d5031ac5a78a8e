package engine

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/peald/peald/internal/http2conn"
)

// Engine holds connections in epoll sets.
type Engine struct {
	sets   []*pollSet
	next   atomic.Uint32 // index of the set for the next connection, modulo the number of sets
	shards []scratch
	http2  atomic.Int64 // open HTTP/2 connections

	leaving atomic.Bool // GoAway has been called

	codecs  sync.Pool // of *http2conn.Codec
	buffers sync.Pool // of *[]byte, for frames and records
}

// scratch is memory that a shard's goroutine uses while it writes.
type scratch struct {
	vector []unix.Iovec
	record [][]byte // pieces of a TLS record
	sealed []byte   // an encrypted record
}

// New starts an engine for a broker with the given number of shards.
func New(shards int) (*Engine, error) {
	e := &Engine{shards: make([]scratch, shards)}
	for range shards {
		set, err := newPollSet(e)
		if err != nil {
			return nil, errors.Join(err, e.Close())
		}
		e.sets = append(e.sets, set)
	}
	return e, nil
}

// Close stops the engine's goroutines. All streams must already be closed.
func (e *Engine) Close() error {
	var errs []error
	for _, set := range e.sets {
		errs = append(errs, set.close())
	}
	return errors.Join(errs...)
}

// HTTP2Connections returns the number of open HTTP/2 connections, with or without
// streams.
func (e *Engine) HTTP2Connections() int64 { return e.http2.Load() }

// GoAway asks the clients of all HTTP/2 connections to send further requests on other
// connections. A client isn't asked until its event streams have ended, because
// WebKitGTK 2.50 doesn't always reconnect streams that were open when it was asked. On
// later connections, the client is asked along with the first response. That way, a
// client that connects here again also learns when to retry.
func (e *Engine) GoAway() {
	e.leaving.Store(true)
	for _, set := range e.sets {
		for _, c := range set.shared() {
			c.leaveIdle()
		}
	}
}

// nextSet returns the next epoll set, in rotation.
func (e *Engine) nextSet() *pollSet {
	return e.sets[e.next.Add(1)%uint32(len(e.sets))]
}

// countedConn is a connection that its listener counts until it is closed. After
// TakeOver, the listener counts it until release is called.
type countedConn interface {
	TakeOver() (release func())
}

// TakeOver takes over the connection of r. w must be the response writer for r, and
// nothing may have been written to it. TakeOver returns false, and changes nothing, if
// the engine can't hold the connection. If it returns an error, the connection is
// closed.
func (e *Engine) TakeOver(w http.ResponseWriter, r *http.Request) (Body, bool, error) {
	if w, ok := w.(*http2Request); ok {
		body, err := w.takeOver()
		return body, true, err
	}
	if r.ProtoMajor != 1 || r.TLS != nil && !passedOn(r) {
		return nil, false, nil // crypto/tls has the keys
	}

	conn, tls, err := connOf(w)
	if errors.Is(err, http.ErrNotSupported) {
		return nil, false, nil
	}
	if err != nil {
		return nil, true, err
	}
	fd, release, err := takeDescriptor(conn)
	if err != nil {
		if tls != nil {
			tls.layer.Wipe()
		}
		return nil, true, err
	}
	sock := socket{set: e.nextSet(), fd: fd, release: release}
	if w, ok := w.(*response); ok {
		sock.set = w.conn.set
		_, sock.listed = conn.(*rawConn)
	}
	if tls == nil {
		return &sock, true, nil
	}
	tls.state = nil
	return &tlsSocket{socket: sock, tls: *tls}, true, nil
}

// takeDescriptor closes from, and returns a descriptor that keeps the connection open.
// release releases the connection's slot in the listener, and may be nil.
func takeDescriptor(from transport) (fd int32, release func(), err error) {
	if raw, ok := from.(*rawConn); ok {
		return raw.take(), raw.listener.TakeOver(), nil
	}
	conn, err := connFrom(from)
	if err != nil {
		return -1, nil, err
	}

	number, err := duplicate(conn)
	if err != nil {
		return -1, nil, errors.Join(err, conn.Close())
	}
	if c, ok := conn.(countedConn); ok {
		release = c.TakeOver()
	}
	if err := conn.Close(); err != nil {
		_ = unix.Close(number)
		if release != nil {
			release()
		}
		return -1, nil, fmt.Errorf("take over connection: %w", err)
	}
	return int32(number), release, nil
}

// codec returns a codec from the pool. Put it back with codecs.Put.
func (e *Engine) codec() *http2conn.Codec {
	if codec, ok := e.codecs.Get().(*http2conn.Codec); ok {
		return codec
	}
	return http2conn.NewCodec()
}

// buffer returns an empty buffer. Return it with recycle.
func (e *Engine) buffer() []byte {
	if buf, ok := e.buffers.Get().(*[]byte); ok {
		return (*buf)[:0]
	}
	return make([]byte, 0, 1<<10)
}

// recycle puts a buffer back, unless it has become too large to keep.
func (e *Engine) recycle(buf []byte) {
	if cap(buf) <= 2*maxUnsent {
		e.buffers.Put(&buf)
	}
}

// connOf takes the connection of w from its owner. The error is [http.ErrNotSupported]
// if that isn't possible. The session is nil for plain text.
func connOf(w http.ResponseWriter) (transport, *session, error) {
	if w, ok := w.(*response); ok {
		w.taken = true
		if !w.conn.set.forget(w.conn) {
			return nil, nil, net.ErrClosed
		}
		return w.conn.take(), w.conn.tls, nil
	}

	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("hijack connection: %w", err)
	}
	switch c := conn.(type) {
	case *readConn:
		return c.Conn, nil, nil
	case *tlsConn:
		return c.detach()
	default:
		return conn, nil, nil
	}
}

// duplicate returns a second descriptor for conn's socket.
func duplicate(conn net.Conn) (fd int, err error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("connection of type %T has no descriptor", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("get descriptor: %w", err)
	}
	if ctlErr := raw.Control(func(original uintptr) {
		// The call never blocks, so the scheduler needn't know about it.
		n, _, errno := unix.RawSyscall(unix.SYS_FCNTL, original, unix.F_DUPFD_CLOEXEC, 0)
		if fd = int(n); errno != 0 {
			err = errno
		}
	}); ctlErr != nil {
		return -1, fmt.Errorf("get descriptor: %w", ctlErr)
	}
	if err != nil {
		return -1, fmt.Errorf("duplicate descriptor: %w", err)
	}
	return fd, nil
}
