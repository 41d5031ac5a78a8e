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

	"golang.org/x/time/rate"
)

const (
	// fetchTimeout bounds the reading of keys.
	fetchTimeout = 5 * time.Second

	// retryEvery is when keys that could not be read are tried again, and when
	// files are read again.
	retryEvery = 5 * time.Second

	// refreshEvery is when keys are fetched again from a URL.
	refreshEvery = 5 * time.Minute

	// Fetches that tokens of unknown keys may cause: a few at once, since keys
	// rotate for several tokens at a time, and then one every so long.
	unknownBurst = 5
	unknownEvery = 10 * time.Second

	maxKeySet = 1 << 20
)

// source is where keys are read from, again and again. When that fails, those
// that were read last stay good.
type source struct {
	name    string
	url     string // empty for a file
	every   time.Duration
	read    func(context.Context) ([]byte, error)
	parse   func([]byte) ([]key, []skippedKey, error)
	log     *slog.Logger
	unknown *rate.Limiter // fetches for keys that are not there; nil where those are of no use

	keys   atomic.Pointer[[]key] // nil until they were read once
	asks   chan chan bool        // answered with whether the keys are those of now
	wishes chan chan struct{}    // to read them now; closed when that is done
	failed bool                  // the last try; the goroutine's alone

	skipped []skippedKey // keys of the last set that aren't used; the goroutine's alone

	reads reads
}

// reads counts how often keys were read.
type reads struct{ good, failed atomic.Int64 }

// fileSource reads keys from a file, which has to be there.
func fileSource(setting, name string, parse func([]byte) ([]key, []skippedKey, error), log *slog.Logger) (*source, error) {
	s := &source{
		name: name, every: retryEvery, parse: parse, log: log,
		read: func(context.Context) ([]byte, error) { return os.ReadFile(name) }, //nolint:gosec // the operator names it
		asks: make(chan chan bool), wishes: make(chan chan struct{}),
	}
	if err := s.load(context.Background()); err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return s, nil
}

// jwksSource reads a JSON Web Key Set from a URL, which may be out of reach for
// a while, or from a file, which has to be there.
func jwksSource(ctx context.Context, cfg Config, log *slog.Logger) (*source, error) {
	const setting = "auth.jwt.jwks_url"
	location := cfg.JWKSURL
	if !strings.HasPrefix(location, "https://") && !strings.HasPrefix(location, "http://") {
		return fileSource(setting, strings.TrimPrefix(strings.TrimPrefix(location, "file://"), "file:"), parseJWKS, log)
	}

	client := &http.Client{
		CheckRedirect: neverToPlainText,
		Transport:     &http.Transport{Proxy: cfg.Proxy, ForceAttemptHTTP2: true},
	}

	s := &source{
		name: "the JSON Web Key Set", url: location, every: refreshEvery, parse: parseJWKS, log: log,
		read:    func(ctx context.Context) ([]byte, error) { return fetch(ctx, client, location) },
		unknown: rate.NewLimiter(rate.Every(unknownEvery), unknownBurst),
		asks:    make(chan chan bool),
		wishes:  make(chan chan struct{}),
	}

	known, same := cfg.Before.keysOf(location)
	if err := s.load(ctx); err != nil {
		if cfg.Replacing && !same {
			return nil, fmt.Errorf("%s: %w", setting, err)
		}
		s.keys.Store(known)
		s.tell(err)
	}

	return s, nil
}

// keysOf are the keys that were read from url last, if t has that source.
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

// neverToPlainText follows redirects, but none that would let anybody on the
// way choose the keys.
func neverToPlainText(req *http.Request, via []*http.Request) error {
	if req.URL.Scheme != "https" && via[0].URL.Scheme == "https" {
		return errors.New("a redirect from https to " + req.URL.Scheme)
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
	// Fetches are minutes apart: a connection kept for the next is of no use.
	req.Close = true
	resp, err := client.Do(req)
	if err != nil {
		// The URL may hold a secret of its own.
		if outer, ok := errors.AsType[*neturl.Error](err); ok {
			err = outer.Err
		}
		return nil, err
	}
	defer resp.Body.Close()

	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", resp.Status)
	}

	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	if err == nil && len(body) > maxKeySet {
		err = fmt.Errorf("the answer is longer than %d bytes", maxKeySet)
	}

	return body, err
}

// load reads the keys once.
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
	s.warnOfSkipped(skipped)
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

// maxSkipped bounds how many skipped keys are logged one by one.
const maxSkipped = 10

// warnOfSkipped logs the keys that are skipped, if they are not those of the
// last set.
func (s *source) warnOfSkipped(skipped []skippedKey) {
	if slices.Equal(s.skipped, skipped) {
		return
	}
	s.skipped = skipped
	for _, k := range skipped[:min(len(skipped), maxSkipped)] {
		s.log.Warn("key of a key set skipped", "kid", k.id, "reason", k.reason)
	}
	if more := len(skipped) - maxSkipped; more > 0 {
		s.log.Warn("more keys of a key set skipped", "keys", more)
	}
}

// try is load that tells of failures.
func (s *source) try(ctx context.Context) bool {
	err := s.load(ctx)
	if ctx.Err() != nil {
		return false
	}
	s.tell(err)
	return err == nil
}

// tell tells the log how a try went, where that is news.
func (s *source) tell(err error) {
	switch {
	case err != nil && !s.failed:
		s.log.Warn("keys for tokens can't be read; the last ones stay good", "error", err)
	case err == nil && s.failed:
		s.log.Info("keys for tokens can be read again")
	}
	s.failed = err != nil
}

// run reads the keys again until ctx ends.
func (s *source) run(ctx context.Context) {
	timer := time.NewTimer(s.every)
	defer timer.Stop()

	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			s.try(ctx)
		case done := <-s.wishes:
			s.try(ctx)
			close(done)
		case answer := <-s.asks:
			current := s.unknown != nil && s.unknown.Allow() && s.try(ctx)
			answer <- current
			if !current {
				continue
			}
		}
		if s.failed {
			timer.Reset(retryEvery)
		} else {
			timer.Reset(s.every)
		}
	}
}

// reread has the keys read now, whether that is due or not.
func (s *source) reread(ctx context.Context) {
	done := make(chan struct{})
	select {
	case s.wishes <- done:
		<-done
	case <-ctx.Done():
	}
}

// renew has the keys read now, if they may be, and says whether they were.
func (s *source) renew(ctx context.Context) bool {
	answer := make(chan bool, 1)
	select {
	case s.asks <- answer:
		return <-answer
	case <-ctx.Done():
		return false
	}
}
