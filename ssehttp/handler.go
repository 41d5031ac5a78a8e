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
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/peald/peald/internal/auth"
	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/eventstream"
)

// Config is how a Handler is set up.
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
	// MaxConnections is the most streams that may be open at once; 0 for no
	// bound.
	MaxConnections int
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

// Handler serves streams. Its methods may be called concurrently.
type Handler struct {
	cfg      Config
	broker   *broker.Broker
	verifier Verifier
	origins  origins
	log      *slog.Logger
	heads    heads
	engine   *engine // nil where every stream takes net/http's way
	open     atomic.Int64
	refused  atomic.Int64
	draining atomic.Bool
}

// New returns a handler that opens streams on b, whose Close must be called.
// Without a verifier every token is refused.
func New(cfg Config, b *broker.Broker, v Verifier) (*Handler, error) {
	h := &Handler{cfg: cfg, broker: b, verifier: v, origins: newOrigins(cfg.AllowedOrigins), log: cfg.Logger}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if cfg.Engine != NetHTTP {
		engine, err := newEngine(b.Shards(), func(delta int64) { h.open.Add(delta) })
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

// Refused returns how many requests were refused for the moment since the
// start.
func (h *Handler) Refused() int64 { return h.refused.Load() }

// Drain makes the handler refuse new streams, in a way that lets browsers try
// again.
func (h *Handler) Drain() { h.draining.Store(true) }

// refusal is an error that ends a request with a status of its own.
type refusal struct {
	status int
	reason string
}

func (r *refusal) Error() string { return r.reason }

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// errStayAway refuses a user whom the control plane has told to stay away: the
// one status that says so to an EventSource and is no error.
var errStayAway = &refusal{status: http.StatusNoContent}

// errLater refuses a request for the moment.
var errLater = errors.New("no more streams can be opened at the moment")

// ServeHTTP serves the events path; anything else is 404.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != h.cfg.Path {
		writeRefusal(w, refuse(http.StatusNotFound, "there is nothing at %q; streams are at %q", r.URL.Path, h.cfg.Path))
		return
	}
	originOK := h.origins.admit(w, r)
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		preflight(w, r, originOK)
		return
	default:
		w.Header().Set("Allow", allowedMethods)
		writeRefusal(w, refuse(http.StatusMethodNotAllowed, "the method is %s; %s are accepted", r.Method, allowedMethods))
		return
	}
	sub, err := h.subscription(r, originOK)
	if err == nil && r.Method == http.MethodHead {
		streamHeaders(w.Header())
		w.WriteHeader(http.StatusOK)
		return
	}
	if err == nil {
		err = h.stream(w, r, sub)
	}
	if lasting, ok := errors.AsType[*refusal](err); ok {
		writeRefusal(w, lasting)
	} else if err != nil {
		h.refuseForNow(w, r, err)
	}
}

// maxParameters is the most parameters of a query that are looked at.
const maxParameters = 10 * broker.MaxTopics

// subscription reads from a request what its stream is to be.
func (h *Handler) subscription(r *http.Request, originOK bool) (sub broker.Subscription, err error) {
	if !acceptsStreams(r.Header) {
		return sub, refuse(http.StatusNotAcceptable, "the Accept header is %q; this resource is text/event-stream", r.Header.Get("Accept"))
	}
	if n := strings.Count(r.URL.RawQuery, "&") + 1; n > maxParameters {
		return sub, refuse(http.StatusBadRequest, "the query has %d parameters; topic is accepted 1 to %d times", n, broker.MaxTopics)
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return sub, refuse(http.StatusBadRequest, "the query can't be read: percent-encoded name=value pairs, joined by &, are accepted")
	}
	if sub.LastEventID, err = lastEventID(r.Header, query); err != nil {
		return sub, err
	}
	token, err := h.token(r, query)
	if err != nil {
		return sub, err
	}
	if !originOK && len(r.Header["Cookie"]) > 0 {
		return sub, refuse(http.StatusForbidden, "the origin %q may not open streams with cookies", r.Header.Get("Origin"))
	}
	who, err := h.identify(token)
	if err != nil {
		return sub, err
	}
	if who.User != "" && h.broker.Barred(who.User) {
		return sub, errStayAway
	}
	sub.User, sub.Expires = who.User, who.Expires
	sub.Topics, err = topics(query["topic"], who.Topics)
	return sub, err
}

// identify tells who the bearer of a token is, or what a stream without one is.
func (h *Handler) identify(token string) (who auth.Identity, _ error) {
	if token == "" {
		if !h.cfg.Anonymous {
			return who, refuse(http.StatusUnauthorized, "a token is needed: as Authorization: Bearer, as cookie %s or as access_token in the query", h.cfg.Cookie)
		}
		return auth.Identity{Topics: h.cfg.AnonymousTopics}, nil
	}
	if h.verifier == nil {
		return who, refuse(http.StatusUnauthorized, "this daemon has no key to check tokens with")
	}
	who, err := h.verifier.Verify(token)
	if err != nil {
		return who, refuse(http.StatusUnauthorized, "the token is refused: %v", err)
	}
	return who, nil
}

