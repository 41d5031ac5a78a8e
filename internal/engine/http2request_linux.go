package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/peald/peald/internal/http2conn"
)

// http2Request is a request over HTTP/2 and the [http.ResponseWriter] for it. It
// buffers the response until the handler returns. http2Conn.mu guards its fields,
// except for the response while the handler is running.
type http2Request struct {
	conn    *http2Conn
	st      *http2conn.Stream
	request *http.Request
	header  http.Header
	status  int // 0 until WriteHeader
	body    bytes.Buffer
	taken   bool // the stream has been taken over
	abort   bool // the handler has panicked

	upload *http2Body // nil for a request without a body
	cancel func()     // cancels the request if it has a goroutine; nil otherwise
	gone   bool       // the client has ended the stream
}

func newHTTP2Request(c *http2Conn, st *http2conn.Stream, r *http.Request) *http2Request {
	w := &http2Request{conn: c, st: st, request: r, header: make(http.Header, 8)}
	if r.Body == nil {
		w.upload = &http2Body{request: w}
		w.upload.arrival.L = &c.mu
		r.Body = w.upload
	}
	return w
}

// handle handles a request. It uses the current goroutine if the request is for a
// stream and doesn't wait, and a new one otherwise.
func (c *http2Conn) handle(w *http2Request) {
	cfg := &c.listener.cfg
	isStream := w.request.URL.Path == cfg.Path
	if isStream && !cfg.Handler.Waits(w.request) {
		w.serve(cfg.Handler, w.request)
		return
	}

	var handler http.Handler = cfg.Handler
	if !isStream {
		handler = cfg.Other
	}
	ctx, cancel := context.WithCancel(c.listener.requests)

	c.mu.Lock()
	refused := w.gone || len(c.running) >= maxRunning || !c.set.admit(c.listener)
	if refused {
		w.st.Reset(http2.ErrCodeRefusedStream)
		c.endTurn()
		cancel()
		return
	}
	c.running = append(c.running, w)
	w.cancel = cancel
	c.mu.Unlock()

	go func() {
		defer c.listener.running.Done()
		defer cancel()
		w.serve(handler, w.request.WithContext(ctx))
	}()
}

// maxRunning limits the number of a connection's requests that are handled by
// goroutines. Resetting streams doesn't let a client start more.
const maxRunning = 250

