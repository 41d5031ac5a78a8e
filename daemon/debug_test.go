package daemon_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/testbed"
)

// request sends a request to the REST listener. The headers are pairs of a name
// and a value.
func (r running) request(t *testing.T, method, path string, header ...string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.REST+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func TestDebugPages(t *testing.T) {
	log := &testbed.Log{}
	d := startLogging(t, log, func(*daemon.Config) {})
	for _, c := range []struct {
		method, path string
		header       []string
		status       int
		want         string // part of the body
	}{
		{"GET", "/debug/pprof/", nil, 200, "goroutine"},
		{"GET", "/debug/pprof/heap?debug=1", nil, 200, "heap profile"},
		{"GET", "/debug/pprof/goroutine?debug=1", []string{"Sec-Fetch-Site", "none"}, 200, "goroutine profile"},
		{"GET", "/debug/pprof/profile?seconds=1", nil, 200, "\x1f\x8b"},
		{"GET", "/debug/pprof/trace?seconds=0.05", nil, 200, "go 1."},
		{"GET", "/debug/pprof/nothing", nil, 404, "Unknown profile"},
		{"GET", "/debug/pprof/cmdline", nil, 404, "/debug/pprof/"}, // flags may hold secrets
		{"GET", "/debug/vars", nil, 404, "/debug/pprof/"},
		{"GET", "/debug/flight", nil, 404, "debug.flight_recorder"},
		{"POST", "/debug/pprof/heap", nil, 405, "METHOD_NOT_ALLOWED"},
		{"GET", "/debug/pprof/heap", []string{"Host", "evil.example"}, 403, "FOREIGN_HOST"},
		{"GET", "/debug/pprof/heap", []string{"Sec-Fetch-Site", "cross-site"}, 403, "FOREIGN_ORIGIN"},
	} {
		if status, body := d.request(t, c.method, c.path, c.header...); status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s %s %q: %d %.200q, want %d and %q", c.method, c.path, c.header, status, body, c.status, c.want)
		}
	}

	for _, line := range []string{
		`msg=audit caller="" method=Debug code=OK peer=127.0.0.1:`, "path=/debug/pprof/profile",
		"method=Debug code=PERMISSION_DENIED",
	} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the log has no line with %q:\n%s", line, log)
		}
	}
}

func TestDebugPagesRequireTheAdminScope(t *testing.T) {
	for name, guarded := range map[string]bool{"open metrics": false, "guarded metrics": true} {
		t.Run(name, func(t *testing.T) {
			d := start(t, func(cfg *daemon.Config) {
				cfg.Control.Tokens = []daemon.Token{
					{Name: "admin", Token: "token-of-an-admin", Scopes: []string{"admin"}},
					{Name: "prometheus", Token: "token-to-read", Scopes: []string{"read"}},
				}
				cfg.Control.GuardMetrics = guarded
			})

			metrics := func(status int) int {
				if guarded {
					return status
				}
				return 200
			}

			for _, c := range []struct {
				path, token string
				status      int
			}{
				{"/debug/pprof/heap", "", 401},
				{"/debug/pprof/heap", "guess", 401},
				{"/debug/pprof/heap", "token-to-read", 403},
				{"/debug/pprof/heap", "token-of-an-admin", 200},
				{"/metrics", "", metrics(401)},
				{"/metrics", "token-of-an-admin", metrics(403)},
				{"/metrics", "token-to-read", 200},
			} {
				var header []string
				if c.token != "" {
					header = []string{"Authorization", "Bearer " + c.token}
				}
				if status, body := d.request(t, "GET", c.path, header...); status != c.status {
					t.Errorf("%s with %q: %d %.200s, want %d", c.path, c.token, status, body, c.status)
				}
			}
		})
	}
}

func TestFlightRecorder(t *testing.T) {
	// A process has one recorder: the first daemon must release it.
	for range 2 {
		d := start(t, func(cfg *daemon.Config) { cfg.Debug.FlightRecorder = true })
		if status, body := d.request(t, "GET", "/debug/flight"); status != 200 || !strings.HasPrefix(body, "go 1.") {
			t.Errorf("%d %.100q", status, body)
		}
		d.end()
		if err := <-d.done; err != nil {
			t.Error(err)
		}
	}
}
