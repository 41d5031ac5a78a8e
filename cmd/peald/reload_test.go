//go:build unix

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// reloadable is a daemon in a separate process with a configuration file.
type reloadable struct {
	process

	file  string
	lines int // number of log lines read so far
}

// startOnFile starts a daemon with a configuration file that has this content.
func startOnFile(t *testing.T, content string, args ...string) *reloadable {
	t.Helper()
	r := &reloadable{file: filepath.Join(t.TempDir(), "peald.yaml")}
	overwrite(t, r.file, content)
	r.process = startProcess(t, ":", append([]string{"--config", r.file}, args...)...)
	return r
}

func overwrite(t *testing.T, file, content string) {
	t.Helper()
	const private = 0o600
	if err := os.WriteFile(file, []byte(content), private); err != nil {
		t.Fatal(err)
	}
}

// hangUp sends SIGHUP.
func (r *reloadable) hangUp(t *testing.T) {
	t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// next waits for the next log line that matches pattern, and returns it. It skips
// the lines before it.
func (r *reloadable) next(t *testing.T, pattern string) string {
	t.Helper()
	wanted := regexp.MustCompile(pattern)
	var found string

	err := await("a log line that matches "+pattern, func() bool {
		text := r.log.String()
		lines := strings.Split(text[:strings.LastIndexByte(text, '\n')+1], "\n")
		for i := r.lines; i < len(lines); i++ {
			if wanted.MatchString(lines[i]) {
				r.lines, found = i+1, lines[i]
				return true
			}
		}
		return false
	})
	if err != nil {
		t.Fatal(err)
	}

	return found
}

// get sends a GET request with headers, which are complete lines, and returns the
// status and the headers of the response.
func get(t *testing.T, addr, target, headers string) *http.Response {
	t.Helper()
	conn := connect(t, addr)
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", target, addr, headers); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func wantStatus(t *testing.T, what string, resp *http.Response, want int) {
	t.Helper()
	if resp.StatusCode != want {
		t.Errorf("%s: %s, want %d", what, resp.Status, want)
	}
}

const bearer = "Authorization: Bearer "

// TestReloadTakesEffect checks the effect of each change on open streams, on calls
// in progress and on new ones.
func TestReloadTakesEffect(t *testing.T) {
	t.Parallel()
	const before = `
sse: {heartbeat: 1h, allowed_origins: ["https://old.example"], max_connections_per_ip: 0}
control: {tokens: [{name: old, token: old-token-long-enough}]}
log: {level: info}
`

	r := startOnFile(t, before)
	r.next(t, `msg="configuration loaded" file=`+regexp.QuoteMeta(r.file))
	conn, stream := request(t, r.SSE)
	events := bufio.NewReader(stream.Body)
	wantStatus(t, "the old token", get(t, r.REST, "/v1/stats", bearer+"old-token-long-enough\r\n"), http.StatusOK)
	wantStatus(t, "the new token", get(t, r.REST, "/v1/stats", bearer+"new-token-long-enough\r\n"), http.StatusUnauthorized)

	cors := func(origin string) string {
		return get(t, r.SSE, "/events", "Origin: "+origin+"\r\n").Header.Get("Access-Control-Allow-Origin")
	}
	if got := cors("https://old.example"); got != "https://old.example" {
		t.Errorf("the old origin is allowed as %q", got)
	}

	overwrite(t, r.file, `
sse: {heartbeat: 1s, allowed_origins: ["https://new.example"], max_connections_per_ip: 1}
control: {tokens: [{name: new, token: new-token-long-enough}], rate_limit: 1}
auth: {anonymous_topics: [news]}
log: {level: debug}
`)

	r.hangUp(t)
	r.next(t, `configuration reloaded" changed="sse.heartbeat, sse.allowed_origins, sse.max_connections_per_ip, control.tokens, control.rate_limit, auth.anonymous_topics, log.level"`)

	// The open stream receives a heartbeat an hour early, as its second block.
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}

	for blocks := 0; blocks < 2; {
		line, err := events.ReadString('\n')
		if err != nil {
			t.Fatalf("the open stream: %v", err)
		}
		if line == "\n" {
			blocks++
		}
	}

	wantStatus(t, "the old token", get(t, r.REST, "/v1/stats", bearer+"old-token-long-enough\r\n"), http.StatusUnauthorized)
	wantStatus(t, "the new token", get(t, r.REST, "/v1/stats", bearer+"new-token-long-enough\r\n"), http.StatusOK)

	limited := func() bool {
		return get(t, r.REST, "/v1/stats", bearer+"new-token-long-enough\r\n").StatusCode == http.StatusTooManyRequests
	}
	if err := await("a call beyond the rate limit", limited); err != nil {
		t.Error(err)
	}
	if got := cors("https://new.example"); got != "https://new.example" {
		t.Errorf("the new origin is allowed as %q", got)
	}
	if got := cors("https://old.example"); got != "" {
		t.Errorf("the old origin is allowed as %q", got)
	}

	wantStatus(t, "a stream with the topic that is now allowed", get(t, r.SSE, "/events?topic=news", ""), http.StatusTooManyRequests)
	r.next(t, `level=DEBUG|level=WARN msg="control call rejected"`)

	// A reload that raises the log level is still logged; later ones aren't.
	overwrite(t, r.file, before+"# again\nhistory: {max_events: 5}\n")
	r.hangUp(t)
	r.next(t, `configuration reloaded`)
	overwrite(t, r.file, "log: {level: error}\nsse: {heartbeat: 2s}\n")
	r.hangUp(t)
	r.next(t, `configuration reloaded" changed=".*log.level`)
	overwrite(t, r.file, "log: {level: error}\nsse: {heartbeat: 3s}\n")
	r.hangUp(t)

	if err := await("the reload that is not logged", func() bool { return r.metric(t, `peald_config_reloads_total{outcome="success"}`) == "4" }); err != nil {
		t.Error(err)
	}
	if n := strings.Count(r.log.String(), "configuration reloaded"); n != 3 {
		t.Errorf("%d reloads are logged, want 3", n)
	}
}

