package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
)

// TestNginx has the nginx of this machine in front of daemons, with the very
// configuration that deploy/ has for it.
func TestNginx(t *testing.T) {
	program := pealdtest.Program(t, "nginx")

	t.Run("each event comes at once", func(t *testing.T) { testNginxPassesOn(t, program) })
	t.Run("heartbeats keep a stream open", func(t *testing.T) { testNginxKeepsOpen(t, program) })
	t.Run("addresses and origins are the clients'", func(t *testing.T) { testNginxTellsAddresses(t, program) })
	t.Run("a browser goes to the next daemon", func(t *testing.T) { testNginxFailsOver(t, program) })
}

func testNginxPassesOn(t *testing.T, program string) {
	t.Helper()

	d := pealdtest.Start(t)
	front := startNginx(t, program, nil, d.SSE)
	stream := front.open(t, "127.0.0.1", nil)

	if stream.ProtoMajor != 2 {
		t.Errorf("the stream is over %s, want HTTP/2", stream.Proto)
	}

	control := d.Control(t)

	// Each is asked for before the next is there: what is held back for want of
	// more never comes.
	for n := range 5 {
		data := fmt.Sprintf("event %d", n)
		if _, err := control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: data}); err != nil {
			t.Fatal(err)
		}

		stream.waitFor(t, "data: "+data)
	}

	// The daemon hears of a browser that is gone.
	_ = stream.Body.Close()

	d.WaitForStreams(t, 0)
}

func testNginxKeepsOpen(t *testing.T, program string) {
	t.Helper()

	const timeout = 2 * time.Second

	hasty := func(conf string) string {
		return replaced(t, conf, "proxy_read_timeout 60s;", fmt.Sprintf("proxy_read_timeout %ds;", int(timeout.Seconds())))
	}
	beating := pealdtest.Start(t, func(cfg *daemon.Config) { cfg.SSE.Heartbeat = time.Second })
	silent := pealdtest.Start(t)
	kept := startNginx(t, program, hasty, beating.SSE).open(t, "127.0.0.1", nil)
	cut := startNginx(t, program, hasty, silent.SSE).open(t, "127.0.0.1", nil)

	// nginx does cut a stream that is silent for so long …
	if rest, err := io.ReadAll(cut.lines); err == nil {
		t.Errorf("the silent stream ended in good order, after %q", rest)
	}

	// … and one that has heartbeats lives on after that.
	control := beating.Control(t)
	if _, err := control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "still there"}); err != nil {
		t.Fatal(err)
	}

	kept.waitFor(t, "data: still there")
}

func testNginxTellsAddresses(t *testing.T, program string) {
	t.Helper()

	d := pealdtest.Start(t, func(cfg *daemon.Config) {
		cfg.SSE.TrustedProxies = []string{"127.0.0.1"}
		cfg.SSE.MaxConnectionsPerIP = 1
	})
	front := startNginx(t, program, nil, d.SSE)
	own := "https://" + front.addr

	for _, request := range []struct {
		from   string
		header http.Header
		status int
	}{
		{"127.0.0.2", nil, http.StatusOK},
		{"127.0.0.2", nil, http.StatusTooManyRequests},
		{"127.0.0.2", http.Header{"X-Forwarded-For": {"198.51.100.7"}}, http.StatusTooManyRequests},
		{"127.0.0.3", http.Header{"Origin": {own}, "Cookie": {"a=b"}}, http.StatusOK},
		{"127.0.0.4", http.Header{"Origin": {"https://elsewhere.example"}, "Cookie": {"a=b"}}, http.StatusForbidden},
	} {
		if stream := front.open(t, request.from, request.header); stream.StatusCode != request.status {
			t.Errorf("a stream from %s with %v: %s, want %d", request.from, request.header, stream.Status, request.status)
		}
	}
}

func testNginxFailsOver(t *testing.T, program string) {
	t.Helper()

	chromium := startChromium(t, chromedp.IgnoreCertErrors)
	pages := httptest.NewServer(http.FileServer(http.Dir("../examples/html")))
	t.Cleanup(pages.Close)

	configure := func(cfg *daemon.Config) {
		cfg.SSE.AllowedOrigins = []string{pages.URL}
		cfg.SSE.Retry = 50 * time.Millisecond
	}
	daemons := []*pealdtest.Daemon{pealdtest.Start(t, configure), pealdtest.Start(t, configure)}
	front := startNginx(t, program, nil, daemons[0].SSE, daemons[1].SSE)

	stream := strings.Replace(daemons[0].Events(t, "alice"), "http://"+daemons[0].SSE, "https://"+front.addr, 1)
	page := chromium.open(t, pages.URL+"/?types=peald.reset&url="+url.QueryEscape(stream))
	page.waitFor(t, `element("state").dataset.state === "open"`)

	send := func(d *pealdtest.Daemon, data string) int32 {
		t.Helper()

		sent, err := d.Control(t).SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "alice", Data: data})
		if err != nil {
			t.Fatal(err)
		}

		return sent.GetRecipients()
	}

	// nginx begins with whichever it likes.
	first, next := daemons[0], daemons[1]
	if send(first, "one") == 0 {
		first, next = next, first
		send(first, "one")
	}

	want := []string{"individual", "one"}
	page.wantEvents(t, want)

	// Two daemons on their own share no log: the page is told.
	first.Stop(t)
	next.WaitForStreams(t, 1)
	send(next, "two")

	events := page.events(t, 3)
	reset := events[3]
	events[3] = ""

	if got, want := fmt.Sprintf("%q", events), fmt.Sprintf("%q", append(want, "peald.reset", "", "individual", "two")); got != want {
		t.Errorf("the page shows\n%s, want\n%s", got, want)
	}

	if !strings.Contains(reset, `"reason":"unknown"`) {
		t.Errorf("the page is told %q, want a reset for an unknown id", reset)
	}
}

