package engine

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"time"
)

// response is the [http.ResponseWriter] of a request that the engine has read. It
// buffers the response until the handler returns.
type response struct {
	conn    *incoming
	request *http.Request
	header  http.Header
	status  int // 0 until WriteHeader
	body    bytes.Buffer
	taken   bool // the connection has been taken over
	close   bool // close the connection after the response
	abort   bool // close the connection without a response
}

// Header implements [http.ResponseWriter].
func (w *response) Header() http.Header { return w.header }

// WriteHeader implements [http.ResponseWriter].
func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Write implements [http.ResponseWriter].
func (w *response) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

// bytes returns the whole response, and sets close.
func (w *response) bytes() []byte {
	w.WriteHeader(http.StatusOK)
	w.close = w.close || w.request.Close || w.header.Get("Connection") == "close"
	w.header.Del("Connection")
	w.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))

	resp := http.Response{
		StatusCode: w.status, ProtoMajor: 1, ProtoMinor: 1, Header: w.header, Request: w.request, Close: w.close,
		ContentLength: int64(w.body.Len()), Body: io.NopCloser(&w.body),
	}
	var out bytes.Buffer
	_ = resp.Write(&out) // writing to a buffer can't fail
	return out.Bytes()
}

// readConn is a connection from which some bytes have already been read.
type readConn struct {
	net.Conn

	read []byte // returned first
}

// Read implements [net.Conn].
func (c *readConn) Read(p []byte) (int, error) {
	if len(c.read) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.read)
	if c.read = c.read[n:]; len(c.read) == 0 {
		c.read = nil
	}
	return n, nil
}

// CloseWrite closes the sending side. That way, a client that is still sending its
// request gets net/http's response.
func (c *readConn) CloseWrite() error {
	if conn, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return conn.CloseWrite()
	}
	return nil
}

// NetConn returns the connection that was accepted.
func (c *readConn) NetConn() net.Conn { return c.Conn }
