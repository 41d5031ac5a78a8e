package listen

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

// Server is an HTTP server that shuts down without waiting for connections that
// never sent anything. Browsers open such connections in advance, and
// [http.Server.Shutdown] alone waits five seconds for each of them.
type Server struct {
	http     http.Server
	listener net.Listener

	closed func(net.Conn) // called for each connection that has been closed; may be nil

	mu      sync.Mutex
	silent  map[net.Conn]struct{} // connections that haven't sent anything
	closing bool
}

// NewServer returns a server that serves handler on listener once Serve is
// called; tlsConfig is nil for plain text. The server has no write timeout, because
// that would cut off streams. Handlers set deadlines instead.
func NewServer(listener net.Listener, handler http.Handler, tlsConfig *tls.Config, log *slog.Logger) *Server {
	if tlsConfig != nil {
		tlsConfig = tlsConfig.Clone()
		tlsConfig.NextProtos = Protocols()
		listener = &tlsListener{listener, tlsConfig}
	}

	s := &Server{listener: listener, silent: map[net.Conn]struct{}{}}
	s.http = http.Server{
		Handler:           LimitBody(handler),
		ReadHeaderTimeout: HeaderTimeout,
		IdleTimeout:       IdleTimeout,
		MaxHeaderBytes:    MaxHeader,
		ErrorLog:          stdlog.New(serverLog{log}, "", 0),
		ConnState:         s.connState,
	}

	// Proxies may use HTTP/2 without TLS, to share one connection among many
	// streams.
	s.http.Protocols = new(http.Protocols)
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetHTTP2(true)
	s.http.Protocols.SetUnencryptedHTTP2(true)
	s.http.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams:          maxHTTP2Streams,
		MaxReceiveBufferPerConnection: 64 << 10, // the minimum; bodies are small or not read
		MaxReceiveBufferPerStream:     64 << 10,
		MaxDecoderHeaderTableSize:     4 << 10,
		SendPingTimeout:               IdleTimeout,
		PingTimeout:                   pingTimeout,
	}

	return s
}

// Protocols returns the protocols that servers offer over TLS.
func Protocols() []string { return []string{"h2", "http/1.1"} }

// tlsListener adds TLS to the connections that it accepts, unless they already use it.
type tlsListener struct {
	net.Listener

	config *tls.Config
}

// Accept implements [net.Listener].
func (l *tlsListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if _, ok := conn.(interface{ ConnectionState() tls.ConnectionState }); ok {
		return conn, nil
	}
	return tls.Server(conn, l.config), nil
}

// Serve serves connections until Shutdown is called, and then returns nil.
func (s *Server) Serve() error {
	err := s.http.Serve(s.listener)
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown stops accepting connections and waits for the requests that are being
// served. When ctx is done, it cuts off the remaining requests, and returns ctx's error
// if there were any.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for conn := range s.silent {
		_ = conn.Close()
	}
	s.mu.Unlock()

	err := s.http.Shutdown(ctx)
	if err != nil {
		_ = s.http.Close()
	}
	return err
}

// connState is the server's [http.Server.ConnState] hook.
func (s *Server) connState(conn net.Conn, state http.ConnState) {
	if s.closed != nil && state == http.StateClosed {
		s.closed(conn)
	}
	if c, ok := underlying(conn).(*slotConn); ok {
		c.setActive(state == http.StateActive)
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	switch {
	case state != http.StateNew:
		delete(s.silent, conn)
	case s.closing:
		_ = conn.Close()
	default:
		s.silent[conn] = struct{}{}
	}
}

// LimitBody limits how long a request's body may take to arrive. Otherwise a client
// that announces a body and never sends it would keep its connection forever.
func LimitBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		}
		next.ServeHTTP(w, r)
	})
}

// serverLog logs what net/http reports. Failed TLS handshakes are logged at debug
// level, because load balancers that check whether the port is open cause them too.
type serverLog struct{ log *slog.Logger }

// Write implements [io.Writer].
func (l serverLog) Write(line []byte) (int, error) {
	level := slog.LevelWarn
	if bytes.HasPrefix(line, []byte("http: TLS handshake error")) {
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, string(bytes.TrimSpace(line)))

	return len(line), nil
}
