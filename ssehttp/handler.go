// Package ssehttp is the HTTP interface for browsers: it turns a GET request for the
// events path into a subscription, and writes the stream's bytes to the request's
// connection.
//
// How browsers react to a status determines how requests are rejected. After any status
// other than 200, an EventSource gives up permanently (WHATWG HTML §9.2.3). A permanent
// rejection therefore has a status other than 200. A client that should retry gets a
// 200 with a reconnection time and no events, and EventSource then reconnects.
package ssehttp

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/peald/peald/internal/auth"
	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/engine"
)

// Config configures a Handler. [Handler.Reconfigure] can change it later, with
// some exceptions.
type Config struct {
	// Path is the URL path of streams.
	Path string
	// Cookie is the name of the cookie that may hold a token.
	Cookie string
	// Anonymous allows streams without a token.
	Anonymous bool
	// AnonymousTopics are the topics and patterns that a stream without a
	// token may subscribe to.
	AnonymousTopics []string
	// TopicRules override AnonymousTopics. The first rule whose pattern matches a
	// topic applies to it.
	TopicRules []TopicRule
	// AllowedOrigins are the origins whose pages may read streams, such as
	// "https://app.example.com", in addition to the listener's own. "*" allows any
	// origin.
	AllowedOrigins []string
	// AllowedHeaders are the request headers that pages from AllowedOrigins may
	// send, in addition to those that are always allowed.
	AllowedHeaders []string
	// MaxConnections is the maximum number of open streams; 0 for no limit.
	MaxConnections int
	// QueryToken allows a token in the query, as access_token.
	QueryToken bool
	// Application authenticates requests if it is not nil. In that case,
	// the handler ignores tokens.
	Application Application
	// MaxConnectionsPerUser and MaxConnectionsPerAddress are the maximum numbers of
	// streams per user and per address; 0 for no limit.
	MaxConnectionsPerUser    int
	MaxConnectionsPerAddress int
	// Elsewhere returns how many streams a user has on other daemons, which
	// also count towards MaxConnectionsPerUser. It is nil if there are no other
	// daemons. Reconfigure doesn't change it.
	Elsewhere func(user string) int
	// MaxConnectsPerSecond is the maximum number of streams opened per second;
	// 0 for no limit.
	MaxConnectsPerSecond int
	// TrustedProxies are the addresses from which ProxyHeader is trusted.
	TrustedProxies []netip.Prefix
	// ProxyHeader is the header in which those proxies pass the client's
	// address: ForwardedFor or Forwarded.
	ProxyHeader string
	// Retry is the minimum time that a client must wait when it is asked to retry. The
	// maximum is twice as long.
	Retry time.Duration
	// WriteTimeout limits how long a connection may go without accepting any bytes
	// while bytes are queued for it.
	WriteTimeout time.Duration
	// Compression sends streams with the gzip content coding to clients that accept it.
	Compression bool
	// Module is the module that pages import from ModulePath; nil for none.
	Module *Module
	// Engine selects how streams are served.
	Engine Engine
	// Logger gets messages for operators; nil for none.
	Logger *slog.Logger
}

// Engine is a way of serving streams.
type Engine string

const (
	// Auto uses Epoll where it is available, and NetHTTP otherwise.
	Auto Engine = ""
	// Epoll reads requests and holds streams on bare descriptors, including those over
	// TLS 1.3 and HTTP/2. It requires Linux. TLS 1.2 and FIPS 140 mode still use
	// NetHTTP.
	Epoll Engine = "epoll"
	// NetHTTP uses one goroutine per stream.
	NetHTTP Engine = "nethttp"
)

// Verifier verifies tokens and returns the identity of their bearer. Clients see
// the text of its errors.
type Verifier interface {
	Verify(token string) (auth.Identity, error)
	// Waits reports whether Verify may wait, for example for keys.
	Waits() bool
}

// Application authenticates requests. Authorize returns an *auth.DeniedError, an
// *auth.RequestError, or any other error if the failure is temporary.
type Application interface {
	Authorize(r *http.Request, query url.Values, client netip.Addr) (auth.Identity, error)
}