// serve calls the handler and sends the response.
func (w *http2Request) serve(handler http.Handler, r *http.Request) {
	defer w.finish()
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		w.abort = true
		if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
			w.conn.listener.cfg.Logger.Error("panic while handling a request", "error", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	handler.ServeHTTP(w, r)
}

// finish sends the response unless the stream has been taken over.
func (w *http2Request) finish() {
	c := w.conn
	c.mu.Lock()
	if w.cancel != nil {
		c.running = slices.DeleteFunc(c.running, func(other *http2Request) bool { return other == w })
	}
	switch {
	case w.taken || w.gone || c.closed:
	case w.abort:
		w.st.Reset(http2.ErrCodeInternal)
	default:
		w.respond()
		c.leave()
	}
	if w.upload != nil {
		w.upload.discard()
	}
	c.endTurn()
}

// respond sends the header and as much of the body as the client accepts.
func (w *http2Request) respond() {
	w.WriteHeader(http.StatusOK)
	if w.body.Len() > 0 && w.header.Get("Content-Length") == "" {
		w.header.Set("Content-Length", strconv.Itoa(w.body.Len()))
	}
	if w.request.Method == http.MethodHead {
		w.body.Reset()
	}

	codec := w.conn.set.engine.codec()
	w.st.SendHeaders(codec, w.status, w.header, w.body.Len() == 0)
	w.conn.set.engine.codecs.Put(codec)
	if w.body.Len() > 0 {
		w.writable()
	}
}

// Header implements [http.ResponseWriter].
func (w *http2Request) Header() http.Header { return w.header }

// WriteHeader implements [http.ResponseWriter].
func (w *http2Request) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Write implements [http.ResponseWriter].
func (w *http2Request) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// SetReadDeadline is called by [http.ResponseController]. It limits the time until the
// request's body is complete.
func (w *http2Request) SetReadDeadline(at time.Time) error {
	if w.upload != nil {
		w.upload.setDeadline(at)
	}
	return nil
}

// takeOver sends the response's header, and returns a sink for the rest of the
// response.
func (w *http2Request) takeOver() (Body, error) {
	c := w.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	w.taken = true
	if w.gone || c.closed {
		return nil, errConnClosed
	}

	codec := c.set.engine.codec()
	w.st.SendHeaders(codec, http.StatusOK, w.header, false)
	c.set.engine.codecs.Put(codec)
	if w.upload != nil {
		w.upload.discard()
	}
	s := &http2Stream{st: w.st}
	w.st.Value = s
	c.streams++
	return s, nil
}

// data implements [http2User].
func (w *http2Request) data(p []byte, end bool) {
	if w.upload != nil {
		w.upload.add(p, end)
	}
}

// writable implements [http2User] by continuing the response. It keeps the bytes that
// the socket doesn't accept, so the stream still counts towards the stream limit.
func (w *http2Request) writable() {
	if len(w.conn.out) >= maxUnsent {
		w.conn.flush()
	}
	if w.conn.closed {
		return
	}
	if len(w.conn.left) > 0 {
		w.conn.waiting = append(w.conn.waiting, w)
		return
	}

	var n int
	w.conn.out, n = w.st.Send(w.conn.buffer(), [][]byte{w.body.Bytes()})
	w.conn.moved = w.conn.moved || n > 0
	if w.body.Next(n); w.body.Len() == 0 {
		w.conn.out = w.st.End(w.conn.buffer())
	}
}

// resume implements [http2User].
func (w *http2Request) resume() {
	if !w.gone && w.body.Len() > 0 {
		w.writable()
	}
}

// closed implements [http2User].
func (w *http2Request) closed(err error) {
	w.gone = true
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // for a reader of the body
	}
	w.stop(err)
}

// stop cancels the request's context, and makes reads of its body fail.
func (w *http2Request) stop(err error) {
	if w.cancel != nil {
		w.cancel()
	}
	if w.upload != nil {
		w.upload.fail(err)
	}
}

// http2Body is the body of a request. http2Conn.mu guards its fields.
type http2Body struct {
	request *http2Request
	arrival sync.Cond
	buf     bytes.Buffer
	err     error // what Read returns once buf is empty
	timer   *time.Timer
}

// Read implements [io.Reader].
func (b *http2Body) Read(p []byte) (int, error) {
	c := b.request.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for b.buf.Len() == 0 && b.err == nil {
		b.arrival.Wait()
	}
	if b.buf.Len() == 0 {
		return 0, b.err
	}

	n, _ := b.buf.Read(p)
	b.request.st.Consumed(n)
	c.flush()
	return n, nil
}

// Close implements [io.Closer].
func (b *http2Body) Close() error {
	b.request.conn.mu.Lock()
	defer b.request.conn.mu.Unlock()
	b.discard()
	return nil
}

// add appends bytes that have arrived.
func (b *http2Body) add(p []byte, end bool) {
	b.buf.Write(p)
	if end {
		b.fail(io.EOF)
	}
	b.arrival.Broadcast()
}

// fail makes Read return err after the bytes that have arrived.
func (b *http2Body) fail(err error) {
	if b.err == nil {
		b.err = err
	}
	if b.timer != nil {
		b.timer.Stop()
	}
	b.arrival.Broadcast()
}

// discard drops the bytes that have arrived and those still to come.
func (b *http2Body) discard() {
	b.request.st.Discard()
	b.buf.Reset()
	b.fail(http.ErrBodyReadAfterClose)
}

func (b *http2Body) setDeadline(at time.Time) {
	b.request.conn.mu.Lock()
	defer b.request.conn.mu.Unlock()
	if b.err == nil && b.timer == nil {
		b.timer = time.AfterFunc(time.Until(at), func() {
			b.request.conn.mu.Lock()
			defer b.request.conn.mu.Unlock()
			b.fail(os.ErrDeadlineExceeded)
		})
	}
}
