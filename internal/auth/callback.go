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
	"sync"
	"time"
	"unicode/utf8"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/peald/peald/internal/strictjson"
)

// CallbackConfig says how the application is asked. Every field is required
// but Headers, CacheFor, Proxy and Logger.
type CallbackConfig struct {
	// URL is where the application answers.
	URL string

	// Headers are the names of the request's headers that it is shown, beside
	// the cookies.
	Headers []string

	// Timeout bounds the waiting for an answer, and for a turn to ask.
	Timeout time.Duration

	// CacheFor is how long an answer counts for requests that are the same to
	// the application; 0 asks for each.
	CacheFor time.Duration

	// Concurrency is how many questions may be open at once.
	Concurrency int

	// Proxy is for requests to URL.
	Proxy Proxy

	// Logger gets what an operator should know; nothing where nil.
	Logger *slog.Logger
}

// Callback asks an application who wants to connect. Its methods may run at the
// same time.
type Callback struct {
	cfg    CallbackConfig
	log    *slog.Logger
	client *http.Client
	turns  *semaphore.Weighted
	flight singleflight.Group
	cache  *lru.Cache[question, answer]
	news   rate.Sometimes // failures, which come in crowds
	broken *rejectionLog  // answers that are rejected

	running context.Context //nolint:containedctx // ends with Close
	end     context.CancelFunc

	mu     sync.Mutex // held to begin a question, so that none begins once closed
	closed bool
	asking sync.WaitGroup
}

// question is a hash of what the application was asked.
type question [sha256.Size]byte

// answer is what it said, and until when that counts.
type answer struct {
	id    Identity
	err   error
	until time.Time
}

// DeniedError says that the application refuses a connection.
type DeniedError struct {
	// Status is 401 or 403, as it said.
	Status int
}

// Error is a sentence for the client.
func (e *DeniedError) Error() string { return "the application refuses this connection" }

// QuestionError is a request that the application can't be asked about, because
// a part of it is not UTF-8. In JSON such parts of different requests would look
// the same, and one user would get the answer about another.
type QuestionError struct {
	// Part names what is not UTF-8, such as "the header X-Session".
	Part string
}

// Error is a sentence for the client.
func (e *QuestionError) Error() string { return e.Part + " is not valid UTF-8" }

const (
	maxAnswers    = 10_000
	maxAnswerSize = 64 << 10
	newsEvery     = 10 * time.Second
)

// NewCallback returns a Callback, whose Close must be called.
func NewCallback(cfg CallbackConfig) (*Callback, error) {
	cache, err := lru.New[question, answer](maxAnswers)
	if err != nil {
		return nil, fmt.Errorf("auth.callback_cache: %w", err)
	}

	c := &Callback{
		cfg:   cfg,
		log:   cfg.Logger,
		turns: semaphore.NewWeighted(int64(cfg.Concurrency)),
		cache: cache,
		news:  rate.Sometimes{Interval: newsEvery},
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:               cfg.Proxy,
				MaxConnsPerHost:     cfg.Concurrency,
				MaxIdleConnsPerHost: cfg.Concurrency,
				IdleConnTimeout:     30 * time.Second,
				ForceAttemptHTTP2:   true,
			},
			// A redirect is no answer, and would carry cookies elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}

	c.broken = newRejectionLog(c.log)
	c.running, c.end = context.WithCancel(context.Background())
	return c, nil
}

// Close ends what is being asked.
func (c *Callback) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end()
	c.asking.Wait()
	c.client.CloseIdleConnections()
}

// asked is what the application is posted.
type asked struct {
	Cookies map[string]string `json:"cookies"`
	Headers map[string]string `json:"headers"`
	Query   neturl.Values     `json:"query"`
	Address string            `json:"address"`
	Origin  string            `json:"origin"`
}

// Authorize asks the application who r comes from. The error is a
// *DeniedError, a *QuestionError, ErrUnavailable, or that of r's context.
func (c *Callback) Authorize(r *http.Request, query neturl.Values, client netip.Addr) (Identity, error) {
	q := c.ask(r, query, client)
	if err := q.check(); err != nil {
		return Identity{}, err
	}

	body, err := json.Marshal(q)
	if err != nil {
		return Identity{}, ErrUnavailable
	}

	key := question(sha256.Sum256(body))
	if a, ok := c.cached(key); ok {
		return a.id, a.err
	}

	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return Identity{}, ErrUnavailable
	}

	c.asking.Add(1)
	c.mu.Unlock()

	// Whoever asks the same gets the same answer, so it is not the first one's
	// to give up.
	result := c.flight.DoChan(string(key[:]), func() (any, error) {
		// Another flight may have landed since the cache was read.
		if a, ok := c.cached(key); ok {
			return a.id, a.err
		}

		return c.answer(key, body)
	})
	defer c.asking.Done()

	select {
	case got := <-result:
		id, _ := got.Val.(Identity)
		return id, got.Err
	case <-r.Context().Done():
		c.asking.Go(func() { <-result })
		return Identity{}, r.Context().Err()
	}
}

// cached returns the answer to a question while it may be used.
func (c *Callback) cached(key question) (answer, bool) {
	a, ok := c.cache.Get(key)

	return a, ok && time.Now().Before(a.until)
}

