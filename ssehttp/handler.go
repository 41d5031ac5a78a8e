// Package ssehttp is the browsers' side of peald: it turns a GET of the events
// path into a subscription, and puts a stream's bytes onto its connection.
//
// What a status does to a browser decides how requests are refused. Anything
// but 200 makes an EventSource give up for good (WHATWG HTML §9.2.3), so a
// refusal that should last is a status, and one that should pass is a 200 that
// holds a reconnection time and ends, after which EventSource comes back.
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
)

// Config is how a Handler is set up, and what it can be told to go over to:
// see [Handler.Reconfigure].
type Config struct {
	// Path is where streams are served.
	Path string
	// Cookie is the name of the cookie that may hold a token.
	Cookie string
	// Anonymous says whether a stream needs no token.
	Anonymous bool
	// AnonymousTopics are the topics and patterns that a stream without token
	// may subscribe to.
	AnonymousTopics []string
	// AllowedOrigins are the origins, besides the listener's own, whose pages
	// may read streams, such as "https://app.example.com"; "*" is any.
	AllowedOrigins []string
	// AllowedHeaders are the request headers, besides those that are always
	// allowed, that pages of AllowedOrigins may send.
	AllowedHeaders []string
	// MaxConnections is the most streams that may be open at once; 0 for no
	// bound.
	MaxConnections int
	// QueryToken says whether a token may stand in the query, as access_token.
	QueryToken bool
	// Application, where there is one, says who a request is from; tokens are
	// then nothing to the handler.
	Application Application
	// MaxConnectionsPerUser and MaxConnectionsPerAddress are the most streams
	// that one user and one address may hold; 0 for no bound.
	MaxConnectionsPerUser    int
	MaxConnectionsPerAddress int
	// Elsewhere says how many streams a user has on other daemons, which count
	// for MaxConnectionsPerUser too; nil where there are none. It can't be
	// changed.
	Elsewhere func(user string) int
	// MaxConnectsPerSecond is how many streams may be opened in a second; 0
	// for no bound.
	MaxConnectsPerSecond int
	// TrustedProxies are the addresses of which ProxyHeader is believed.
	TrustedProxies []netip.Prefix
	// ProxyHeader is the one header in which those proxies say whom they
	// speak for: ForwardedFor, or Forwarded.
	ProxyHeader string
	// Retry is what a client that is refused for the moment waits at least
	// before it comes back, and at most twice as long.
	Retry time.Duration
	// WriteTimeout is how long a connection may take no byte.
	WriteTimeout time.Duration
	// Engine chooses how bytes get onto sockets.
	Engine Engine
	// Logger gets what an operator should know; nothing where nil.
	Logger *slog.Logger
}

// Engine is a way to put bytes onto sockets.
type Engine string

const (
	// Auto takes Epoll where there is one, and NetHTTP for the rest.
	Auto Engine = ""
	// Epoll holds streams on plain HTTP/1.1 as bare descriptors. Linux only;
	// streams over TLS and HTTP/2 take NetHTTP all the same.
	Epoll Engine = "epoll"
	// NetHTTP has a goroutine a stream.
	NetHTTP Engine = "nethttp"
)

// Verifier tells who the bearer of a token is. The text of its errors is shown
// to the client.
type Verifier interface {
	Verify(token string) (auth.Identity, error)
}

// Application authenticates a request. The error is an *auth.DeniedError, an
// *auth.QuestionError, or one that passes.
type Application interface {
	Authorize(r *http.Request, query url.Values, client netip.Addr) (auth.Identity, error)
}

// Handler serves streams. Its methods may be called concurrently.
type Handler struct {
	path     string
	broker   *broker.Broker
	rules    atomic.Pointer[rules]
	limits   limits
	log      *slog.Logger
	heads    heads
	engine   *engine // nil where every stream takes net/http's way
	open     atomic.Int64
	openBy   openBy
	refused  refusals
	failures rate.Sometimes // warnings
	draining atomic.Bool
}

// New returns a handler that opens streams on b, whose Close must be called.
// Without a verifier every token is refused.
func New(cfg Config, b *broker.Broker, v Verifier) (*Handler, error) {
	h := &Handler{path: cfg.Path, broker: b, limits: newLimits(cfg.Elsewhere), log: cfg.Logger, failures: rate.Sometimes{Interval: failuresEvery}}
	h.Reconfigure(cfg, v)
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if cfg.Engine != NetHTTP {
		engine, err := newEngine(b.Shards(), func(delta int64) {
			h.open.Add(delta)
			h.openBy[byEpoll].Add(delta)
		})
		if err != nil && (cfg.Engine == Epoll || !errors.Is(err, errors.ErrUnsupported)) {
			return nil, fmt.Errorf("start the epoll engine: %w", err)
		}
		h.engine = engine
	}
	return h, nil
}

// Close ends the handler's goroutines. The broker must have been closed
// before.
func (h *Handler) Close() error {
	if h.engine == nil {
		return nil
	}
	return h.engine.close()
}

// Open returns the number of streams that are open.
func (h *Handler) Open() int { return int(h.open.Load()) }

// Drain makes the handler refuse new streams, in a way that lets browsers try
// again.
func (h *Handler) Drain() { h.draining.Store(true) }

// Draining says whether Drain was called.
func (h *Handler) Draining() bool { return h.draining.Load() }

