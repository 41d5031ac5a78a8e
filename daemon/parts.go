package daemon

import (
	"log/slog"
	"maps"
	"net/http"
	"runtime/trace"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/peald/peald/control"
	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/hooks"
	"github.com/peald/peald/internal/listen"
	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/ssehttp"
)

// parts holds the parts of a daemon and wires them together.
type parts struct {
	log     *slog.Logger
	opts    Options
	sockets sockets

	broker    *broker.Broker
	member    *member        // nil if clustering is disabled
	publisher control.Broker // broker, or a clusterBroker

	auth       atomic.Pointer[authenticator]
	maxStreams atomic.Int64
	streams    *ssehttp.Handler
	demoPage   atomic.Pointer[http.Handler]
	browsers   *listen.Browsers
	sse        *listen.Server

	hooks      *hooks.Manager
	sources    *source.Manager
	control    *control.Service
	calls      *listen.Tracked // the connections of grpc
	grpc       *grpc.Server
	rest       *listen.Server
	handedREST atomic.Bool           // another process is accepting connections, so REST clients must reconnect
	recorder   *trace.FlightRecorder // nil if debug.flight_recorder is off

	drainOnce sync.Once
	drain     chan struct{} // closed by requestDrain
	draining  atomic.Bool

	// The fields below belong to the goroutine that builds the parts, reloads
	// their configuration and shuts them down.

	cfg        Config // in effect
	demoSecret string // auth.jwt.hmac_secret in cfg, if it was generated for the demo
	files      files
	reloads    *reloads
	closers    []func() // in the order in which the parts were built
}

// close releases everything that build acquired, in reverse order. The servers must
// have been shut down already.
func (p *parts) close() {
	for _, closePart := range slices.Backward(p.closers) {
		closePart()
	}
}

// onClose registers a function for close to call.
func (p *parts) onClose(f func()) { p.closers = append(p.closers, f) }

// requestDrain makes the daemon drain and shut down.
func (p *parts) requestDrain() { p.drainOnce.Do(func() { close(p.drain) }) }

// unready returns the reason why the daemon isn't serving.
func (p *parts) unready() string {
	if p.draining.Load() {
		return "draining"
	}
	if p.member != nil {
		if _, reason := p.member.node.Serving(); reason != "" {
			return reason
		}
	}
	return "starting"
}

// rejected returns how many requests from browsers have been rejected, by cause.
func (p *parts) rejected() map[string]int64 {
	counts := p.streams.Rejected()
	maps.Copy(counts, p.browsers.Rejected())

	return counts
}

// askToReconnect wraps next to make REST clients reconnect once another process accepts
// their connections. Closing idle connections instead would make a call fail if its
// client reused the connection just then.
func (p *parts) askToReconnect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.handedREST.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}