// ask leaves out of the query what tells one connection of a page from its
// next, so that these are one question.
func (c *Callback) ask(r *http.Request, query neturl.Values, client netip.Addr) asked {
	q := asked{
		Cookies: map[string]string{},
		Headers: map[string]string{},
		Query:   neturl.Values{},
		Origin:  r.Header.Get("Origin"),
	}
	if client.IsValid() {
		q.Address = client.String()
	}

	for _, cookie := range r.Cookies() {
		// Browsers send the one of the longest path first.
		if _, ok := q.Cookies[cookie.Name]; !ok {
			q.Cookies[cookie.Name] = cookie.Value
		}
	}

	for _, name := range c.cfg.Headers {
		if value := r.Header.Get(name); value != "" {
			q.Headers[name] = value
		}
	}

	for name, values := range query {
		if name != "last_event_id" {
			q.Query[name] = values
		}
	}

	return q
}

// check returns a *QuestionError if a part of q is not UTF-8.
func (q asked) check() error {
	if !utf8.ValidString(q.Origin) {
		return &QuestionError{"the header Origin"}
	}

	for name, value := range q.Cookies {
		if !utf8.ValidString(name + value) {
			return &QuestionError{fmt.Sprintf("the cookie %q", name)}
		}
	}

	for name, value := range q.Headers {
		if !utf8.ValidString(value) {
			return &QuestionError{"the header " + name}
		}
	}

	for name, values := range q.Query {
		if !utf8.ValidString(name) || slices.ContainsFunc(values, func(v string) bool { return !utf8.ValidString(v) }) {
			return &QuestionError{fmt.Sprintf("the query parameter %q", name)}
		}
	}

	return nil
}

// answer asks, and keeps what was said. No failure is kept.
func (c *Callback) answer(key question, body []byte) (Identity, error) {
	ctx, cancel := context.WithTimeout(c.running, c.cfg.Timeout)
	defer cancel()

	id, err := c.post(ctx, body)
	_, denied := errors.AsType[*DeniedError](err)
	broken, isBroken := errors.AsType[*answerError](err)

	switch {
	case isBroken:
		c.broken.warn("answer of auth.callback_url rejected", broken)
		return Identity{}, ErrUnavailable
	case err != nil && !denied:
		if c.running.Err() == nil {
			c.news.Do(func() { c.log.Warn("auth.callback_url gives no answer; browsers are told to come back", "error", err) })
		}
		return Identity{}, ErrUnavailable
	case c.cfg.CacheFor > 0:
		until := time.Now().Add(c.cfg.CacheFor)
		if !id.Expires.IsZero() && id.Expires.Before(until) {
			until = id.Expires
		}
		c.cache.Add(key, answer{id, err, until})
	}

	return id, err
}

func (c *Callback) post(ctx context.Context, body []byte) (id Identity, _ error) {
	if err := c.turns.Acquire(ctx, 1); err != nil {
		return id, fmt.Errorf("%d questions are open: %w", c.cfg.Concurrency, err)
	}
	defer c.turns.Release(1)

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return id, err
	}

	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")

	resp, err := c.client.Do(req) //nolint:gosec // the URL is the operator's
	if err != nil {
		// The URL may hold a secret.
		if outer, ok := errors.AsType[*neturl.Error](err); ok {
			err = outer.Err
		}
		return id, err
	}
	defer resp.Body.Close()

	said, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerSize+1))
	switch {
	case err != nil:
		return id, err
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return id, &DeniedError{resp.StatusCode}
	case resp.StatusCode != http.StatusOK:
		return id, fmt.Errorf("the answer is %s", resp.Status)
	case len(said) > maxAnswerSize:
		return id, fmt.Errorf("the answer is longer than %d bytes", maxAnswerSize)
	}

	return parseAnswer(said)
}

// answerError reports an answer that can't be used. It has no values from the
// answer.
type answerError struct{ problem string }

func (e *answerError) Error() string { return e.problem }

// parseAnswer reads an answer. One that it rejects is a mistake of the
// application, which somebody may correct, so it isn't a permanent rejection of
// the client.
func parseAnswer(said []byte) (Identity, error) {
	known := strictjson.Schema{Members: []string{"user_id", "topics", "expires_at"}, Closed: true}
	// RFC 8259 §8.1 lets readers ignore a byte order mark, which some editors
	// put in front of what a script prints.
	answer, err := known.Read(bytes.TrimPrefix(said, []byte("\ufeff")))
	if err != nil {
		return Identity{}, &answerError{fmt.Sprintf("%v; want JSON of the form {user_id, topics, expires_at}", err)}
	}

	var id Identity
	switch {
	case answer.Decode("user_id", &id.User) != nil, id.User != "" && !validSubject(id.User):
		return Identity{}, &answerError{"user_id: want 1 to 255 bytes of UTF-8 without control characters"}
	case answer.Decode("topics", &id.Topics) != nil:
		return Identity{}, &answerError{"topics: want a list of strings"}
	case answer.Decode("expires_at", &id.Expires) != nil:
		return Identity{}, &answerError{"expires_at: want a time such as 2026-11-24T09:00:00Z"}
	case !id.Expires.IsZero() && !id.Expires.After(time.Now()):
		return Identity{}, &DeniedError{http.StatusUnauthorized}
	}

	return id, nil
}
