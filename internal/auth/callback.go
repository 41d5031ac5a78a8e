package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	neturl "net/url"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/peald/peald/internal/strictjson"
)

// CallbackConfig configures a Callback. All fields except Headers, CacheFor, Proxy and
// Logger are required.
type CallbackConfig struct {
	// URL is the application's callback URL.
	URL string

	// Headers holds the names of the request headers that are sent to the application,
	// in addition to cookies.
	Headers []string

	// Timeout limits how long a callback may take, including the wait for a free slot.
	Timeout time.Duration

	// CacheFor is how long a response is reused for requests that look the same to the
	// application. If 0, responses aren't reused.
	CacheFor time.Duration

	// Concurrency is the maximum number of concurrent callbacks.
	Concurrency int

	// Proxy selects the proxy for requests to URL.
	Proxy Proxy

	// Logger receives log messages for the operator. If nil, nothing is logged.
	Logger *slog.Logger
}

// Callback authenticates requests by asking the application. Its methods are safe for
// concurrent use.
type Callback struct {
	cfg    CallbackConfig
	log    *slog.Logger
	client *http.Client
	slots  *semaphore.Weighted
	flight singleflight.Group
	cache  *lru.Cache[requestHash, result]

	failures rate.Sometimes // limits how often failures are logged
	invalid  *rejectionLog  // logs invalid responses

	running context.Context //nolint:containedctx // canceled by Close
	end     context.CancelFunc

	mu      sync.Mutex // guards closed, so that no callback starts after Close
	closed  bool
	pending sync.WaitGroup
}

// requestHash is the hash of a callback request.
type requestHash [sha256.Size]byte

// result is the result of a callback and the time until which it may be reused.
type result struct {
	id    Identity
	err   error
	until time.Time
}

// DeniedError reports that the application rejected a connection.
type DeniedError struct {
	// Status is the status code of the response: 401 or 403.
	Status int
}

// Error returns a message for the client.
func (e *DeniedError) Error() string { return "the application rejected this connection" }

// RequestError reports a request that can't be sent to the application because a part
// of it isn't valid UTF-8. Different invalid parts could look the same in JSON, so that
// one user could be mistaken for another.
type RequestError struct {
	// Part describes the part that isn't valid UTF-8, such as "the header X-Session".
	Part string
}

// Error returns a message for the client.
func (e *RequestError) Error() string { return e.Part + " is not valid UTF-8" }

const (
	maxCached       = 10_000
	maxResponseSize = 64 << 10 // bytes
	logFailureEvery = 10 * time.Second
)

// NewCallback returns a Callback. The caller must call Close.
func NewCallback(cfg CallbackConfig) (*Callback, error) {
	cache, err := lru.New[requestHash, result](maxCached)
	if err != nil {
		return nil, fmt.Errorf("auth.callback_cache: %w", err)
	}

	c := &Callback{
		cfg:      cfg,
		log:      cfg.Logger,
		slots:    semaphore.NewWeighted(int64(cfg.Concurrency)),
		cache:    cache,
		failures: rate.Sometimes{Interval: logFailureEvery},
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:               cfg.Proxy,
				MaxConnsPerHost:     cfg.Concurrency,
				MaxIdleConnsPerHost: cfg.Concurrency,
				IdleConnTimeout:     30 * time.Second,
				ForceAttemptHTTP2:   true,
			},
			// Don't follow redirects: that could send cookies to another server.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}

	c.invalid = newRejectionLog(c.log)
	c.running, c.end = context.WithCancel(context.Background())
	return c, nil
}

// Close cancels pending callbacks and waits for them to end.
func (c *Callback) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end()
	c.pending.Wait()
	c.client.CloseIdleConnections()
}

// callbackRequest is the body of a request to the application.
type callbackRequest struct {
	Cookies map[string]string `json:"cookies"`
	Headers map[string]string `json:"headers"`
	Query   neturl.Values     `json:"query"`
	Address string            `json:"address"`
	Origin  string            `json:"origin"`
}

// Authorize asks the application for the identity of r's sender. The error is a
// *DeniedError, a *RequestError, ErrUnavailable, or the error from r's context.
func (c *Callback) Authorize(r *http.Request, query neturl.Values, client netip.Addr) (Identity, error) {
	q := c.newRequest(r, query, client)
	if err := q.check(); err != nil {
		return Identity{}, err
	}

	body, err := json.Marshal(q)
	if err != nil {
		return Identity{}, ErrUnavailable
	}

	key := requestHash(sha256.Sum256(body))
	if a, ok := c.cached(key); ok {
		return a.id, a.err
	}

	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return Identity{}, ErrUnavailable
	}

	c.pending.Add(1)
	c.mu.Unlock()

	// Concurrent requests with the same hash share one callback, so the callback must
	// not depend on the context of the first request.
	done := c.flight.DoChan(string(key[:]), func() (any, error) {
		// Another callback may have finished since the cache was checked.
		if a, ok := c.cached(key); ok {
			return a.id, a.err
		}

		return c.call(key, body)
	})
	defer c.pending.Done()

	select {
	case got := <-done:
		id, _ := got.Val.(Identity)
		return id, got.Err
	case <-r.Context().Done():
		c.pending.Go(func() { <-done })
		return Identity{}, r.Context().Err()
	}
}

// cached returns the cached result for a request, and reports whether it is still
// valid.
func (c *Callback) cached(key requestHash) (result, bool) {
	a, ok := c.cache.Get(key)

	return a, ok && time.Now().Before(a.until)
}

