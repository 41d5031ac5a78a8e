package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	headerTimeout = 10 * time.Second // for a request's header, and for TLS's handshake
	bodyTimeout   = 10 * time.Second
	idleTimeout   = 30 * time.Second
	pingTimeout   = 15 * time.Second
	maxHeader     = 32 << 10 // a token in the query, one in a cookie, and what browsers add

	// maxHTTP2Streams bounds the requests that one connection may have open.
	// Each stream among them counts as a connection does.
	maxHTTP2Streams = 250
)

// httpServer is an [http.Server] that ends without waiting for connections on
// which nobody has asked for anything. Browsers open such ahead of need, and
// Shutdown by itself gives each of them five seconds.
type httpServer struct {
	http.Server

	closed func(net.Conn) // told of connections that end; may be nil

	mu      sync.Mutex
	silent  map[net.Conn]struct{}
	closing bool
}

// newHTTPServer makes a server of handler; tlsConfig may be nil, for plain text.
// It has no write time-out, which would cut streams: handlers set deadlines.
func newHTTPServer(handler http.Handler, tlsConfig *tls.Config, log *slog.Logger) *httpServer {
	s := &httpServer{silent: map[net.Conn]struct{}{}}
	s.Server = http.Server{
		Handler:           boundBody(handler),
		TLSConfig:         tlsConfig,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          stdlog.New(serverLog{log}, "", 0),
		ConnState:         s.watch,
	}
	// Proxies may speak HTTP/2 without TLS, and so share one connection among
	// many streams.
	s.Protocols = new(http.Protocols)
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	s.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams:          maxHTTP2Streams,
		MaxReceiveBufferPerConnection: 64 << 10, // the least there is; bodies are small or not read
		MaxReceiveBufferPerStream:     64 << 10,
		MaxDecoderHeaderTableSize:     4 << 10,
		SendPingTimeout:               idleTimeout,
		PingTimeout:                   pingTimeout,
	}
	return s
}

// serverLog is where net/http writes. Whoever connects without speaking TLS,
// be it a load balancer that looks whether the port is open, is no news.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Write(line []byte) (int, error) {
	level := slog.LevelWarn
	if bytes.HasPrefix(line, []byte("http: TLS handshake error")) {
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, string(bytes.TrimSpace(line)))
	return len(line), nil
}

// boundBody gives a request's body a time to arrive. Without it, a client that
// announces a body and sends none would keep its connection for ever.
func boundBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		}
		next.ServeHTTP(w, r)
	})
}

func (s *httpServer) watch(conn net.Conn, state http.ConnState) {
	if s.closed != nil && state == http.StateClosed {
		s.closed(conn)
	}
	if c, ok := under(conn).(*slotConn); ok {
		c.serves(state == http.StateActive)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if state != http.StateNew {
		delete(s.silent, conn)
		return
	}
	if s.closing {
		_ = conn.Close()
		return
	}
	s.silent[conn] = struct{}{}
}

// serve accepts connections until the server ends.
func (s *httpServer) serve(listener net.Listener) error {
	serve := s.Serve
	if s.TLSConfig != nil {
		serve = func(l net.Listener) error { return s.ServeTLS(l, "", "") }
	}
	if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// end stops accepting and waits for the requests that are being served. Those
// that outlast ctx are cut; their number is not known, but that there were any
// is ctx's error.
func (s *httpServer) end(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for conn := range s.silent {
		_ = conn.Close()
	}
	s.mu.Unlock()
	err := s.Shutdown(ctx)
	if err != nil {
		_ = s.Close()
	}
	return err
}
