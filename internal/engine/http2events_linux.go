package engine

import (
	"net/http"

	"github.com/peald/peald/internal/http2conn"
)

// Request implements [http2conn.Handler].
func (c *http2Conn) Request(st *http2conn.Stream, r *http.Request) {
	c.answered = true
	c.set.mu.Lock()
	c.timer.stop() // The idle time starts over.
	c.set.mu.Unlock()
	r.RemoteAddr = c.remote
	w := newHTTP2Request(c, st, r)
	st.Value = w
	c.arrived = append(c.arrived, w)
}

// http2User is the user of an HTTP/2 stream: a request or an event stream. Its
// methods are called with http2Conn.mu locked.
type http2User interface {
	data(p []byte, end bool)
	writable()
	resume() // the socket accepts more
	closed(err error)
}

// Data implements [http2conn.Handler].
func (c *http2Conn) Data(st *http2conn.Stream, p []byte, end bool) {
	if user, ok := st.Value.(http2User); ok {
		user.data(p, end)
	}
}

// Writable implements [http2conn.Handler].
func (c *http2Conn) Writable(st *http2conn.Stream) {
	if user, ok := st.Value.(http2User); ok {
		user.writable()
	}
}

// Closed implements [http2conn.Handler].
func (c *http2Conn) Closed(st *http2conn.Stream, err error) {
	if user, ok := st.Value.(http2User); ok {
		user.closed(err)
	}
}