// Handler serves streams. Its methods are safe for concurrent use.
type Handler struct {
	path     string
	broker   *broker.Broker
	rules    atomic.Pointer[rules]
	limits   limits
	log      *slog.Logger
	heads    heads
	polls    atomic.Pointer[head] // see pollFields
	engine   *engine.Engine       // nil if all streams use net/http
	open     atomic.Int64
	held     openBy // streams held by the engine
	served   openBy // streams served by net/http
	rejected rejections
	failures rate.Sometimes // limits warnings
	draining atomic.Bool

	uncount [transports]func() // called when the engine closes a stream; created once instead of for each stream

	handshakes handshakes
}

// New returns a handler that opens streams on b. The caller must call Close.
// Without a verifier, every token is rejected.
func New(cfg Config, b *broker.Broker, v Verifier) (*Handler, error) {
	h := &Handler{path: cfg.Path, broker: b, limits: newLimits(cfg.Elsewhere), log: cfg.Logger, failures: rate.Sometimes{Interval: failuresEvery}}
	h.handshakes.init()
	h.Reconfigure(cfg, v)
	for t := range transports {
		h.uncount[t] = func() {
			h.held[t].Add(-1)
			h.open.Add(-1)
		}
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}

	if cfg.Engine != NetHTTP {
		engine, err := engine.New(b.Shards())
		if err != nil && (cfg.Engine == Epoll || !errors.Is(err, errors.ErrUnsupported)) {
			return nil, fmt.Errorf("start the epoll engine: %w", err)
		}
		h.engine = engine
	}
	return h, nil
}

// Close stops the handler's goroutines. Close the broker first.
func (h *Handler) Close() error {
	if h.engine == nil {
		return nil
	}
	return h.engine.Close()
}

// Open returns the number of open streams.
func (h *Handler) Open() int { return int(h.open.Load()) }

// Drain makes the handler ask clients of new streams to retry, and HTTP/2 clients
// to use other connections.
func (h *Handler) Drain() {
	h.draining.Store(true)
	if h.engine != nil {
		h.engine.GoAway()
	}
}

// Draining reports whether Drain has been called.
func (h *Handler) Draining() bool { return h.draining.Load() }

// ServeHTTP serves the events path and the module, and responds with 404 to any
// other path.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rules := h.rules.Load()
	originOK := rules.origins.admit(w, r)
	isModule := r.URL.Path == ModulePath && rules.cfg.Module != nil
	if r.URL.Path != h.path && !isModule {
		h.reject(w, r, rules, "", rejectQuoting(BadRequest, http.StatusNotFound, "nothing found at %q; streams are at %q", r.URL.Path, h.path))
		return
	}

	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		preflight(w, r, originOK, rules.allowedHeaders)
		return
	default:
		w.Header().Set("Allow", allowedMethods)
		h.reject(w, r, rules, "", reject(BadRequest, http.StatusMethodNotAllowed, "method %s is not allowed; want one of %s", shortened(r.Method), allowedMethods))
		return
	}

	if isModule {
		rules.cfg.Module.serve(w, r)
		return
	}

	wanted, rej := requested(r)
	if rej != nil {
		h.reject(w, r, rules, "", rej)
		return
	}
	sub, res, rej := h.admit(r, rules, originOK)
	switch {
	case rej != nil:
	case r.Method == http.MethodHead:
		res.release()
		h.serveHead(w, r, rules, wanted.format)
	case wanted.format == jsonFormat:
		rej = h.poll(w, r, rules, sub, wanted, res)
	default:
		rej = h.stream(w, r, rules, sub, wanted.envelope, res)
	}
	if rej != nil {
		h.reject(w, r, rules, sub.User, rej)
	}
}

// serveHead responds to a HEAD request that would have been admitted as a GET request.
func (h *Handler) serveHead(w http.ResponseWriter, r *http.Request, rules *rules, wanted format) {
	if wanted == jsonFormat {
		pollHeaders(w.Header())
	} else {
		streamHeaders(w.Header())
		rules.negotiate(w.Header(), r.Header)
	}
	w.WriteHeader(http.StatusOK)
}

