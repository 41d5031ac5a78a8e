package hooks_test

import (
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/peald/peald/internal/hooks"
	"github.com/peald/peald/internal/hooktest"
)

// transport is a transport that calls a function.
type transport func(*http.Request) (*http.Response, error)

// RoundTrip implements [http.RoundTripper].
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// direct returns a transport that passes requests to a receiver.
func direct(r *hooktest.Receiver) transport {
	return func(req *http.Request) (*http.Response, error) {
		text, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		return respond(req, r.Receive(req.Header, text)), nil
	}
}

func respond(req *http.Request, status int) *http.Response {
	return &http.Response{
		StatusCode: status, Header: make(http.Header), Request: req,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(strings.NewReader("body")),
	}
}

// hook returns the settings of a hook.
func hook(url string, delay time.Duration) hooks.Hook {
	return hooks.Hook{URL: url, Events: hooks.EventTypes(), Secret: hooktest.Secret, Delay: delay}
}
