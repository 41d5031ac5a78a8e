package listen

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Limits for the requests on one connection. A browser sends one per tab. A client that
// opens HTTP/2 streams only to reset them (CVE-2023-44487) sends tens of thousands of
// requests per second, and starting one costs more than resetting it. Over HTTP/1.1,
// where requests come one after another, fewer are enough.
const (
	requestBurst      = 2 * maxHTTP2Streams
	requestsPerSecond = 50
	http1Cost         = 5 // the number of HTTP/2 requests that one HTTP/1.1 request counts as
)

// Causes for which [Browsers] rejects connections.
const (
	// TooManyRequests means that a connection was cut off because it exceeded the
	// request rate.
	TooManyRequests = "max_requests_per_connection"

	// NoRequest means that a connection was closed before its first request: the client
	// sent no request, or one that arrived too slowly or was too large.
	NoRequest = "no_request"
)

// requestLimits cuts off connections that send too many requests. Trusted proxies
// share a connection among many clients and aren't limited.
type requestLimits struct {
	log     *slog.Logger
	trusted networks

	cut    atomic.Int64 // connections rejected as TooManyRequests
	silent atomic.Int64 // connections rejected as NoRequest

	mu      sync.Mutex
	waiting map[net.Conn]struct{} // connections without a request yet
}

func newRequestLimits(log *slog.Logger) *requestLimits {
	return &requestLimits{log: log, waiting: make(map[net.Conn]struct{})}
}

// client holds a connection and its request limit.
type client struct {
	conn    net.Conn
	allowed *rate.Limiter // nil for a trusted proxy
	seen    atomic.Bool   // it has sent a request
}

type clientKey struct{}

// connContext is the server's [http.Server.ConnContext] hook.
func (l *requestLimits) connContext(ctx context.Context, conn net.Conn) context.Context {
	c := &client{conn: conn}
	// The server hasn't read the PROXY header yet, and this function must not wait
	// for it.
	if !l.trusted.contain(underlying(conn).RemoteAddr()) {
		c.allowed = rate.NewLimiter(requestsPerSecond, requestBurst)
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	l.waiting[conn] = struct{}{}

	return context.WithValue(ctx, clientKey{}, c)
}

// closed must be called for each connection that has been closed.
func (l *requestLimits) closed(conn net.Conn) {
	if l.stopWaiting(conn) {
		// On a closed connection, RemoteAddr doesn't wait for the PROXY header.
		l.countSilent(conn.RemoteAddr().String())
	}
}

// countSilent counts a connection that was closed before its first request.
func (l *requestLimits) countSilent(addr string) {
	l.silent.Add(1)
	l.logRejection(context.Background(), NoRequest, func() string { return host(addr) })
}

// countCut counts a connection that was cut off because of its requests.
func (l *requestLimits) countCut(ctx context.Context, addr string) {
	l.cut.Add(1)
	l.logRejection(ctx, TooManyRequests, func() string { return host(addr) })
}

// stopWaiting stops waiting for conn's first request, and reports whether that request
// was still missing.
func (l *requestLimits) stopWaiting(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()

	_, ok := l.waiting[conn]
	delete(l.waiting, conn)

	return ok
}

// handler limits the requests that next serves. Once a connection has used half of its
// burst, the client is asked to open a new one. Over HTTP/1.1, the old connection is
// then closed. Over HTTP/2, a client that ignores this is eventually cut off. A
// well-behaved client, such as a proxy that isn't configured as trusted, just opens a
// new connection.
func (l *requestLimits) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(clientKey{}).(*client)
		if ok && !c.seen.Swap(true) {
			l.stopWaiting(c.conn)
		}
		if !ok || c.allowed == nil {
			next.ServeHTTP(w, r)
			return
		}

		cost := 1
		if r.ProtoMajor == 1 {
			cost = http1Cost
		}
		if !c.allowed.AllowN(time.Now(), cost) {
			l.countCut(r.Context(), r.RemoteAddr)
			_ = c.conn.Close()
			panic(http.ErrAbortHandler)
		}
		if c.allowed.Tokens() < requestBurst/2 {
			w.Header().Set("Connection", "close")
		}

		next.ServeHTTP(w, r)
	})
}

// logRejection logs at debug level that a connection was rejected.
func (l *requestLimits) logRejection(ctx context.Context, cause string, address func() string) {
	if l.log.Enabled(ctx, slog.LevelDebug) {
		l.log.LogAttrs(ctx, slog.LevelDebug, "stream rejected", slog.String("cause", cause), slog.String("address", address()))
	}
}

// host returns the IP address of addr in the form that log messages use.
func host(addr string) string {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return ""
	}
	return at.Addr().Unmap().WithZone("").String()
}
