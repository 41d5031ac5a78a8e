package control_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control"
	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/pealdtest"
)

// waiting is a broker whose Publish waits until its context ends or finish is
// closed.
type waiting struct {
	fake

	entered chan struct{} // closed when Publish waits
	finish  chan struct{} // closed for Publish to return
	gone    chan error    // receives why Publish stopped waiting
}

func newWaiting() *waiting {
	return &waiting{entered: make(chan struct{}), finish: make(chan struct{}), gone: make(chan error, 1)}
}

func (w *waiting) Publish(ctx context.Context, _ broker.Message) (broker.Receipt, error) {
	close(w.entered)

	select {
	case <-ctx.Done():
	case <-w.finish:
	}

	w.gone <- ctx.Err()

	return broker.Receipt{ID: "e-1"}, context.Cause(ctx)
}

// dialREST connects to addr and sends request.
func dialREST(t *testing.T, addr, request string) *net.TCPConn {
	t.Helper()

	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = conn.Close() })

	_ = conn.SetDeadline(time.Now().Add(time.Minute))

	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}

	return conn.(*net.TCPConn)
}

// halfClose sends request to addr, shuts down the sending side and returns the
// whole response.
func halfClose(t *testing.T, addr, request string) answer {
	t.Helper()

	conn := dialREST(t, addr, request)
	defer func() { _ = conn.Close() }()

	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}

	return readAnswer(t, conn)
}

func readAnswer(t *testing.T, conn io.Reader) answer {
	t.Helper()

	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}

	defer func() { _ = resp.Body.Close() }()

	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}

	return answer{resp, string(body)}
}

// halfClosing is the number of calls of each kind by a client that half-closes. A
// third of the calls failed when the client's end of sending canceled them.
const halfClosing = 40

func TestRESTAnswersHalfClosedClients(t *testing.T) {
	t.Parallel()

	p := start(t, control.Config{Membership: members{}}, startBroker(t), stubMinter{})
	addr := strings.TrimPrefix(p.url, "http://")

	for name, call := range calls() {
		if call.path == "" || name == "Tail" {
			continue
		}

		request := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s",
			call.method, call.path, len(call.body), call.body)

		t.Run(name, func(t *testing.T) {
			t.Parallel()

			for range halfClosing {
				got := halfClose(t, addr, request)
				if got.StatusCode != http.StatusOK || strings.Contains(got.body, `"error"`) {
					t.Fatalf("%s %s", got.Status, got.body)
				}
			}
		})
	}
}

// eofListener reports on eof that the server has read the end of a connection.
type eofListener struct {
	net.Listener

	eof chan struct{}
}

func (l *eofListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()

	return &eofConn{conn, sync.OnceFunc(func() { close(l.eof) })}, err
}

type eofConn struct {
	net.Conn

	end func()
}

func (c *eofConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		c.end()
	}

	return n, err
}

// A call that waits isn't canceled when the server reads the end of the
// client's connection.
func TestRESTHalfCloseDuringCall(t *testing.T) {
	t.Parallel()

	slow := newWaiting()
	service := control.New(control.Config{Logger: slog.New(slog.DiscardHandler)}, slow, nil)
	t.Cleanup(service.Close)

	rest, err := service.RESTHandler()
	if err != nil {
		t.Fatal(err)
	}

	web := httptest.NewUnstartedServer(rest)
	listener := &eofListener{web.Listener, slow.finish}
	web.Listener = listener
	web.Start()
	t.Cleanup(web.Close)

	got := halfClose(t, listener.Addr().String(), "POST /v1/broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n{\"data\":\"hi\"}")
	if got.StatusCode != http.StatusOK {
		t.Fatalf("%s %s", got.Status, got.body)
	}

	if err := <-slow.gone; err != nil {
		t.Errorf("the call's context: %v", err)
	}
}

// Over HTTP/2 a client can cancel a request, and that ends the call inside.
func TestRESTCallerCancels(t *testing.T) {
	t.Parallel()

	slow := newWaiting()
	p := start(t, control.Config{}, slow, nil)
	client := &http.Transport{Protocols: new(http.Protocols)}
	client.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(client.CloseIdleConnections)

	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/v1/broadcast", strings.NewReader(`{"data":"hi"}`))
	if err != nil {
		t.Fatal(err)
	}

	go func() {
		<-slow.entered
		cancel()
	}()

	if resp, err := client.RoundTrip(r); err == nil {
		_ = resp.Body.Close()
		t.Errorf("an answer: %s", resp.Status)
	}

	if err := <-slow.gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A call whose context ends is answered like any other error.
func TestRESTErrorsOfEndedContexts(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		end    func(context.Context) (context.Context, context.CancelFunc)
		status int
		code   codes.Code
		reason string
	}{
		"canceled": {context.WithCancel, 499, codes.Canceled, "CANCELLED"},
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Millisecond)
		}, http.StatusGatewayTimeout, codes.DeadlineExceeded, "DEADLINE_EXCEEDED"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			slow := newWaiting()
			service := control.New(control.Config{Logger: slog.New(slog.DiscardHandler)}, slow, nil)
			t.Cleanup(service.Close)

			rest, err := service.RESTHandler()
			if err != nil {
				t.Fatal(err)
			}

			ctx, cancel := test.end(t.Context())
			defer cancel()

			if name == "canceled" {
				go func() {
					<-slow.entered
					cancel()
				}()
			}

			r := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/v1/broadcast", strings.NewReader(`{"data":"hi"}`))
			if name == "canceled" {
				r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
			}

			w := httptest.NewRecorder()
			rest.ServeHTTP(w, r)

			got := answer{w.Result(), w.Body.String()}
			if f := got.failure(t); got.StatusCode != test.status || f.code != test.code || f.reason != test.reason {
				t.Errorf("%s %+v", got.Status, f)
			}
		})
	}
}

// A tail has no end of its own: it ends when its client shuts down its sending
// side, which is all that is seen of most clients that leave.
func TestTailEndsWithItsClient(t *testing.T) {
	t.Parallel()

	log := &pealdtest.Log{}
	p := start(t, control.Config{Logger: slog.New(slog.NewTextHandler(log, nil))}, startBroker(t), nil)

	conn := dialREST(t, strings.TrimPrefix(p.url, "http://"), "GET /v1/tail HTTP/1.1\r\nHost: localhost\r\n\r\n")

	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", resp, err)
	}

	lines := bufio.NewReader(resp.Body)
	if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, "position") {
		t.Fatalf("%q, %v", line, err)
	}

	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}

	if !pealdtest.Eventually(time.Minute, func() bool { return len(log.With("msg=audit", "method=Tail")) == 1 }) {
		t.Errorf("the tail doesn't end: %s", log)
	}
}
