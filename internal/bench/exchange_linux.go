package bench

import (
	"crypto/tls"
	"net/url"
)

// exchange holds what the streams of a run send to the server.
type exchange struct {
	tls      *tls.Config // nil for plain text
	requests [][]byte    // by user number
}

func newExchange(r *run, address *url.URL) (*exchange, error) {
	e := &exchange{tls: tlsConfig(r.cfg.TLS, address, "http/1.1")}
	for _, header := range r.requests {
		text, err := requestBytes(address, header)
		if err != nil {
			return nil, err
		}
		e.requests = append(e.requests, text)
	}
	return e, nil
}

// begin returns the protocol of a socket that is connected, and the requests for
// its streams.
func (e *exchange) begin(s *socket) (protocol, []byte, error) {
	return &http1{}, e.requests[s.streams[0].user], nil
}
