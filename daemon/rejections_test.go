package daemon_test

import (
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/testbed"
)

// TestRejectedStreamsAreLogged checks that each counted rejection is logged at
// debug level, and included in a summary.
func TestRejectedStreamsAreLogged(t *testing.T) { onEachEngine(t, testRejectedStreamsAreLogged) }

func testRejectedStreamsAreLogged(t *testing.T, engine func(*daemon.Config)) {
	t.Parallel()

	const (
		address = "192.0.2.7"
		hidden  = "must-not-be-logged"
	)

	given := make(chan daemon.Reload)
	r := &reloadable{given: given, cfg: onFreePorts(), log: &testbed.Log{}}
	engine(&r.cfg)
	r.cfg.Auth.JWT.HMACSecret = secret
	r.cfg.SSE.TrustedProxies = []string{"127.0.0.1"}
	r.cfg.SSE.MaxConnectionsPerUser, r.cfg.SSE.MaxConnectionsPerIP = 1, 2

	var level slog.LevelVar

	r.cfg.Log.Level = "debug"
	lines := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: &level}))
	r.running = startOn(t, daemon.Options{LogLevel: &level, Reload: given}, r.cfg, lines)

	rpc, _ := controlClient(t, r.GRPC)
	token := func(user string) string {
		reply, err := rpc.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: user})
		if err != nil {
			t.Fatal(err)
		}

		return reply.GetToken()
	}
	alice, bob := token("alice"), token("bob")

	if _, err := rpc.Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: "bob", For: durationpb.New(time.Hour)}); err != nil {
		t.Fatal(err)
	}

	web := client(t)
	request := func(method, target string, header ...string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.SSE+target, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}

		for _, line := range append(header, "X-Forwarded-For: 203.0.113.9, "+address) {
			name, value, _ := strings.Cut(line, ": ")
			req.Header.Set(name, value)
		}

		resp, err := web.Do(req)
		if err != nil {
			t.Fatal(err)
		}

		t.Cleanup(func() { resp.Body.Close() })

		return resp
	}

	// check checks that a request gets a status and is logged once.
	check := func(status int, line, method, target string, header ...string) {
		t.Helper()

		parts := append(strings.Fields(line), `level=DEBUG msg="stream rejected"`, "address="+address)
		before := len(r.log.With(parts...))

		if resp := request(method, target, header...); resp.StatusCode != status {
			t.Errorf("%s %s: status %d, want %d", method, target, resp.StatusCode, status)
		}

		if n := len(r.log.With(parts...)) - before; n != 1 {
			t.Errorf("%s %s: %d lines with %q in\n%s", method, target, n, parts, r.log)
		}
	}

	reload := func(change func(*daemon.Config)) {
		t.Helper()

		const line = "configuration reloaded"

		next, before := r.cfg, len(r.log.With(line))
		change(&next)
		r.give(t, daemon.Reload{Config: next})

		if !testbed.Eventually(patience, func() bool { return len(r.log.With(line)) > before }) {
			t.Fatalf("the configuration isn't reloaded:\n%s", r.log)
		}
	}

	const bearer = "Authorization: Bearer "

	check(404, "cause=bad_request status=404", "GET", "/"+hidden)
	check(405, "cause=bad_request status=405", "DELETE", "/events")
	check(406, "cause=bad_request status=406", "GET", "/events", "Accept: "+hidden)
	check(400, "cause=bad_request status=400", "GET", "/events?last_event_id="+hidden)
	check(401, "cause=token status=401 reason=", "GET", "/events?access_token="+hidden)
	check(401, "cause=token origin=https://evil.example", "GET", "/events", bearer+hidden, "Origin: https://evil.example")
	check(400, "cause=token", "GET", "/events?access_token="+hidden, bearer+alice)
	check(403, "cause=origin origin=https://evil.example", "GET", "/events", "Cookie: peald_token="+alice, "Origin: https://evil.example")
	check(403, "cause=topic user=alice", "GET", "/events?topic="+hidden, bearer+alice)
	check(204, "cause=stay_away user=bob", "GET", "/events", bearer+bob)

	for _, header := range []string{bearer + alice, "Accept: text/event-stream"} {
		if resp := request("GET", "/events", header); resp.StatusCode != 200 {
			t.Fatalf("a stream gets %s", resp.Status)
		}
	}

	check(429, "cause=max_connections_per_ip", "GET", "/events")
	reload(func(cfg *daemon.Config) { cfg.SSE.MaxConnectionsPerIP = 0 })
	check(429, "cause=max_connections_per_user user=alice", "GET", "/events", bearer+alice)
	reload(func(cfg *daemon.Config) { cfg.SSE.MaxConnections = 1 })
	check(503, "cause=max_connections", "GET", "/events", "Accept: */*")
	check(200, "cause=max_connections", "GET", "/events", "Accept: text/event-stream")
	reload(func(cfg *daemon.Config) { cfg.SSE.MaxConnectsPerSecond = 1 })

	for status := 0; status != http.StatusServiceUnavailable; {
		status = request("HEAD", "/events").StatusCode
	}

	if found := r.log.With(`msg="stream rejected"`, "cause=max_connects_per_second"); len(found) != 1 {
		t.Errorf("the log has %q", found)
	}

	if got := firstLine(t, r.SSE, "no request\r\n\r\n"); strings.HasPrefix(got, "HTTP/1.1 2") {
		t.Error(got)
	}

	counted := byLabel(waitForFamilies(t, r.running, func(families map[string]*dto.MetricFamily) bool {
		return byLabel(families["peald_refused_total"])["no_request"] > 0
	})["peald_refused_total"])

	r.end()

	if err := r.awaitEnd(t); err != nil {
		t.Error(err)
	}

	each, summed := countRejections(t, r.log.String())

	for cause, n := range counted {
		// Connections that are closed at shutdown have no request either.
		if each[cause] != summed[cause] || each[cause] != int(n) && cause != "no_request" {
			t.Errorf("%s: %v rejections are counted, %d logged and %d summarized", cause, n, each[cause], summed[cause])
		}
	}

	if text := r.log.String(); strings.Contains(text, hidden) || strings.Contains(text, alice) || strings.Contains(text, bob) {
		t.Errorf("the log contains tokens or URLs:\n%s", text)
	}
}

