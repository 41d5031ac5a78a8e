package demo_test

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/internal/demo"
	"github.com/peald/peald/ssehttp"
)

// minter returns tokens that name their user and topics.
type minter struct{ fail error }

func (m minter) Mint(user string, topics []string, ttl time.Duration) (string, time.Time, error) {
	return "token-of-" + user + "-for-" + strings.Join(topics, "-"), time.Now().Add(ttl), m.fail
}

func config() demo.Config {
	return demo.Config{
		Events:    "/events",
		Anonymous: true,
		Control:   "http://127.0.0.1:9091",
		Tokens:    minter{},
		Publisher: &recorder{},
		Streams: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "stream at "+r.URL.Path)
		}),
	}
}

func newPage(t *testing.T, cfg demo.Config) http.Handler {
	t.Helper()
	page, err := demo.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func get(page http.Handler, target string) *httptest.ResponseRecorder {
	reply := httptest.NewRecorder()
	page.ServeHTTP(reply, httptest.NewRequest(http.MethodGet, target, nil))
	return reply
}

// TestPageIsComplete requests everything that the page and its scripts load.
func TestPageIsComplete(t *testing.T) {
	page := newPage(t, config())
	reference := regexp.MustCompile(`(?:src|<link [^>]*href|from)(?:=| )"([^"]+)"`)
	seen := map[string]bool{}
	var visit func(target string)
	visit = func(target string) {
		if seen[target] {
			return
		}
		seen[target] = true
		reply := get(page, target)
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
		if media == "text/html" || media == "text/javascript" {
			for _, match := range reference.FindAllStringSubmatch(reply.Body.String(), -1) {
				switch {
				case !strings.HasPrefix(match[1], "/"):
					t.Errorf("%s loads %q, want an absolute path", target, match[1])
				case match[1] == ssehttp.ModulePath: // isn't the page's own
					seen[match[1]] = true
				default:
					visit(match[1])
				}
			}
		}
	}
	visit("/")
	if len(seen) < 8 || !seen[ssehttp.ModulePath] {
		t.Errorf("the page loads only %v, want 8 files or more, and %s", seen, ssehttp.ModulePath)
	}
}

func TestPageAddresses(t *testing.T) {
	cfg := config()
	cfg.Events, cfg.Control, cfg.ControlToken, cfg.Anonymous = "/stream", "http://127.0.0.1:4711", true, false
	page := get(newPage(t, cfg), "/").Body.String()
	const want = `data-events="/stream" data-control="http://127.0.0.1:4711" data-control-token="true" data-anonymous="false">`
	if !strings.Contains(page, want) {
		t.Errorf("the page doesn't contain %s", want)
	}
}

func TestOtherPathsBelongToStreams(t *testing.T) {
	page := newPage(t, config())
	for _, target := range []string{"/events", "//events", "/demonstration", "/index.html"} {
		if reply := get(page, target); reply.Body.String() != "stream at "+target || reply.Header().Get("Content-Security-Policy") != "" {
			t.Errorf("GET %s: %d %s", target, reply.Code, reply.Body)
		}
	}
	for _, target := range []string{"/demo", "/demo/", "/demo/index.html", "/demo/../events"} {
		if reply := get(page, target); strings.HasPrefix(reply.Body.String(), "stream") || reply.Code == http.StatusOK {
			t.Errorf("GET %s: %d %s", target, reply.Code, reply.Body)
		}
	}
}

func TestFilesAreRevalidated(t *testing.T) {
	page := newPage(t, config())
	first := get(page, "/demo/app.js")
	r := httptest.NewRequest(http.MethodGet, "/demo/app.js", nil)
	r.Header.Set("If-None-Match", first.Header().Get("ETag"))
	again := httptest.NewRecorder()
	page.ServeHTTP(again, r)
	if again.Code != http.StatusNotModified || first.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("status %d with the same ETag and Cache-Control %q, want 304 and no-cache", again.Code, first.Header().Get("Cache-Control"))
	}
}

func TestInvalidConfig(t *testing.T) {
	for name, change := range map[string]func(*demo.Config){
		"stream at the page's path": func(c *demo.Config) { c.Events = "/" },
		"stream among the files":    func(c *demo.Config) { c.Events = "/demo/events" },
		"no tokens":                 func(c *demo.Config) { c.Tokens = nil },
		"no publisher":              func(c *demo.Config) { c.Publisher = nil },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config()
			change(&cfg)
			if _, err := demo.New(cfg); err == nil {
				t.Error("New returned no error")
			}
		})
	}
}

// post requests a name.
func post(page http.Handler, contentType, body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	return postTo(page, "/demo/token", contentType, body, change...)
}

func postTo(page http.Handler, target, contentType, body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	for _, c := range change {
		c(r)
	}
	reply := httptest.NewRecorder()
	page.ServeHTTP(reply, r)
	return reply
}

const (
	form  = "application/x-www-form-urlencoded"
	plain = "application/json"
)