// newRequest returns the callback request for r. It omits the query parameters that
// determine where the stream starts, so that the hash is the same when a page
// reconnects.
func (c *Callback) newRequest(r *http.Request, query neturl.Values, client netip.Addr) callbackRequest {
	q := callbackRequest{
		Cookies: map[string]string{},
		Headers: map[string]string{},
		Query:   neturl.Values{},
		Origin:  r.Header.Get("Origin"),
	}
	if client.IsValid() {
		q.Address = client.String()
	}

	for name, value := range Cookies(r.Header) {
		// Browsers send the cookie with the longest path first.
		if _, ok := q.Cookies[name]; !ok {
			q.Cookies[name] = value
		}
	}

	for _, name := range c.cfg.Headers {
		// RFC 9110 §5.3 defines how repeated headers are combined. The first one alone
		// could come from the client, and the second one from a proxy.
		if value := strings.Join(r.Header.Values(name), ", "); value != "" {
			q.Headers[name] = value
		}
	}

	for name, values := range query {
		switch name {
		case "last_event_id", "since", "rewind", "wait", "envelope":
		default:
			q.Query[name] = values
		}
	}

	return q
}

// check returns a *RequestError if a part of q isn't valid UTF-8.
func (q callbackRequest) check() error {
	if !utf8.ValidString(q.Origin) {
		return &RequestError{"the header Origin"}
	}

	for name, value := range q.Cookies {
		if !utf8.ValidString(name + value) {
			return &RequestError{fmt.Sprintf("the cookie %q", name)}
		}
	}

	for name, value := range q.Headers {
		if !utf8.ValidString(value) {
			return &RequestError{"the header " + name}
		}
	}

	for name, values := range q.Query {
		if !utf8.ValidString(name) || slices.ContainsFunc(values, func(v string) bool { return !utf8.ValidString(v) }) {
			return &RequestError{fmt.Sprintf("the query parameter %q", name)}
		}
	}

	return nil
}

// call sends a request to the application. It caches the result, unless the request
// failed.
func (c *Callback) call(key requestHash, body []byte) (Identity, error) {
	ctx, cancel := context.WithTimeout(c.running, c.cfg.Timeout)
	defer cancel()

	id, err := c.post(ctx, body)
	_, denied := errors.AsType[*DeniedError](err)
	invalid, isInvalid := errors.AsType[*responseError](err)

	switch {
	case isInvalid:
		c.invalid.warn("invalid response from auth.callback_url", invalid)
		return Identity{}, ErrUnavailable
	case err != nil && !denied:
		if c.running.Err() == nil {
			c.failures.Do(func() { c.log.Warn("request to auth.callback_url failed", "error", err) })
		}
		return Identity{}, ErrUnavailable
	case c.cfg.CacheFor > 0:
		until := time.Now().Add(c.cfg.CacheFor)
		if !id.Expires.IsZero() && id.Expires.Before(until) {
			until = id.Expires
		}
		c.cache.Add(key, result{id, err, until})
	}

	return id, err
}

func (c *Callback) post(ctx context.Context, body []byte) (id Identity, _ error) {
	if err := c.slots.Acquire(ctx, 1); err != nil {
		return id, fmt.Errorf("waiting for one of %d concurrent requests: %w", c.cfg.Concurrency, err)
	}
	defer c.slots.Release(1)

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return id, err
	}

	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")

	resp, err := c.client.Do(req) //nolint:gosec // the operator chooses the URL
	if err != nil {
		// The URL in the error may contain a secret.
		if outer, ok := errors.AsType[*neturl.Error](err); ok {
			err = outer.Err
		}
		return id, err
	}
	defer resp.Body.Close()

	content, err := io.ReadAll(io.LimitReader(resp.Body, maxResponseSize+1))
	switch {
	case err != nil:
		return id, err
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return id, &DeniedError{resp.StatusCode}
	case resp.StatusCode != http.StatusOK:
		return id, fmt.Errorf("status %s; want 200, 401 or 403", resp.Status)
	case len(content) > maxResponseSize:
		return id, fmt.Errorf("response longer than %d bytes", maxResponseSize)
	}

	return parseResponse(content)
}

// responseError reports an invalid response from the application. It doesn't contain
// any values from the response.
type responseError struct{ problem string }

func (e *responseError) Error() string { return e.problem }

// parseResponse parses a response from the application. An invalid response is due to a
// mistake in the application, which can be fixed, so the client isn't rejected
// permanently.
func parseResponse(content []byte) (Identity, error) {
	known := strictjson.Schema{Members: []string{"user_id", "topics", "expires_at"}, Closed: true}
	// RFC 8259 §8.1 allows parsers to ignore a byte order mark. Some editors put one at
	// the start of a script, and the script then outputs it.
	object, err := known.Read(bytes.TrimPrefix(content, []byte("\ufeff")))
	if err != nil {
		return Identity{}, &responseError{fmt.Sprintf("%v; want JSON of the form {user_id, topics, expires_at}", err)}
	}

	var id Identity
	switch {
	case object.Decode("user_id", &id.User) != nil, id.User != "" && !validSubject(id.User):
		return Identity{}, &responseError{"user_id: want 1 to 255 bytes of UTF-8 without control characters"}
	case object.Decode("topics", &id.Topics) != nil:
		return Identity{}, &responseError{"topics: want a list of strings"}
	case object.Decode("expires_at", &id.Expires) != nil:
		return Identity{}, &responseError{"expires_at: want a time such as 2026-11-24T09:00:00Z"}
	case !id.Expires.IsZero() && !id.Expires.After(time.Now()):
		return Identity{}, &DeniedError{http.StatusUnauthorized}
	}

	return id, nil
}
