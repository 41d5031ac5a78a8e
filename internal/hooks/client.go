package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// attemptTimeout limits how long a receiver may take to answer.
	attemptTimeout = 10 * time.Second
	connectTimeout = 5 * time.Second
	idleTimeout    = 90 * time.Second
	// maxExcerpt is the maximum size of the part of a response's body that is read.
	maxExcerpt = 1 << 10
	// maxRetryAfter limits the effect of a Retry-After header.
	maxRetryAfter = time.Minute
)

// client sends signed requests. It connects directly, verifies certificates and doesn't
// follow redirects.
type client struct {
	http      *http.Client
	userAgent string
}

// response is a receiver's answer to a request.
type response struct {
	status     int
	body       string        // at most maxExcerpt bytes, valid UTF-8
	retryAfter time.Duration // 0 if there is none
}

// ok reports whether the receiver has accepted the request.
func (r response) ok() bool { return r.status >= 200 && r.status <= 299 }

// err returns an error for a response that isn't ok.
func (r response) err() error {
	text := strings.TrimSpace(strconv.Itoa(r.status) + " " + http.StatusText(r.status))
	if r.status >= 300 && r.status <= 399 {
		return fmt.Errorf("status %s; redirects are not followed", text)
	}
	return fmt.Errorf("status %s; want 2xx", text)
}

func newClient(version string) *client {
	return &client{
		userAgent: "peald/" + version,
		http: &http.Client{
			Transport: &http.Transport{
				DialContext:            (&net.Dialer{Timeout: connectTimeout}).DialContext,
				TLSHandshakeTimeout:    connectTimeout,
				ForceAttemptHTTP2:      true,
				MaxIdleConnsPerHost:    1,
				IdleConnTimeout:        idleTimeout,
				MaxResponseHeaderBytes: 64 << 10,
				DisableCompression:     true,
			},
			// A signed request must not reach a server that the operator didn't name.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// post sends one request. If ctx has a deadline, it leaves a quarter of the time to the
// caller. Its error doesn't contain the URL.
func (c *client) post(ctx context.Context, to string, s signer, id string, body []byte) (response, error) {
	timeout := attemptTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)*3/4).Round(time.Millisecond)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no response within %s", timeout))
	defer cancel()

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return response{}, errors.New("cannot create the request")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", c.userAgent)
	if err := s.sign(req.Header, id, body, time.Now()); err != nil {
		return response{}, err
	}

	resp, err := c.http.Do(req)
	if err != nil {
		return response{}, withoutURL(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	excerpt, err := io.ReadAll(io.LimitReader(resp.Body, maxExcerpt))
	if err != nil {
		return response{}, withoutURL(ctx, err)
	}
	return response{
		status:     resp.StatusCode,
		body:       strings.ToValidUTF8(string(excerpt), "\uFFFD"),
		retryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now()),
	}, nil
}

// withoutURL returns the error of a request without the URL, which may contain
// secrets.
func withoutURL(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// retryAfter parses a Retry-After header (RFC 9110 §10.2.3). It returns 0 if the header
// is missing, invalid or in the past.
func retryAfter(header string, now time.Time) time.Duration {
	wait := time.Duration(0)
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}
