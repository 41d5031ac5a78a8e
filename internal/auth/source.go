package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	neturl "net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"
)

const (
	// fetchTimeout limits how long reading keys may take.
	fetchTimeout = 5 * time.Second

	// rereadEvery is the interval at which key files are read again.
	rereadEvery = 5 * time.Second

	// refreshEvery is the interval at which keys are fetched again from a URL.
	refreshEvery = 5 * time.Minute

	// Bounds for the delay between attempts while keys can't be fetched.
	firstRetry = 5 * time.Second
	maxRetry   = 30 * time.Second

	// Limits for fetches triggered by unknown key IDs. The burst allows for several new
	// key IDs that arrive after a key rotation.
	unknownBurst = 5
	unknownEvery = 10 * time.Second

	maxKeySet = 1 << 20 // bytes
)

// source periodically reads keys from a file or a URL. If it can't read them, it keeps
// the keys that it read last.
type source struct {
	name    string
	url     string // empty for a file
	every   time.Duration
	read    func(context.Context) ([]byte, error)
	parse   func([]byte) ([]key, []skippedKey, error)
	log     *slog.Logger
	unknown *rate.Limiter // limits fetches triggered by unknown key IDs; nil for files

	keys      atomic.Pointer[[]key] // nil until keys have been read once
	refreshes chan chan bool        // requests to read the keys; the reply reports whether that succeeded
	rereads   chan chan struct{}    // requests to read the keys; closed when done

	// Owned by run's goroutine once it has started.
	failed  bool         // the last attempt failed
	skipped []skippedKey // keys in the last set that aren't used
	retry   backoff.ExponentialBackOff

	reads reads
}

// reads counts attempts to read keys.
type reads struct{ good, failed atomic.Int64 }

// fileSource returns a source for a file, which must exist.
func fileSource(setting, name string, parse func([]byte) ([]key, []skippedKey, error), log *slog.Logger) (*source, error) {
	s := &source{
		name: name, every: rereadEvery, parse: parse, log: log,
		read:      func(context.Context) ([]byte, error) { return os.ReadFile(name) }, //nolint:gosec // the operator chooses the file
		refreshes: make(chan chan bool), rereads: make(chan chan struct{}),
	}
	if err := s.load(context.Background()); err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return s, nil
}

// jwksSource returns a source for a JSON Web Key Set at a URL or in a file. A file must
// exist, but a URL may be unreachable for a while.
func jwksSource(ctx context.Context, cfg Config, log *slog.Logger) (*source, error) {
	const setting = "auth.jwt.jwks_url"
	location := cfg.JWKSURL
	if !strings.HasPrefix(location, "https://") && !strings.HasPrefix(location, "http://") {
		return fileSource(setting, strings.TrimPrefix(strings.TrimPrefix(location, "file://"), "file:"), parseJWKS, log)
	}

	client := &http.Client{
		CheckRedirect: checkRedirect,
		Transport:     &http.Transport{Proxy: cfg.Proxy, ForceAttemptHTTP2: true},
	}

	s := &source{
		name: "the JSON Web Key Set", url: location, every: refreshEvery, parse: parseJWKS, log: log,
		read:      func(ctx context.Context) ([]byte, error) { return fetch(ctx, client, location) },
		unknown:   rate.NewLimiter(rate.Every(unknownEvery), unknownBurst),
		refreshes: make(chan chan bool),
		rereads:   make(chan chan struct{}),
		retry: backoff.ExponentialBackOff{
			InitialInterval: firstRetry, MaxInterval: maxRetry,
			Multiplier: backoff.DefaultMultiplier, RandomizationFactor: backoff.DefaultRandomizationFactor,
		},
	}

	known, same := cfg.Before.keysOf(location)
	if err := s.load(ctx); err != nil {
		if cfg.Replacing && !same {
			return nil, fmt.Errorf("%s: %w", setting, err)
		}
		s.keys.Store(known)
		s.logResult(err)
	}

	return s, nil
}

// keysOf returns the keys that t last read from url, and reports whether url is one of
// t's sources.
func (t *Tokens) keysOf(url string) (keys *[]key, ok bool) {
	if t == nil {
		return nil, false
	}
	for _, s := range t.sources {
		if s.url == url {
			return s.keys.Load(), true
		}
	}
	return nil, false
}