// nginx is one that runs.
type nginx struct {
	addr        string
	certificate pealdtest.Certificate
}

// startNginx runs nginx with deploy/nginx/peald.conf, on a free port, with a
// certificate of its own and these daemons behind it, until the test ends.
func startNginx(t *testing.T, program string, change func(string) string, daemons ...string) *nginx {
	t.Helper()

	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()

	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()

	front := &nginx{addr: listener.Addr().String(), certificate: pealdtest.NewCertificate(t)}

	content, err := os.ReadFile("../deploy/nginx/peald.conf")
	if err != nil {
		t.Fatal(err)
	}

	const server = "server 127.0.0.1:8080 max_fails=1 fail_timeout=1s;"

	servers := ""
	for _, addr := range daemons {
		servers += strings.Replace(server, "127.0.0.1:8080", addr, 1)
	}

	conf := replaced(t, string(content), "listen 443 ssl http2;", "listen "+front.addr+" ssl http2;")
	conf = replaced(t, conf, server, servers)
	conf = replaced(t, conf, "/etc/ssl/certs/events.example.com.pem", front.certificate.CertFile)
	conf = replaced(t, conf, "/etc/ssl/private/events.example.com.key", front.certificate.KeyFile)

	if change != nil {
		conf = change(conf)
	}

	dir := t.TempDir()
	path := filepath.Join(dir, "nginx.conf")
	// A user other than root's could read neither the key nor the folder.
	whole := fmt.Sprintf(`daemon off;
		user %s;
		worker_processes 1;
		pid %s/pid;
		error_log stderr;
		events {}
		http {
			access_log off;
			client_body_temp_path %[2]s/body;
			proxy_temp_path %[2]s/proxy;
			fastcgi_temp_path %[2]s/fastcgi;
			uwsgi_temp_path %[2]s/uwsgi;
			scgi_temp_path %[2]s/scgi;
			%s
		}`, userName(t), dir, conf)

	if err := os.WriteFile(path, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}

	var said bytes.Buffer

	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, "-e", "stderr", "-p", dir, "-c", path)
	cmd.Stderr = &said
	// It takes the socket over as it would from an older nginx, so that the port
	// is ours from the beginning and connections wait for it.
	cmd.ExtraFiles = []*os.File{socket}
	cmd.Env = append(os.Environ(), "NGINX=3;")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()

		if t.Failed() {
			t.Logf("nginx said:\n%s", &said)
		}
	})

	return front
}

// proxied is a stream through nginx.
type proxied struct {
	*http.Response

	lines *bufio.Reader
}

// open opens a stream from a loopback address.
func (n *nginx) open(t *testing.T, from string, header http.Header) proxied {
	t.Helper()

	transport := &http.Transport{
		TLSClientConfig:   n.certificate.Client(),
		ForceAttemptHTTP2: true,
		DialContext:       (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext,
	}
	t.Cleanup(transport.CloseIdleConnections)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+n.addr+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}

	req.Header.Set("Accept", "text/event-stream")

	maps.Copy(req.Header, header)

	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatalf("a stream through nginx: %v", err)
	}

	t.Cleanup(func() { _ = resp.Body.Close() })

	return proxied{resp, bufio.NewReader(resp.Body)}
}

// waitFor reads up to a line.
func (p proxied) waitFor(t *testing.T, want string) {
	t.Helper()

	for {
		line, err := p.lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream ends with %v, before %q", err, want)
		}

		if line == want+"\n" {
			return
		}
	}
}

// replaced replaces what has to be there once.
func replaced(t *testing.T, text, old, with string) string {
	t.Helper()

	if n := strings.Count(text, old); n != 1 {
		t.Fatalf("%q stands %d times in the configuration, want once", old, n)
	}

	return strings.Replace(text, old, with, 1)
}

func userName(t *testing.T) string {
	t.Helper()

	current, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}

	return current.Username
}
