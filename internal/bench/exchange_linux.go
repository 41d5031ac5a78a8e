package bench

import (
	"crypto/tls"
	"net/http"
	"net/url"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// exchange holds what the streams of a run send to the server.
type exchange struct {
	tls      *tls.Config           // nil for plain text
	requests [][]byte              // over HTTP/1.1, by user number
	fields   [][]hpack.HeaderField // over HTTP/2, by user number

	// Clients that poll make their own requests.
	polls   bool
	address *url.URL
	headers []http.Header // by user number
}

func newExchange(r *run, address *url.URL) (*exchange, error) {
	e := &exchange{tls: tlsConfig(r.cfg.TLS, address, r.cfg.HTTP2)}
	if r.cfg.HTTP2 {
		for _, header := range r.requests {
			e.fields = append(e.fields, requestFields(address, header))
		}
		return e, nil
	}

	if r.cfg.Poll {
		e.polls, e.address, e.headers = true, address, r.requests
		return e, nil
	}

	for _, header := range r.requests {
		text, err := requestBytes(address, header)
		if err != nil {
			return nil, err
		}
		e.requests = append(e.requests, text)
	}
	return e, nil
}

// http2 reports whether the streams use HTTP/2.
func (e *exchange) http2() bool { return e.fields != nil }

// begin returns the protocol of a socket that is connected, and what to send
// first. That is valid until the next use of codec.
func (e *exchange) begin(s *socket, codec *frameCodec) (p protocol, first []byte, err error) {
	if e.polls {
		c := &pollConn{address: e.address, header: e.headers[s.streams[0].user], position: &s.position}
		first, err = c.request()
		return c, first, err
	}
	if !e.http2() {
		return &http1{}, e.requests[s.streams[0].user], nil
	}
	if s.tls != nil && s.tls.ConnectionState().NegotiatedProtocol != http2.NextProtoTLS {
		return nil, nil, errNotHTTP2
	}

	requests := make([][]hpack.HeaderField, len(s.streams))
	for i := range s.streams {
		requests[i] = e.fields[s.streams[i].user]
	}
	return newHTTP2Conn(codec, requests, s.slow)
}
