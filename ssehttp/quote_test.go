package ssehttp_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

// TestResponsesQuoteLittle sends requests with long parts that responses or log
// lines quote. Neither becomes long.
func TestResponsesQuoteLittle(t *testing.T) {
	const most = 2 << 10
	var lines bytes.Buffer
	s := start(t, plainPaths()[0], func(c *ssehttp.Config, _ *broker.Config) {
		c.Logger = slog.New(slog.NewJSONHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.AllowedOrigins = []string{"https://*.example.com", "https://app.example.org"}
		c.AnonymousTopics = []string{"news"}
	})

	for filling, long := range map[string]string{
		"letters":       strings.Repeat("x", 32<<10),
		"invalid UTF-8": strings.Repeat("\xff", 32<<10),
		"control bytes": strings.Repeat("\x01", 32<<10),
		"wide letters":  "x" + strings.Repeat("\u20ac", 10<<10),
		"a long topic":  strings.Repeat("\u00ad", 127),
	} {
		for name, change := range map[string]func(*http.Request){
			"path":              func(r *http.Request) { r.URL.Path = "/" + long },
			"method":            func(r *http.Request) { r.Method = long },
			"Accept":            func(r *http.Request) { r.Header.Set("Accept", long) },
			"Origin":            func(r *http.Request) { r.Header.Set("Origin", long) },
			"Origin, cookies":   func(r *http.Request) { r.Header.Set("Origin", long); r.Header.Set("Cookie", "a=b") },
			"host of an Origin": func(r *http.Request) { r.Header.Set("Origin", "https://"+long+".example.com"); r.URL.Path = "/" },
			"query":             func(r *http.Request) { r.URL.RawQuery = "%" + long },
			"topic":             func(r *http.Request) { r.URL.RawQuery = "topic=" + url.QueryEscape(long) },
			"pattern":           func(r *http.Request) { r.URL.RawQuery = "topic=*.." + url.QueryEscape(long) },
			"id in the query":   func(r *http.Request) { r.URL.RawQuery = "last_event_id=" + url.QueryEscape(long) },
			"scheme":            func(r *http.Request) { r.Header.Set("Authorization", long+" good-bob") },
			"token":             func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+long) },
			"token in a cookie": func(r *http.Request) { r.Header.Set("Cookie", "peald_token="+long) },
			"token in the query": func(r *http.Request) {
				r.URL.RawQuery = "access_token=" + url.QueryEscape(long)
			},
			"headers of a preflight": func(r *http.Request) {
				r.Method = http.MethodOptions
				r.Header.Set("Access-Control-Request-Method", long)
				r.Header.Set("Access-Control-Request-Headers", long)
			},
		} {
			t.Run(name+" of "+filling, func(t *testing.T) {
				lines.Reset()
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events", nil)
				r.Header.Set("Accept", "text/event-stream")
				r.URL.RawQuery = "last_event_id=invalid" // none of these requests opens a stream
				change(r)
				w := httptest.NewRecorder()
				s.handler.ServeHTTP(w, r)

				if size := w.Body.Len() + len(fmt.Sprint(w.Header())); w.Code == http.StatusOK || size > most {
					t.Errorf("status %d and %d bytes, want at most %d", w.Code, size, most)
				}
				if lines.Len() > most {
					t.Errorf("the log has %d bytes, want at most %d", lines.Len(), most)
				}
			})
		}
	}
}

// TestQuotesAreShortened checks that a message has the beginning of what it quotes,
// up to the end of a character.
func TestQuotesAreShortened(t *testing.T) {
	s := start(t, plainPaths()[0], nil)
	for path, want := range map[string]string{
		"/" + strings.Repeat("x", 199):        "/" + strings.Repeat("x", 199),
		"/" + strings.Repeat("x", 200):        "/" + strings.Repeat("x", 199) + "…",
		"/" + strings.Repeat("\u20ac", 100):   "/" + strings.Repeat("\u20ac", 66) + "…",
		"/xx" + strings.Repeat("\u20ac", 100): "/xx" + strings.Repeat("\u20ac", 65) + "…",
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/events", nil)
		r.URL.Path = path
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		if got := w.Body.String(); !strings.Contains(got, fmt.Sprintf("%q", want)) {
			t.Errorf("the response is %s, want a quote of %q", got, want)
		}
	}
}
