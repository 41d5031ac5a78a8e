package examples_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tmaxmax/go-sse"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

// ordersExample is an example that publishes that an order is paid, and thanks the
// user.
type ordersExample struct {
	// The example's folder, and its language as in its messages.
	folder, language string

	// The commands that the example needs, each of which must succeed.
	needs []string

	// Whether it calls REST and not gRPC.
	rest bool
}

func TestCPP(t *testing.T) {
	t.Parallel()

	if os.Getenv("EXAMPLE_CPP") == "" {
		t.Skip("compiling the stubs for C++ takes about 20 CPU seconds; make check-cpp runs this test")
	}

	testOrders(t, ordersExample{
		folder: "cpp", language: "C++",
		needs: []string{
			"command -v g++ && command -v make && command -v pkg-config && command -v protoc && command -v grpc_cpp_plugin",
			"pkg-config --exists grpc++ protobuf",
		},
	})
}

func TestJava(t *testing.T) {
	t.Parallel()
	testOrders(t, ordersExample{
		folder: "java", language: "Java",
		needs: []string{
			"command -v javac && command -v protoc && command -v grpc_java_plugin",
			"grep -o '/usr/share/java/[^:\"]*' java/classpath | xargs ls",
		},
	})
}

func TestPHP(t *testing.T) {
	t.Parallel()
	testOrders(t, ordersExample{
		folder: "php", language: "PHP", rest: true,
		needs: []string{"php -r 'exit(function_exists(\"curl_init\") ? 0 : 1);'"},
	})
}

func TestRuby(t *testing.T) {
	t.Parallel()
	testOrders(t, ordersExample{
		folder: "ruby", language: "Ruby",
		needs: []string{"ruby -rgrpc -rgoogle/rpc/error_details_pb -e ''", "command -v grpc_tools_ruby_protoc"},
	})
}

// testOrders runs an example as its README describes. Its messages must arrive
// once, although the reply to its first call is lost. It must recognize the reason
// of an error, fail with a wrong control token, and give up on a daemon that
// doesn't reply.
func testOrders(t *testing.T, e ordersExample) {
	t.Helper()

	program := e.build(t)

	t.Run("deadline", func(t *testing.T) {
		t.Parallel()

		silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()

		_, out, err := program.run(t, silent.Addr().String(), controlToken, "alice", "7")
		if exit := new(exec.ExitError); !errors.As(err, &exit) || !regexp.MustCompile(`(?i)DeadlineExceeded|DEADLINE_EXCEEDED|code 4\b|timed out`).MatchString(out) {
			t.Errorf("without a reply from the daemon: error %v, want a failure that mentions the deadline; output:\n%s", err, out)
		}
	})

	t.Run("delivery", func(t *testing.T) {
		t.Parallel()
		testOrdersArrive(t, e, program)
	})
}

func testOrdersArrive(t *testing.T, e ordersExample, program ordersProgram) {
	t.Helper()

	d := pealdtest.Start(t, func(cfg *daemon.Config) {
		cfg.Control.Tokens = []daemon.Token{{Name: "examples", Token: controlToken}}
	})
	control := d.Control(t)

	token, err := control.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: "alice", Topics: []string{"orders.*"}})
	if err != nil {
		t.Fatal(err)
	}

	stream := open(t, d.Events(t, "")+"?"+url.Values{"access_token": {token.GetToken()}, "topic": {"orders.*"}}.Encode())

	addr := d.GRPC
	if e.rest {
		addr = d.REST
	}

	replies := regexp.MustCompile(`^To orders\.7: event (\S+), queued to 1 streams\nTo alice: event (\S+), queued to 1 streams\n$`)
	proxy, lost := loseFirstReply(t, addr, !e.rest)

	out, diagnostics, err := program.run(t, proxy, controlToken, "alice", "7")
	ids := replies.FindStringSubmatch(out)

	if err != nil || ids == nil {
		t.Fatalf("error %v, want both replies; output:\n%s%s", err, out, diagnostics)
	}

	if !lost.Load() {
		t.Error("no reply was lost, so the example didn't have to repeat a call")
	}

	// The topic's message is the same again, but the one to the user isn't.
	repeated := fmt.Sprintf("To orders.7: event %s, queued to 1 streams\nAnother user was already thanked for order 7\n", ids[1])
	if out, diagnostics, err := program.run(t, addr, controlToken, "bob", "7"); err != nil || out != repeated {
		t.Errorf("with the same keys and another user: error %v, want none; output:\n%s%swant:\n%s", err, out, diagnostics, repeated)
	}

	if _, out, err := program.run(t, addr, "a-wrong-one", "alice", "8"); err == nil || !strings.Contains(out, "CONTROL_TOKEN_UNKNOWN") {
		t.Errorf("with a wrong control token: error %v, want a failure that prints CONTROL_TOKEN_UNKNOWN; output:\n%s", err, out)
	}

	if _, err := control.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "the end"}); err != nil {
		t.Fatal(err)
	}

	want := []sse.Event{
		{LastEventID: ids[1], Type: "paid", Data: "Order 7 is paid ☀\n(from " + e.language + ")"},
		{LastEventID: ids[2], Type: "individual", Data: "Thank you for order 7, from " + e.language},
		{Type: "broadcast", Data: "the end"},
	}

	for i, got := range receive(t, stream, len(want)) {
		want[i].LastEventID = ""
		if got != want[i] {
			t.Errorf("event %d of alice's stream is %q, want %q", i+1, got, want[i])
		}
	}
}