// checkRedirect allows a few redirects, but none from https to http, because that would
// let an attacker on the network path choose the keys.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if req.URL.Scheme != "https" && via[0].URL.Scheme == "https" {
		return errors.New("redirect from https to " + req.URL.Scheme)
	}
	if len(via) >= 5 {
		return errors.New("too many redirects")
	}
	return nil
}

func fetch(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}

	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	// Fetches are minutes apart, so there is no point in keeping the connection open.
	req.Close = true
	resp, err := client.Do(req)
	if err != nil {
		// The URL in the error may contain a secret.
		if outer, ok := errors.AsType[*neturl.Error](err); ok {
			err = outer.Err
		}
		return nil, err
	}
	defer resp.Body.Close()

	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s; want 200 OK", resp.Status)
	}

	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	if err == nil && len(body) > maxKeySet {
		err = fmt.Errorf("response longer than %d bytes", maxKeySet)
	}

	return body, err
}

// load reads the keys.
func (s *source) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	keys, skipped, err := s.readKeys(ctx)
	if err != nil {
		s.reads.failed.Add(1)
		return err
	}
	s.reads.good.Add(1)
	s.keys.Store(&keys)
	s.warnSkipped(skipped)
	return nil
}

func (s *source) readKeys(ctx context.Context) ([]key, []skippedKey, error) {
	data, err := s.read(ctx)
	if err != nil {
		return nil, nil, err
	}
	keys, skipped, err := s.parse(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return keys, skipped, nil
}

// maxSkipped is the number of skipped keys that are logged individually.
const maxSkipped = 10

// warnSkipped logs skipped keys, unless they are the same as in the last set.
func (s *source) warnSkipped(skipped []skippedKey) {
	if slices.Equal(s.skipped, skipped) {
		return
	}
	s.skipped = skipped
	for _, k := range skipped[:min(len(skipped), maxSkipped)] {
		s.log.Warn("JWKS key skipped", "kid", k.id, "reason", k.reason)
	}
	if more := len(skipped) - maxSkipped; more > 0 {
		s.log.Warn("more JWKS keys skipped", "keys", more)
	}
}

// try reads the keys, logs the result, and reports whether it succeeded.
func (s *source) try(ctx context.Context) bool {
	err := s.load(ctx)
	if ctx.Err() != nil {
		return false
	}
	s.logResult(err)
	return err == nil
}

// logResult logs the result of an attempt if it differs from that of the previous
// attempt.
func (s *source) logResult(err error) {
	switch {
	case err != nil && !s.failed:
		s.log.Warn("reading token keys failed, keeping the previous keys", "error", err)
	case err == nil && s.failed:
		s.log.Info("token keys can be read again")
	}
	s.failed = err != nil
}

// run reads the keys, periodically and on request, until ctx is done.
func (s *source) run(ctx context.Context) {
	timer := time.NewTimer(s.nextDelay())
	defer timer.Stop()

	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			s.try(ctx)
		case done := <-s.rereads:
			s.try(ctx)
			close(done)
		case reply := <-s.refreshes:
			current := s.unknown != nil && s.unknown.Allow() && s.try(ctx)
			reply <- current
			if !current {
				continue
			}
		}

		timer.Reset(s.nextDelay())
	}
}

// nextDelay returns the time until the next attempt to read the keys. While a URL can't
// be fetched, the delay grows with each attempt, and has jitter.
func (s *source) nextDelay() time.Duration {
	if !s.failed || s.url == "" {
		s.retry.Reset()
		return s.every
	}
	return s.retry.NextBackOff()
}

// reread immediately reads the keys and waits for the result.
func (s *source) reread(ctx context.Context) {
	done := make(chan struct{})
	select {
	case s.rereads <- done:
		<-done
	case <-ctx.Done():
	}
}

// refresh immediately reads the keys, unless the rate limit forbids that, and reports
// whether they have been read.
func (s *source) refresh(ctx context.Context) bool {
	reply := make(chan bool, 1)
	select {
	case s.refreshes <- reply:
		return <-reply
	case <-ctx.Done():
		return false
	}
}
