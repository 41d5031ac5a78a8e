package console_test

import (
	"mime"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/peald/peald/internal/console"
)

func newPage(t *testing.T) http.Handler {
	t.Helper()
	page, err := console.New(console.Config{Events: "http://127.0.0.1:8080/events"})
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func do(page http.Handler, method, target string) *httptest.ResponseRecorder {
	reply := httptest.NewRecorder()
	page.ServeHTTP(reply, httptest.NewRequest(method, target, nil))
	return reply
}

// TestPageIsComplete requests everything that the page and its scripts load.
func TestPageIsComplete(t *testing.T) {
	page := newPage(t)
	reference := regexp.MustCompile(`(?:src|<link [^>]*href|from)(?:=| )"([^"]+)"`)
	seen := map[string]bool{}
	var visit func(target string)
	visit = func(target string) {
		if seen[target] {
			return
		}
		seen[target] = true
		if !console.Takes(target) {
			t.Errorf("Takes(%q) = false, want true", target)
		}
		reply := do(page, http.MethodGet, target)
		if reply.Code != http.StatusOK {
			t.Errorf("GET %s: %d", target, reply.Code)
		}
		media, _, err := mime.ParseMediaType(reply.Header().Get("Content-Type"))
		want := map[string]string{"": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}[path.Ext(target)]
		if err != nil || media != want {
			t.Errorf("GET %s: media type %q, want %q", target, media, want)
		}
		for header, want := range map[string]string{
			"X-Content-Type-Options":  "nosniff",
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; ",
			"Referrer-Policy":         "no-referrer",
		} {
			if got := reply.Header().Get(header); !strings.HasPrefix(got, want) {
				t.Errorf("GET %s: %s is %q, want the prefix %q", target, header, got, want)
			}
		}
		if strings.Contains(reply.Body.String(), "<style") || strings.Contains(reply.Body.String(), " style=") {
			t.Errorf("%s has inline styles, which its policy forbids", target)
		}
		if media == "text/html" || media == "text/javascript" {
			for _, match := range reference.FindAllStringSubmatch(reply.Body.String(), -1) {
				if !strings.HasPrefix(match[1], "/") {
					t.Errorf("%s loads %q, want an absolute path", target, match[1])
					continue
				}
				visit(match[1])
			}
		}
	}
	visit("/")
	if len(seen) < 15 {
		t.Errorf("the page loads only %v, want 15 files or more", seen)
	}
	if !strings.Contains(do(page, http.MethodGet, "/").Body.String(), `data-events="http://127.0.0.1:8080/events"`) {
		t.Error("the page lacks the URL of the stream")
	}
}

func TestOtherPaths(t *testing.T) {
	page := newPage(t)
	for _, target := range []string{"/console/", "/console/index.html", "/console/uplot/", "/console/none.js", "/console/../v1/stats"} {
		if reply := do(page, http.MethodGet, target); reply.Code == http.StatusOK {
			t.Errorf("GET %s: %d %.80s, want an error", target, reply.Code, reply.Body)
		}
	}
	if reply := do(page, http.MethodPost, "/"); reply.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST /: %d, want 405", reply.Code)
	}
	for _, target := range []string{"/v1/stats", "/metrics", "//", "/consoles", "/console"} {
		if console.Takes(target) {
			t.Errorf("Takes(%q) = true, want false", target)
		}
	}
}

// TestLicense checks that uPlot is distributed with its license.
func TestLicense(t *testing.T) {
	reply := do(newPage(t), http.MethodGet, "/console/uplot/LICENSE")
	if reply.Code != http.StatusOK || !strings.Contains(reply.Body.String(), "Leon Sorokin") {
		t.Errorf("%d %.80s, want 200 and the license of uPlot", reply.Code, reply.Body)
	}
}
