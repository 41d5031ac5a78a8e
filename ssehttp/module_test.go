package ssehttp_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

const moduleSource = "export const answer = 42; // answer answer answer answer answer answer\n"

func withModule(c *ssehttp.Config, _ *broker.Config) {
	c.Module = ssehttp.NewModule([]byte(moduleSource))
	c.AllowedOrigins = []string{"https://app.example.com"}
	c.Anonymous = false // the module requires no token
}

func TestModule(t *testing.T) { onAll(t, testModule) }

func testModule(t *testing.T, via path) {
	s := start(t, via, withModule)

	const plain, zipped = "Accept-Encoding: identity", "Accept-Encoding: gzip"

	etag := func(coding string) string {
		return s.request(t, http.MethodHead, "/peald.js", coding).Header.Get("ETag")
	}

	for name, c := range map[string]struct {
		method  string
		headers []string
		status  int
		want    map[string]string
		body    string
	}{
		"GET": {"GET", []string{plain}, 200, map[string]string{
			"Content-Type": "text/javascript; charset=utf-8", "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff",
			"Vary": "Origin, Accept-Encoding", "Content-Encoding": "", "Access-Control-Allow-Origin": "",
		}, moduleSource},
		"gzip":           {"GET", []string{zipped}, 200, map[string]string{"Content-Encoding": "gzip"}, moduleSource},
		"HEAD":           {"HEAD", []string{plain}, 200, map[string]string{"Content-Type": "text/javascript; charset=utf-8"}, ""},
		"unchanged":      {"GET", []string{plain, "If-None-Match: " + etag(plain)}, 304, map[string]string{"ETag": etag(plain)}, ""},
		"unchanged gzip": {"GET", []string{zipped, "If-None-Match: " + etag(zipped)}, 304, map[string]string{"ETag": etag(zipped)}, ""},
		"other coding":   {"GET", []string{plain, "If-None-Match: " + etag(zipped)}, 200, nil, moduleSource},
		"allowed origin": {"GET", []string{plain, "Origin: https://app.example.com"}, 200, map[string]string{
			"Access-Control-Allow-Origin": "https://app.example.com", "Access-Control-Allow-Credentials": "true",
		}, moduleSource},
		"other origin": {"GET", []string{plain, "Origin: https://other.example"}, 200, map[string]string{"Access-Control-Allow-Origin": ""}, moduleSource},
		"OPTIONS":      {"OPTIONS", []string{plain}, 204, map[string]string{"Allow": "GET, HEAD, OPTIONS"}, ""},
		"POST":         {"POST", []string{plain}, 405, map[string]string{"Allow": "GET, HEAD, OPTIONS"}, "method POST is not allowed; want one of GET, HEAD, OPTIONS\n"},
	} {
		t.Run(name, func(t *testing.T) {
			resp := s.request(t, c.method, "/peald.js", c.headers...)
			body, err := io.ReadAll(resp.Body)

			if err == nil && resp.Header.Get("Content-Encoding") == "gzip" && len(body) > 0 {
				var r *gzip.Reader
				if r, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
					body, err = io.ReadAll(r)
				}
			}

			if err != nil || resp.StatusCode != c.status || string(body) != c.body {
				t.Errorf("got %d and %q (%v), want %d and %q", resp.StatusCode, body, err, c.status, c.body)
			}

			for name, want := range c.want {
				if got := strings.Join(resp.Header.Values(name), ", "); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

// TestModuleIsOptional checks that the module can be switched off and on.
func TestModuleIsOptional(t *testing.T) { onBoth(t, testModuleIsOptional) }

func testModuleIsOptional(t *testing.T, via path) {
	cfg := ssehttp.Config{Path: "/events"}
	s := start(t, via, func(c *ssehttp.Config, _ *broker.Config) { cfg = *c })

	for _, module := range []*ssehttp.Module{nil, ssehttp.NewModule([]byte(moduleSource)), nil} {
		want := http.StatusNotFound
		if module != nil {
			want = http.StatusOK
		}

		cfg.Module = module
		s.handler.Reconfigure(cfg, verifier{})

		if resp := s.request(t, http.MethodGet, "/peald.js"); resp.StatusCode != want {
			t.Errorf("got %s, want %d", resp.Status, want)
		}
	}
}