func TestNamesGetTokens(t *testing.T) {
	for name, test := range map[string]struct{ contentType, body, want string }{
		"form":              {form, "user=alice", "token-of-alice-for->"},
		"form with charset": {form + ";charset=UTF-8", "user=alice", "token-of-alice-for->"},
		"JSON":              {plain, `{"user":"bob"}`, "token-of-bob-for->"},
	} {
		t.Run(name, func(t *testing.T) {
			reply := post(newPage(t, config()), test.contentType, test.body)
			if reply.Code != http.StatusOK || reply.Body.String() != test.want {
				t.Errorf("%d %q, want %q", reply.Code, reply.Body, test.want)
			}
			if caching := reply.Header().Get("Cache-Control"); caching != "no-store" {
				t.Errorf("Cache-Control is %q", caching)
			}
		})
	}
}

func TestInvalidNames(t *testing.T) {
	for name, test := range map[string]struct {
		contentType, body string
		status            int
		reason            string
	}{
		"empty form":       {form, "user=", 400, "user is empty"},
		"empty JSON":       {plain, `{}`, 400, "user is empty"},
		"too long":         {form, "user=" + strings.Repeat("x", 256), 400, "user is 256 bytes long"},
		"control":          {form, "user=a%00b", 400, "user has the control character"},
		"not UTF-8":        {form, "user=%ff", 400, "user is not valid UTF-8"},
		"broken form":      {form, "user=%zz", 400, "invalid form"},
		"broken JSON":      {plain, `{"user"`, 400, "invalid JSON"},
		"wrong type":       {plain, `{"user":7}`, 400, "invalid JSON"},
		"two objects":      {plain, `{"user":"a"}{"user":"b"}`, 400, "invalid JSON"},
		"twice in JSON":    {plain, `{"user":"a","user":"b"}`, 400, `duplicate member "user"`},
		"misspelled":       {plain, `{"User":"a"}`, 400, `misspelled member "User"; want "user"`},
		"something else":   {plain, `{"user":"a","topics":[]}`, 400, `unknown member "topics"`},
		"JSON, not UTF-8":  {plain, "{\"user\":\"m\xfcller\"}", 400, "not UTF-8"},
		"a lone surrogate": {plain, `{"user":"a\ud83d"}`, 400, "lone surrogate"},
		"twice in a form":  {form, "user=a&user=b", 400, "user is given 2 times"},
		"misspelled form":  {form, "User=a", 400, `unknown form field "User"; want user`},
		"body too large":   {plain, `{"user":"` + strings.Repeat("x", 9000) + `"}`, 413, "invalid JSON"},
		"form too large":   {form, "user=" + strings.Repeat("x", 9000), 413, "invalid form"},
		"no content type":  {"", "user=alice", 415, "invalid Content-Type"},
		"multipart":        {"multipart/form-data; boundary=x", "", 415, "invalid Content-Type"},
	} {
		t.Run(name, func(t *testing.T) {
			reply := post(newPage(t, config()), test.contentType, test.body)
			if reply.Code != test.status || !strings.Contains(reply.Body.String(), test.reason) {
				t.Errorf("%d %q; want %d %q", reply.Code, reply.Body, test.status, test.reason)
			}
		})
	}
	t.Run("other methods", func(t *testing.T) {
		if reply := get(newPage(t, config()), "/demo/token"); reply.Code != http.StatusMethodNotAllowed || reply.Header().Get("Allow") != "POST" {
			t.Errorf("%d, Allow: %s", reply.Code, reply.Header().Get("Allow"))
		}
	})
	t.Run("signing fails", func(t *testing.T) {
		cfg := config()
		cfg.Tokens = minter{errors.New("the key is secret-key")}
		if reply := post(newPage(t, cfg), form, "user=alice"); reply.Code != http.StatusInternalServerError || strings.Contains(reply.Body.String(), "key") {
			t.Errorf("%d %s", reply.Code, reply.Body)
		}
	})
}

// TestCrossOriginRequests checks that other sites can neither get a token nor publish.
func TestCrossOriginRequests(t *testing.T) {
	for name, header := range map[string][2]string{
		"Fetch Metadata": {"Sec-Fetch-Site", "cross-site"},
		"Origin":         {"Origin", "https://evil.example"},
	} {
		t.Run(name, func(t *testing.T) {
			change := func(r *http.Request) { r.Header.Set(header[0], header[1]) }

			reply := post(newPage(t, config()), form, "user=mallory", change)
			if reply.Code != http.StatusForbidden || strings.Contains(reply.Body.String(), "token-of") {
				t.Errorf("POST /demo/token: %d %q, want 403", reply.Code, reply.Body)
			}

			if reply := postTo(newPage(t, config()), "/demo/publish", plain, `{"data":"x"}`, change); reply.Code != http.StatusForbidden {
				t.Errorf("POST /demo/publish: %d, want 403", reply.Code)
			}
		})
	}
}