// countRejections returns how many rejections are logged and how many are
// summarized, by cause.
func countRejections(t *testing.T, log string) (each, summed map[string]int) {
	t.Helper()

	each, summed = make(map[string]int), make(map[string]int)
	for _, line := range regexp.MustCompile(`msg="stream rejected" cause=(\w+)`).FindAllStringSubmatch(log, -1) {
		each[line[1]]++
	}

	for _, line := range regexp.MustCompile(`level=(\w+) msg="streams rejected" cause=(\w+) count=(\d+)`).FindAllStringSubmatch(log, -1) {
		n, err := strconv.Atoi(line[3])
		if err != nil {
			t.Fatal(err)
		}

		summed[line[2]] += n

		want := map[string]string{"max_connections": "WARN", "max_connects_per_second": "WARN", "no_request": "DEBUG"}[line[2]]
		if want == "" {
			want = "INFO"
		}

		if line[1] != want {
			t.Errorf("summaries of %s have level %s, want %s", line[2], line[1], want)
		}
	}

	return each, summed
}

// TestFirstSummary runs a daemon at the default log level, which includes only
// the summary.
func TestFirstSummary(t *testing.T) {
	t.Parallel()

	var log testbed.Log

	d := startOn(t, daemon.Options{}, onFreePorts(), slog.New(slog.NewTextHandler(&log, nil)))
	if got := get(t, client(t), "http://"+d.SSE+"/nothing"); !strings.HasPrefix(got, "404 ") {
		t.Fatal(got)
	}

	const summary = `level=INFO msg="streams rejected" cause=bad_request count=1`

	if !testbed.Eventually(patience, func() bool { return len(log.With(summary)) > 0 }) {
		t.Errorf("no summary in\n%s", &log)
	}
}

// TestConnectionsWithoutARequestAreLogged checks that the client's address is
// logged, even behind a proxy.
func TestConnectionsWithoutARequestAreLogged(t *testing.T) {
	t.Parallel()

	id := newIdentity(t)

	for name, c := range map[string]struct {
		change  func(*daemon.Config)
		sent    string
		address string
	}{
		"not HTTP":     {func(*daemon.Config) {}, "hello\r\n\r\n", "127.0.0.1"},
		"nothing sent": {func(*daemon.Config) {}, "", "127.0.0.1"},
		"not TLS": {func(cfg *daemon.Config) {
			cfg.SSE.TLS = daemon.TLS{CertFile: id.certFile, KeyFile: id.keyFile}
		}, "GET /events HTTP/1.1\r\n\r\n", "127.0.0.1"},
		"behind a proxy": {func(cfg *daemon.Config) {
			cfg.SSE.TrustedProxies, cfg.SSE.ProxyProtocol = []string{"127.0.0.1"}, true
		}, "PROXY TCP4 198.51.100.1 127.0.0.1 4711 8080\r\nhello\r\n\r\n", "198.51.100.1"},
		"proxy without its header": {func(cfg *daemon.Config) {
			cfg.SSE.TrustedProxies, cfg.SSE.ProxyProtocol = []string{"127.0.0.1"}, true
		}, "", "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			var log testbed.Log

			d := startLogging(t, &log, c.change)

			conn, err := net.Dial("tcp", d.SSE)
			if err != nil {
				t.Fatal(err)
			}

			if _, err := conn.Write([]byte(c.sent)); err != nil {
				t.Error(err)
			}

			conn.Close()

			if !testbed.Eventually(patience, func() bool {
				return len(log.With(`level=DEBUG msg="stream rejected"`, "cause=no_request", "address="+c.address)) == 1
			}) {
				t.Errorf("the log has\n%s", &log)
			}
		})
	}
}