// ServeHTTP serves the events path; anything else is 404.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rules := h.rules.Load()
	originOK := rules.origins.admit(w, r)
	if r.URL.Path != h.path {
		h.refuse(w, r, rules, "", quoting(BadRequest, http.StatusNotFound, "there is nothing at %q; streams are at %q", r.URL.Path, h.path))
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		preflight(w, r, originOK, rules.allowedHeaders)
		return
	default:
		w.Header().Set("Allow", allowedMethods)
		h.refuse(w, r, rules, "", refuse(BadRequest, http.StatusMethodNotAllowed, "the method is %s; %s are accepted", r.Method, allowedMethods))
		return
	}
	sub, held, why := h.admit(r, rules, originOK)
	if why == nil && r.Method == http.MethodHead {
		held.leave()
		streamHeaders(w.Header())
		w.WriteHeader(http.StatusOK)
		return
	}
	if why == nil {
		why = h.stream(w, r, rules, sub, held)
	}
	if why != nil {
		h.refuse(w, r, rules, sub.User, why)
	}
}

// maxParameters is the most parameters of a query that are looked at.
const maxParameters = 10 * broker.MaxTopics

// admit reads from a request what its stream is to be, and takes a place for
// it, which the caller has to leave. What costs least is checked first.
func (h *Handler) admit(r *http.Request, rules *rules, originOK bool) (sub broker.Subscription, held *place, why *refusal) {
	if !acceptsStreams(r.Header) {
		return sub, nil, quoting(BadRequest, http.StatusNotAcceptable, "the Accept header is %q; this resource is text/event-stream", r.Header.Get("Accept"))
	}
	if n := strings.Count(r.URL.RawQuery, "&") + 1; n > maxParameters {
		return sub, nil, refuse(BadRequest, http.StatusBadRequest, "the query has %d parameters; topic is accepted 1 to %d times", n, broker.MaxTopics)
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return sub, nil, refuse(BadRequest, http.StatusBadRequest, "the query can't be read: percent-encoded name=value pairs, joined by &, are accepted")
	}
	if sub.LastEventID, why = lastEventID(r.Header, query); why != nil {
		return sub, nil, why
	}
	token, why := rules.token(r, query)
	if why != nil {
		return sub, nil, why
	}
	if !originOK && sentUnasked(r.Header) {
		return sub, nil, refuse(BadOrigin, http.StatusForbidden, "the origin %q may not open streams with cookies", r.Header.Get("Origin"))
	}
	if why := h.room(rules); why != nil {
		return sub, nil, why
	}
	client := rules.clients.addr(r)
	taken, why := h.limits.enter(client, rules)
	if why != nil {
		return sub, nil, why
	}
	defer func() {
		if why != nil {
			taken.leave()
		}
	}()
	who, why := rules.identify(r, query, client, token)
	if why != nil {
		return sub, nil, why
	}
	sub.User, sub.Expires = who.User, who.Expires
	if who.User != "" && h.broker.Banned(who.User) {
		return sub, nil, &refusal{cause: Banned, status: http.StatusNoContent}
	}
	if sub.Topics, why = topics(query["topic"], who.Topics); why != nil {
		return sub, nil, why
	}
	return sub, taken, taken.seat(who.User, rules)
}

// room says whether there is any for one more stream, before anything is done
// for it.
func (h *Handler) room(rules *rules) *refusal {
	switch {
	case h.draining.Load() || h.broker.Closed():
		return later(Draining)
	case h.broker.Suspended():
		return later(Suspended)
	case rules.cfg.MaxConnections > 0 && h.Open() >= rules.cfg.MaxConnections:
		return later(Full)
	}
	return nil
}

// stream opens a stream on the request's connection and returns when it has
// ended, or is the engine's, which then has held too. With a refusal nothing
// was written yet.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, rules *rules, sub broker.Subscription, held *place) *refusal {
	// The count is the stream's as long as this function runs, and the
	// engine's own from then on.
	defer h.open.Add(-1)
	if n := h.open.Add(1); rules.cfg.MaxConnections > 0 && n > int64(rules.cfg.MaxConnections) {
		held.leave()
		return later(Full)
	}
	if err := h.broker.Await(r.Context(), sub.LastEventID); err != nil {
		held.leave()
		return later(Suspended)
	}
	streamHeaders(w.Header())
	st := h.broker.NewStream(sub)
	lines := h.logStream(r, rules, &sub, st)
	if h.engine != nil {
		open := broker.Opening{Chunked: r.ProtoAtLeast(1, 1)}
		open.Head = h.heads.of(w.Header(), open.Chunked, time.Now())
		if taken, err := h.engine.serve(w, r, st, open, held, rules.cfg.Retry, lines); taken {
			if err != nil {
				h.note(r, rules, sub.User, notStarted(err))
			}
			return nil
		}
	}
	defer held.leave()
	open := &h.openBy[transportOf(r)]
	open.Add(1)
	defer open.Add(-1)
	if err := serve(w, r, st, rules.cfg.WriteTimeout, lines); err != nil {
		return notStarted(err)
	}
	return nil
}

const allowedMethods = "GET, HEAD, OPTIONS"

func streamHeaders(header http.Header) {
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store, no-transform")
	header.Set("X-Accel-Buffering", "no")
}