// ordersProgram is an example that has been built.
type ordersProgram struct {
	dir     string
	command []string
}

// build runs the commands in the example's README, in a copy of the folders that
// they use. It skips the command that installs packages. The last command, without
// its arguments, is that of the returned program.
func (e ordersExample) build(t *testing.T) ordersProgram {
	t.Helper()

	for _, command := range e.needs {
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput(); err != nil {
			testbed.Missingf(t, "the %s example needs what its README installs; this failed: %s: %v\n%s", e.language, command, err, out)
		}
	}

	root := t.TempDir()
	dir := filepath.Join(root, "examples", e.folder)

	for to, from := range map[string]string{
		filepath.Join(root, "proto"):             filepath.Join("..", "proto"),
		filepath.Join(root, "examples", "proto"): "proto",
		dir:                                      e.folder,
	} {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}

	readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}

	var commands []string

	for _, match := range regexp.MustCompile(`(?m)^    (.+)$`).FindAllStringSubmatch(string(readme), -1) {
		if !strings.HasPrefix(match[1], "sudo apt-get install ") {
			commands = append(commands, match[1])
		}
	}

	last := len(commands) - 1
	if last < 1 || commands[0] != "cd examples/"+e.folder || !strings.HasSuffix(commands[last], " alice 7") {
		t.Fatalf("the README has the commands %q, want them to begin with cd examples/%s, and to end with the arguments alice 7", commands, e.folder)
	}

	build := exec.CommandContext(t.Context(), "sh", "-ec", strings.Join(commands[:last], "\n"))
	build.Dir = root
	build.Env = append(os.Environ(), quick()...)

	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", commands[:last], err, out)
	}

	return ordersProgram{dir: dir, command: strings.Fields(strings.TrimSuffix(commands[last], " alice 7"))}
}

// quick returns variables for compilers and programs that run for a moment.
func quick() []string {
	return []string{"CXXFLAGS=-O0", "JAVA_TOOL_OPTIONS=-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}
}

// run runs the program against the daemon at addr and returns what it writes to
// stdout and to stderr.
func (p ordersProgram) run(t *testing.T, addr, token, user, order string) (stdout, stderr string, err error) {
	t.Helper()

	cmd := exec.CommandContext(t.Context(), p.command[0], append(p.command[1:], user, order)...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PEALCTL_ADDR="+addr, "PEALCTL_REST_URL=http://"+addr, "PEALCTL_TOKEN="+token)
	cmd.Env = append(cmd.Env, quick()...)

	var out, diagnostics bytes.Buffer

	cmd.Stdout, cmd.Stderr = &out, &diagnostics
	err = cmd.Run()

	return out.String(), diagnostics.String(), err
}

// loseFirstReply returns the address of a proxy for addr. It closes the first
// connection when the reply to the first call arrives, doesn't pass it on, and sets
// lost. Later connections aren't disturbed.
func loseFirstReply(t *testing.T, addr string, overHTTP2 bool) (proxy string, lost *atomic.Bool) {
	t.Helper()

	lost = new(atomic.Bool)

	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())

	var wg sync.WaitGroup

	t.Cleanup(func() {
		cancel()

		_ = listener.Close()

		wg.Wait()
	})

	wg.Go(func() {
		for first := true; ; first = false {
			client, err := listener.Accept()
			if err != nil {
				return
			}

			reply := io.Copy
			if first {
				reply = func(to io.Writer, from io.Reader) (int64, error) {
					err := copyUntilReply(to, from, overHTTP2)
					lost.Store(err == nil)

					return 0, err
				}
			}

			wg.Go(func() { relay(ctx, client, addr, reply) })
		}
	})

	return listener.Addr().String(), lost
}

// relay connects client to addr until either side closes the connection, ctx ends,
// or reply, which copies what the server sends, returns.
func relay(ctx context.Context, client net.Conn, addr string, reply func(io.Writer, io.Reader) (int64, error)) {
	defer client.Close()

	server, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return
	}
	defer server.Close()

	var wg sync.WaitGroup
	defer wg.Wait()

	ended, end := context.WithCancel(ctx)
	defer end()

	wg.Go(func() {
		<-ended.Done()

		_ = client.Close()
		_ = server.Close()
	})
	wg.Go(func() {
		defer end()

		_, _ = io.Copy(server, client)
	})

	_, _ = reply(client, server)
}

// copyUntilReply copies what a server sends before its first response: nothing, or
// the HTTP/2 frames before the first headers.
func copyUntilReply(to io.Writer, from io.Reader, overHTTP2 bool) error {
	const headerSize, headers = 9, 1

	buffered := bufio.NewReader(from)

	for {
		header, err := buffered.Peek(headerSize)
		if err != nil || !overHTTP2 || header[3] == headers {
			return err
		}

		length := binary.BigEndian.Uint32(header) >> 8
		if _, err := io.CopyN(to, buffered, headerSize+int64(length)); err != nil {
			return err
		}
	}
}