// topics validates the topics and patterns that a stream asks for, and returns
// them without doubles.
func topics(asked, allowed []string) ([]string, error) {
	if len(asked) == 0 {
		return nil, nil
	}
	slices.Sort(asked)
	asked = slices.Compact(asked)
	if len(asked) > broker.MaxTopics {
		return nil, refuse(http.StatusBadRequest, "topic is given %d times, 1 to %d are accepted", len(asked), broker.MaxTopics)
	}
	for _, topic := range asked {
		if err := broker.ValidPattern(topic); err != nil {
			return nil, refuse(http.StatusBadRequest, "%v", err)
		}
		if !slices.ContainsFunc(allowed, func(a string) bool { return broker.Covers(a, topic) }) {
			return nil, refuse(http.StatusForbidden, "topic %q is not allowed to this stream", topic)
		}
	}
	return asked, nil
}

// lastEventID finds what the client got last. The header wins: EventSource
// sends it when it reconnects, with the query of the first connection.
func lastEventID(header http.Header, query url.Values) (string, error) {
	if id := header.Get("Last-Event-ID"); id != "" {
		// Whatever it says, the client would say it again and again, so that
		// a refusal would be for good. The broker resets the stream instead.
		return strings.ToValidUTF8(id[:min(len(id), broker.MaxEventID)], "\uFFFD"), nil
	}
	id := query.Get("last_event_id")
	if id == "" {
		return "", nil
	}
	if err := broker.ValidEventID(id); err != nil {
		return "", refuse(http.StatusBadRequest, "%v", err)
	}
	return id, nil
}

// token finds the request's token: in the Authorization header, the cookie or
// the query. The same token may stand in several of them.
func (h *Handler) token(r *http.Request, query url.Values) (string, error) {
	var found string
	add := func(token string) error {
		if found != "" && token != found {
			return refuse(http.StatusBadRequest, "the request has two different tokens; one is accepted")
		}
		found = token
		return nil
	}
	for _, value := range r.Header.Values("Authorization") {
		scheme, token, _ := strings.Cut(value, " ")
		token = strings.TrimSpace(token)
		if !strings.EqualFold(scheme, "Bearer") || token == "" {
			return "", refuse(http.StatusUnauthorized, "the Authorization header is not of the form: Bearer TOKEN")
		}
		if err := add(token); err != nil {
			return "", err
		}
	}
	for _, cookie := range r.CookiesNamed(h.cfg.Cookie) {
		if cookie.Value == "" {
			continue // how applications log out
		}
		if err := add(cookie.Value); err != nil {
			return "", err
		}
	}
	for _, token := range query["access_token"] {
		if token == "" {
			return "", refuse(http.StatusUnauthorized, "access_token in the query is empty")
		}
		if err := add(token); err != nil {
			return "", err
		}
	}
	return found, nil
}

// stream opens a stream on the request's connection and returns when it has
// ended. An error means that nothing was written yet.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, sub broker.Subscription) error {
	if h.draining.Load() || h.broker.Closed() {
		return errLater
	}
	// The count is the stream's as long as this function runs, and the
	// engine's own from then on.
	defer h.open.Add(-1)
	if n := h.open.Add(1); h.cfg.MaxConnections > 0 && n > int64(h.cfg.MaxConnections) {
		return errLater
	}
	streamHeaders(w.Header())
	st := h.broker.NewStream(sub)
	if h.engine != nil {
		if taken, err := h.engine.serve(w, r, st, h.heads.of(w.Header(), time.Now())); taken {
			if err != nil {
				h.log.Warn("a stream could not be opened", "error", err)
			}
			return nil
		}
	}
	return serve(w, r, st, h.cfg.WriteTimeout)
}

const allowedMethods = "GET, HEAD, OPTIONS"

func streamHeaders(header http.Header) {
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store, no-transform")
	header.Set("X-Accel-Buffering", "no")
}

// writeRefusal writes a refusal that lasts: a status and one line.
func writeRefusal(w http.ResponseWriter, r *refusal) {
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if r.status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", "Bearer")
	}
	w.WriteHeader(r.status)
	if r.reason != "" {
		fmt.Fprintln(w, r.reason)
	}
}

// refuseForNow writes a refusal that passes. A client that asks for an event
// stream gets one that only says when to come back; any other gets 503.
func (h *Handler) refuseForNow(w http.ResponseWriter, r *http.Request, why error) {
	h.refused.Add(1)
	wait := h.cfg.Retry + rand.N(h.cfg.Retry+1)
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	if !acceptsStreamsByName(r.Header) {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		writeRefusal(w, refuse(http.StatusServiceUnavailable, "%v", why))
		return
	}
	streamHeaders(w.Header())
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(eventstream.AppendEnd(eventstream.AppendRetry(nil, wait)))
}

// acceptsStreams says whether the client takes text/event-stream (RFC 9110
// §12.5.1). No Accept header is as good as one that takes all.
func acceptsStreams(header http.Header) bool {
	return len(header["Accept"]) == 0 || accepts(header, "text/event-stream", "text/*", "*/*")
}

// acceptsStreamsByName says whether the client asks for streams outright.
func acceptsStreamsByName(header http.Header) bool { return accepts(header, "text/event-stream") }

func accepts(header http.Header, ranges ...string) bool {
	for _, line := range header["Accept"] {
		for part := range strings.SplitSeq(line, ",") {
			media, params, _ := strings.Cut(part, ";")
			media = strings.TrimSpace(media)
			for _, want := range ranges {
				if strings.EqualFold(media, want) && !refusesByWeight(params) {
					return true
				}
			}
		}
	}
	return false
}

// refusesByWeight says whether a media range's parameters have a weight of 0.
func refusesByWeight(params string) bool {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if q, err := strconv.ParseFloat(value, 64); strings.EqualFold(name, "q") && err == nil && q == 0 {
			return true
		}
	}
	return false
}