// metric returns the text of a value at /metrics.
func (r *reloadable) metric(t *testing.T, name string) string {
	t.Helper()
	resp, err := http.Get("http://" + r.REST + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := bytes.Cut(text, []byte("\n"+name+" "))
	value, _, _ = bytes.Cut(value, []byte("\n"))
	return string(value)
}

func TestReloadOnFileChange(t *testing.T) {
	t.Parallel()
	content := func(n int) string { return fmt.Sprintf("sse: {max_connections: %d}\n", n) }

	for name, layout := range map[string]func(t *testing.T, folder string) (file string, write func(n int)){
		"written in place": func(t *testing.T, folder string) (string, func(int)) {
			file := filepath.Join(folder, "peald.yaml")
			return file, func(n int) { overwrite(t, file, content(n)) }
		},

		"renamed over": func(t *testing.T, folder string) (string, func(int)) {
			file := filepath.Join(folder, "peald.yaml")
			return file, func(n int) {
				overwrite(t, file+".new", content(n))
				rename(t, file+".new", file)
			}
		},

		"moved and rewritten": func(t *testing.T, folder string) (string, func(int)) {
			file := filepath.Join(folder, "peald.yaml")
			return file, func(n int) {
				_ = os.Rename(file, file+"~") // the first file doesn't exist yet
				overwrite(t, file, content(n))
			}
		},

		"behind links like a ConfigMap": func(t *testing.T, folder string) (string, func(int)) {
			file := filepath.Join(folder, "peald.yaml")
			link(t, "..data/peald.yaml", file)

			return file, func(n int) {
				version := fmt.Sprintf("..version_%d", n)
				if err := os.Mkdir(filepath.Join(folder, version), 0o700); err != nil {
					t.Fatal(err)
				}
				overwrite(t, filepath.Join(folder, version, "peald.yaml"), content(n))
				link(t, version, filepath.Join(folder, "..data_tmp"))
				rename(t, filepath.Join(folder, "..data_tmp"), filepath.Join(folder, "..data"))
			}
		},

		"behind a link to another directory": func(t *testing.T, folder string) (string, func(int)) {
			elsewhere := filepath.Join(t.TempDir(), "real.yaml")
			file := filepath.Join(folder, "peald.yaml")
			link(t, elsewhere, file)
			return file, func(n int) { overwrite(t, elsewhere, content(n)) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, write := layout(t, t.TempDir())
			write(1)
			r := &reloadable{process: startProcess(t, ":", "--config", file)}
			for n := 2; n <= 3; n++ {
				write(n)
				r.next(t, `configuration reloaded" changed=sse.max_connections$`)
				if got := r.metric(t, "peald_max_connections"); got != fmt.Sprint(n) {
					t.Errorf("the limit is %s streams, want %d", got, n)
				}
			}
			if text := r.log.String(); strings.Contains(text, "level=ERROR") || strings.Count(text, "configuration reloaded") != 2 {
				t.Error("the daemon reloaded more often than the file changed")
			}
		})
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, name string) {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
}

func TestInvalidFileChangesNothing(t *testing.T) {
	t.Parallel()
	const good = "sse: {max_connections: 5}\ncontrol: {tokens: [\"a:token-that-is-long-enough\"]}\n"
	r := startOnFile(t, good)

	check := func() {
		t.Helper()
		if got := r.metric(t, "peald_max_connections"); got != "5" {
			t.Errorf("the limit is %s streams, want 5", got)
		}
		wantStatus(t, "no token", get(t, r.REST, "/v1/stats", ""), http.StatusUnauthorized)
	}
	for i, bad := range []struct{ content, says string }{
		{"sse: {max_connections: 7, hartbeat: 1s}\n", `error="sse.hartbeat: unknown setting in .*peald.yaml; did you mean sse.heartbeat[?]"`},
		{"sse: {max_connections: 7}\nlog: {level: loud}\n", `error="log.level: given \\"loud\\"; want debug, info, warn or error"`},
		{"sse: {max_connections: 7}\nauth: {jwt: {public_key_file: /nonexistent}}\n", `error="subscriber tokens: auth.jwt.public_key_file: open /nonexistent: no such file or directory"`},
		{"sse: {max_connections: 1000000000}\n", `error="sse.max_connections: given 1000000000; want at most `},
		{"sse: {max_connections: 7\n", `error="configuration file .*peald.yaml: `},
		{"", `error="configuration file .*peald.yaml: file is empty"`},
		{"sse: {max_connections: 7}\nSSE: {retry: 5s}\n", `error="sse: set twice in .*peald.yaml, as sse at line 1 and SSE at line 2; want each key once"`},
	} {
		overwrite(t, r.file, bad.content)
		if i%2 == 0 {
			r.hangUp(t)
		}
		line := r.next(t, `level=ERROR`)
		if !regexp.MustCompile(bad.says).MatchString(line) || !strings.Contains(line, `msg="configuration not reloaded"`) {
			t.Errorf("after %q the log has\n%s\nwant %s", bad.content, line, bad.says)
		}
		check()
	}

	if err := os.Remove(r.file); err != nil {
		t.Fatal(err)
	}

	r.next(t, `level=ERROR .*error="configuration file .*peald.yaml: no such file or directory"`)
	check()

	if got := r.metric(t, "peald_config_last_reload_successful"); got != "0" {
		t.Errorf("the last reload counts as successful: %s", got)
	}

	overwrite(t, r.file, good+"# fixed\n")
	r.next(t, `configuration reloaded" changed=nothing`)

	if got := r.metric(t, "peald_config_last_reload_successful"); got != "1" {
		t.Errorf("the last reload counts as failed: %s", got)
	}
	if n := strings.Count(r.log.String(), "level=ERROR"); n != 8 {
		t.Errorf("%d errors in the log, want one for each of 8 bad files", n)
	}
}

func TestReloadOfRestartSettings(t *testing.T) {
	t.Parallel()
	r := startOnFile(t, "broker: {shards: 1}\nlog: {format: text}\n", "--log.level=warn")
	overwrite(t, r.file, "sse: {path: /other}\nbroker: {shards: 2, queue_bytes: 64KiB}\nlog: {format: json, level: info}\n")
	r.hangUp(t)
	line := r.next(t, `level=WARN`)

	const want = `msg="changed settings need a restart" sse.path="\"/events\" in effect, \"/other\" given" broker.shards="1 in effect, 2 given" log.format="\"text\" in effect, \"json\" given"`
	if !strings.HasSuffix(line, want) {
		t.Errorf("the log has\n%s\nwant\n%s", line, want)
	}
	// The flag takes precedence over the file.
	if strings.Contains(r.log.String(), "level=INFO") {
		t.Error("log.level in the file overrides the flag")
	}

	wantStatus(t, "the old path", get(t, r.SSE, "/events", ""), http.StatusOK)
}

func TestHangUpWithoutFile(t *testing.T) {
	t.Parallel()
	if signal.Ignored(syscall.SIGHUP) {
		t.Skip("SIGHUP is ignored, as under nohup")
	}

	keys := filepath.Join(t.TempDir(), "keys.pem")
	overwrite(t, keys, publicKeys)
	r := &reloadable{process: startProcess(t, ":", "--auth.jwt.public_key_file", keys)}
	overwrite(t, keys, "no keys")
	r.hangUp(t)
	r.next(t, `reading token keys failed`)
	r.next(t, `configuration reloaded" changed=nothing`)
}

func TestIgnoredHangUp(t *testing.T) {
	t.Parallel()
	r := &reloadable{process: startProcess(t, "trap '' HUP")}
	r.hangUp(t)
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	if strings.Contains(r.log.String(), "reloaded") {
		t.Error("the daemon reloaded on an ignored signal")
	}
}

const publicKeys = `-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
`
