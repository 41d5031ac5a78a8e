package e2e_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

// nodeClient is the JavaScript client, running in Node.
type nodeClient struct {
	calls *json.Encoder
	lines <-chan string
	token func() string // returns the token that the client gets next
}

// startNodeClient runs the client that d serves.
func startNodeClient(t *testing.T, d *pealdtest.Daemon, token func() string, topics ...string) *nodeClient {
	t.Helper()

	args := append([]string{filepath.Join("testdata", "client.mjs"), downloadClient(t, d), "http://" + d.SSE + "/events"}, topics...)
	command := exec.CommandContext(t.Context(), testbed.Program(t, "node"), args...)
	command.Stderr = t.Output()

	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}

	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := command.Start(); err != nil {
		t.Fatal(err)
	}

	lines, ended := make(chan string), make(chan struct{})

	go func() {
		defer close(ended)
		defer close(lines)

		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			select {
			case lines <- scanner.Text():
			case <-t.Context().Done():
				return
			}
		}
	}()

	t.Cleanup(func() {
		_ = stdin.Close()

		<-ended

		_ = command.Wait() // the test's context has ended it, or it has ended by itself
	})

	return &nodeClient{json.NewEncoder(stdin), lines, token}
}

// downloadClient returns a file with the module at /peald.js.
func downloadClient(t *testing.T, d *pealdtest.Daemon) string {
	t.Helper()

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.SSE+"/peald.js", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}

	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()

	module, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("get the client: %s, %v", resp.Status, err)
	}

	path := filepath.Join(t.TempDir(), "peald.mjs")
	if err := os.WriteFile(path, module, 0o600); err != nil {
		t.Fatal(err)
	}

	return path
}

// call makes the client do something.
func (c *nodeClient) call(t *testing.T, name, argument string) {
	t.Helper()

	if err := c.calls.Encode(map[string]string{name: argument}); err != nil {
		t.Fatal(err)
	}
}

// expect waits for lines, and answers requests for tokens in between.
func (c *nodeClient) expect(t *testing.T, want ...string) {
	t.Helper()

	for _, line := range want {
		for got := c.next(t); got != line; got = c.next(t) {
			if got != `{"wants":"token"}` {
				t.Fatalf("the client printed %s, want %s", got, line)
			}

			c.call(t, "token", c.token())
		}
	}
}

// next returns the next line.
func (c *nodeClient) next(t *testing.T) string {
	t.Helper()

	select {
	case line, ok := <-c.lines:
		if !ok {
			t.Fatal("the client has ended")
		}

		return line
	case <-time.After(patience):
		t.Fatalf("the client has printed nothing for %s", patience)
	}

	return ""
}

// TestJavaScriptClient runs the client in Node while its token is renewed, its topics
// change, the daemon restarts, and its topics end.
func TestJavaScriptClient(t *testing.T) {
	t.Parallel()

	configure := func(cfg *daemon.Config) {
		cfg.SSE.Retry = 50 * time.Millisecond
		cfg.Auth.Anonymous = false
	}
	d := pealdtest.Start(t, configure)

	var tokens int

	token := func() string {
		ttl := time.Hour
		if tokens++; tokens == 1 {
			ttl = 3 * time.Second
		}

		reply, err := d.Control(t).CreateToken(t.Context(), &pealv1.CreateTokenRequest{
			UserId: "alice", Topics: []string{"a", "b"}, Ttl: durationpb.New(ttl),
		})
		if err != nil {
			t.Fatal(err)
		}

		return reply.GetToken()
	}

	publish := func(m *pealv1.PublishRequest) {
		t.Helper()

		if _, err := d.Control(t).Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}

	c := startNodeClient(t, d, token, "a")
	c.expect(t, `{"state":"connecting"}`, `{"state":"open"}`)
	publish(&pealv1.PublishRequest{Topic: "a", Data: "1"})
	publish(&pealv1.PublishRequest{Topic: "b", Data: "kept", Retain: true})
	c.expect(t, `{"event":"1"}`)

	// The first token is replaced before it expires, and the stream with it.
	for tokens < 2 {
		if got := c.next(t); got != `{"wants":"token"}` {
			t.Fatalf("the client printed %s, want a request for a token", got)
		}

		c.call(t, "token", token())
	}

	publish(&pealv1.PublishRequest{Topic: "a", Data: "2"})
	c.expect(t, `{"event":"2"}`)

	c.call(t, "subscribe", "b")
	publish(&pealv1.PublishRequest{Topic: "a", Data: "3"})
	expectInAnyOrder(t, c, `{"subscribed":"b"}`, `{"event":"kept"}`, `{"event":"3"}`)

	c.call(t, "subscribe", "secret")
	c.expect(t, `{"subscribed":"PealdError: topic \"secret\" is not allowed for this stream"}`)

	// Another daemon has another history.
	d.Stop(t)
	c.expect(t, `{"state":"waiting"}`)

	d = pealdtest.Start(t, configure, func(cfg *daemon.Config) { cfg.SSE.Addr = d.SSE })

	for got := c.next(t); got != `{"reset":"unknown"}`; got = c.next(t) {
		switch got {
		case `{"state":"waiting"}`, `{"state":"connecting"}`, `{"state":"open"}`:
		default:
			t.Fatalf("after a restart, the client printed %s", got)
		}
	}

	publish(&pealv1.PublishRequest{Topic: "b", Data: "4"})
	c.expect(t, `{"event":"4"}`)

	c.call(t, "unsubscribe", "b")
	c.expect(t, `{"unsubscribed":"b"}`)
	publish(&pealv1.PublishRequest{Topic: "b", Data: "not for this stream"})
	publish(&pealv1.PublishRequest{Topic: "a", Data: "the last", Final: true})
	expectInAnyOrder(t, c, `{"event":"the last"}`, `{"end":"a"}`)
	expectInAnyOrder(t, c, `{"state":"closed"}`, `{"done":true}`)
}

// expectInAnyOrder waits for lines that the client prints independently of each other.
func expectInAnyOrder(t *testing.T, c *nodeClient, want ...string) {
	t.Helper()

	left := map[string]bool{}
	for _, line := range want {
		left[line] = true
	}

	for len(left) > 0 {
		got := c.next(t)
		if !left[got] {
			t.Fatalf("the client printed %s, want one of %v", got, left)
		}

		delete(left, got)
	}
}