// maxParameters is the maximum number of query parameters.
const maxParameters = 10 * broker.MaxTopics

// admit reads the subscription from a request and makes a reservation for it,
// which the caller must release. Cheap checks come first.
func (h *Handler) admit(r *http.Request, rules *rules, originOK bool) (sub broker.Subscription, res *reservation, rej *rejection) {
	if n := strings.Count(r.URL.RawQuery, "&") + 1; n > maxParameters {
		return sub, nil, reject(BadRequest, http.StatusBadRequest, "the query has %d parameters; want at most %d topics", n, broker.MaxTopics)
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return sub, nil, reject(BadRequest, http.StatusBadRequest, "malformed query; want percent-encoded name=value pairs joined by &")
	}

	from, rej := startOf(r.Header, query)
	if rej != nil {
		return sub, nil, rej
	}
	sub.LastEventID, sub.Start = from.lastEventID, from.earlier
	token, rej := rules.token(r, query)
	if rej != nil {
		return sub, nil, rej
	}
	if !originOK && hasAmbientCredentials(r.Header) {
		return sub, nil, reject(BadOrigin, http.StatusForbidden, "origin %q may not open streams with cookies", shortened(r.Header.Get("Origin")))
	}

	if rej := h.checkCapacity(rules); rej != nil {
		return sub, nil, rej
	}
	client := rules.clients.addr(r)
	made, rej := h.limits.reserve(client, rules)
	if rej != nil {
		return sub, nil, rej
	}
	defer func() {
		if rej != nil {
			made.release()
		}
	}()

	who, rej := rules.identify(r, query, client, token)
	if rej != nil {
		return sub, nil, rej
	}
	sub.User, sub.Expires = who.User, who.Expires
	if who.User != "" && h.broker.Banned(who.User) {
		return sub, nil, &rejection{cause: Banned, status: http.StatusNoContent}
	}
	if sub.Topics, rej = topics(query["topic"], rules.allows(who, token)); rej != nil {
		return sub, nil, rej
	}
	return sub, made, made.addUser(who.User, rules)
}

// checkCapacity returns a rejection if no further stream can be opened now.
func (h *Handler) checkCapacity(rules *rules) *rejection {
	switch {
	case h.draining.Load() || h.broker.Closed():
		return askToRetry(Draining)
	case h.broker.Suspended():
		return askToRetry(Suspended)
	case rules.cfg.MaxConnections > 0 && h.Open() >= rules.cfg.MaxConnections:
		return askToRetry(Full)
	}
	return nil
}

// stream opens a stream on the request's connection. It returns when the stream
// is closed or the engine has taken over the stream and its reservation. If it
// returns a rejection, it has not written anything.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, rules *rules, sub broker.Subscription, envelope bool, res *reservation) *rejection {
	if rej := h.enter(r, rules, sub, res); rej != nil {
		return rej
	}

	streamHeaders(w.Header())
	if r.ProtoMajor > 1 {
		w.Header().Del("Connection") // it would end the whole connection
	} else {
		w.Header().Set("Connection", "close") // so that the next stream may go elsewhere
	}
	open := broker.Opening{Gzip: rules.negotiate(w.Header(), r.Header), Envelope: envelope}
	st := h.broker.NewStream(sub)
	lines := h.logStream(r, rules, &sub, st)

	body, taken, err := h.takeOver(w, r)
	if err != nil {
		h.closed(res)
		h.record(r, rules, sub.User, startFailed(err))
		return nil
	}
	if taken {
		if err := h.hold(body, open, w, r, st, res, rules.cfg.Retry, lines); err != nil {
			h.record(r, rules, sub.User, startFailed(err))
		}
		return nil
	}

	defer h.closed(res)
	count := &h.served[transportOf(r)]
	count.Add(1)
	defer count.Add(-1)
	if err := serve(w, r, st, open, rules.cfg.WriteTimeout, lines); err != nil {
		return startFailed(err)
	}
	return nil
}

const allowedMethods = "GET, HEAD, OPTIONS"

func streamHeaders(header http.Header) {
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store, no-transform")
	header.Set("X-Accel-Buffering", "no")
}
