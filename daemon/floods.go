package daemon

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

// How many requests one connection may make. A browser makes one for each tab;
// one that opens streams of HTTP/2 to end them at once makes ten thousands a
// second (CVE-2023-44487), each of which costs more to begin than to end. Over
// HTTP/1.1, where one follows another, fewer do.
const (
	requestBurst     = 2 * maxHTTP2Streams
	requestPerSecond = 50
	http1Cost        = 5
)

// floods cuts connections that make too many requests. Trusted proxies share
// theirs among many clients, and are let be.
type floods struct {
	log     *slog.Logger
	trusted networks
	cut     atomic.Int64 // connections
	mute    atomic.Int64 // connections that ended before there was a request: none came, or too slowly, or too large a one

	mu    sync.Mutex
	quiet map[net.Conn]struct{} // those with no request yet
}

func newFloods(log *slog.Logger) *floods {
	return &floods{log: log, quiet: make(map[net.Conn]struct{})}
}

// The causes of rejections that floods counts.
const (
	tooManyRequests = "max_requests_per_connection"
	noRequest       = "no_request"
)

// logRejection logs at debug that a connection to an address was rejected.
func (f *floods) logRejection(ctx context.Context, cause string, address func() string) {
	if f.log.Enabled(ctx, slog.LevelDebug) {
		f.log.LogAttrs(ctx, slog.LevelDebug, "stream rejected", slog.String("cause", cause), slog.String("address", address()))
	}
}

type floodKey struct{}

// requester is a connection and the requests that it may make.
type requester struct {
	conn    net.Conn
	allowed *rate.Limiter // nil for a trusted proxy
	spoke   atomic.Bool
}

// watch is for [http.Server.ConnContext].
func (f *floods) watch(ctx context.Context, conn net.Conn) context.Context {
	from := &requester{conn: conn}
	if !f.trusted.contain(peer(conn)) {
		from.allowed = rate.NewLimiter(requestPerSecond, requestBurst)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.quiet[conn] = struct{}{}
	return context.WithValue(ctx, floodKey{}, from)
}

// heard notes that a connection has made a request.
func (f *floods) heard(from *requester) {
	if from.spoke.Swap(true) {
		return
	}
	f.forget(from.conn)
}

// closed is to be told of each connection that ends.
func (f *floods) closed(conn net.Conn) {
	if !f.forget(conn) {
		return
	}
	f.mute.Add(1)
	// A connection that is closed doesn't wait for its PROXY header.
	f.logRejection(context.Background(), noRequest, func() string { return host(conn.RemoteAddr().String()) })
}

// forget removes conn from those with no request yet, and reports whether it
// was one.
func (f *floods) forget(conn net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.quiet[conn]
	delete(f.quiet, conn)
	return ok
}

// host returns the IP address of addr, as log lines have it.
func host(addr string) string {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return ""
	}
	return at.Addr().Unmap().WithZone("").String()
}

// peer is who is at the other end. It must not wait for a PROXY header, which
// the server has yet to read.
func peer(conn net.Conn) net.Addr { return under(conn).RemoteAddr() }

// under is the connection that was accepted, without TLS or a PROXY header.
func under(conn net.Conn) net.Conn {
	if c, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = c.NetConn()
	}
	if c, ok := conn.(*proxiedConn); ok {
		conn = c.raw
	}
	return conn
}

// guard passes requests on to next. A connection that has used up half of what
// it may do is asked to make place for a new one, which costs those that mean
// well, such as a proxy that nobody said is one, nothing but that. Over HTTP/1.1
// that ends it; over HTTP/2 one that goes on all the same is cut.
func (f *floods) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, ok := r.Context().Value(floodKey{}).(*requester)
		if ok {
			f.heard(from)
		}
		if !ok || from.allowed == nil {
			next.ServeHTTP(w, r)
			return
		}
		cost := 1
		if r.ProtoMajor == 1 {
			cost = http1Cost
		}
		if !from.allowed.AllowN(time.Now(), cost) {
			f.cut.Add(1)
			f.logRejection(r.Context(), tooManyRequests, func() string { return host(r.RemoteAddr) })
			_ = from.conn.Close()
			panic(http.ErrAbortHandler)
		}
		if from.allowed.Tokens() < requestBurst/2 {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}
