package rest_test

import (
	"bufio"
	"context"
	"encoding/json"
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
	"github.com/peald/peald/internal/testbed"
)

// blockingBroker is a broker whose Publish blocks until its context is done or
// finish is closed.
type blockingBroker struct {
	fakeBroker

	entered  chan struct{} // closed when Publish blocks
	finish   chan struct{} // closed to make Publish return
	returned chan error    // receives the context's error when Publish returns
}

func newBlockingBroker() *blockingBroker {
	return &blockingBroker{entered: make(chan struct{}), finish: make(chan struct{}), returned: make(chan error, 1)}
}

func (b *blockingBroker) Publish(ctx context.Context, _ broker.Message) (broker.Receipt, error) {
	close(b.entered)

	select {
	case <-ctx.Done():
	case <-b.finish:
	}

	b.returned <- ctx.Err()

	return broker.Receipt{ID: "e-1"}, context.Cause(ctx)
}

// halfClose sends request, closes the sending side and returns the response.
func (s server) halfClose(t *testing.T, request string) response {
	t.Helper()

	conn := s.dial(t, request)
	defer func() { _ = conn.Close() }()

	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}

	return readResponse(t, conn)
}

// halfClosedCalls is the number of calls of each RPC by a client that closes its
// sending side. A third of the calls would fail if closing the sending side
// canceled them.
const halfClosedCalls = 40

// bodyOf returns a valid body for a call to an operation.
func bodyOf(method, operation string) string {
	switch operation {
	case "ControlService_Broadcast", "ControlService_SendToUser", "ControlService_Publish":
		return `{"data":"hi"}`
	case "ControlService_PublishMessage":
		return `{"topic":"x","data":"hi"}`
	case "ControlService_PublishBatch":
		return `{"messages":[{"topic":"x","data":"hi"}]}`
	case "ControlService_CreateToken":
		return `{"userId":"alice"}`
	}

	if method == "get" {
		return ""
	}

	return "{}"
}

// queryOf returns a valid query for a call to an operation.
func queryOf(operation string) string {
	if operation == "ControlService_ClearRetained4" {
		return "?all=true"
	}

	return ""
}

// cloudEventsOperation is the only operation without an RPC.
const cloudEventsOperation = "ControlService_PublishCloudEvents"

func TestHalfClosedClientsGetTheResponse(t *testing.T) {
	t.Parallel()

	s := startServer(t, control.Config{}, startBroker(t), stubMinter{})

	var document struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		} `json:"paths"`
	}
	if err := json.Unmarshal([]byte(s.do(t, http.MethodGet, "/openapi.json", "").body), &document); err != nil {
		t.Fatal(err)
	}

	for path, operations := range document.Paths {
		for method, operation := range operations {
			if operation.OperationID == "ControlService_Tail" {
				continue // long-lived
			}

			body := bodyOf(method, operation.OperationID)
			if operation.OperationID == cloudEventsOperation {
				body = event("1", `,"subject":"x","data":1`)
			}
			request := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/cloudevents+json\r\nContent-Length: %d\r\n\r\n%s",
				strings.ToUpper(method), pathVariable.ReplaceAllString(path, "x")+queryOf(operation.OperationID), len(body), body)

			t.Run(operation.OperationID, func(t *testing.T) {
				t.Parallel()

				for range halfClosedCalls {
					got := s.halfClose(t, request)
					if got.StatusCode != http.StatusOK || strings.Contains(got.body, `"error":{`) {
						t.Fatalf("response %s %s, want 200", got.Status, got.body)
					}
				}
			})
		}
	}
}

// eofListener closes eof when the server has read the end of a connection.
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

// A call isn't canceled when the server reads the end of the client's connection
// while the call is in progress.
func TestHalfCloseDuringACall(t *testing.T) {
	t.Parallel()

	b := newBlockingBroker()
	web := httptest.NewUnstartedServer(newHandler(t, control.Config{}, b, nil))
	web.Listener = &eofListener{web.Listener, b.finish}
	web.Start()
	t.Cleanup(web.Close)

	got := server{web.URL}.halfClose(t, "POST /v1/broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n{\"data\":\"hi\"}")
	if got.StatusCode != http.StatusOK {
		t.Fatalf("response %s %s, want 200", got.Status, got.body)
	}

	if err := <-b.returned; err != nil {
		t.Errorf("the call's context ended: %v", err)
	}
}

// Over HTTP/2 a client can cancel a request, which cancels the gRPC call.
func TestCallerCancels(t *testing.T) {
	t.Parallel()

	b := newBlockingBroker()
	s := startServer(t, control.Config{}, b, nil)
	client := &http.Transport{Protocols: new(http.Protocols)}
	client.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(client.CloseIdleConnections)

	ctx, cancel := context.WithCancel(t.Context())

	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/broadcast", strings.NewReader(`{"data":"hi"}`))
	if err != nil {
		t.Fatal(err)
	}

	go func() {
		<-b.entered
		cancel()
	}()

	if resp, err := client.RoundTrip(r); err == nil {
		_ = resp.Body.Close()
		t.Errorf("response %s, want an error", resp.Status)
	}

	if err := <-b.returned; !errors.Is(err, context.Canceled) {
		t.Errorf("the call's context ended with %v, want context.Canceled", err)
	}
}

// The error for a call whose context ends has the same form as all other errors.
func TestErrorsOfEndedContexts(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		withEnd func(context.Context) (context.Context, context.CancelFunc)
		status  int
		code    codes.Code
		reason  string
	}{
		"canceled": {context.WithCancel, 499, codes.Canceled, "CANCELLED"},
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Millisecond)
		}, http.StatusGatewayTimeout, codes.DeadlineExceeded, "DEADLINE_EXCEEDED"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			b := newBlockingBroker()
			handler := newHandler(t, control.Config{}, b, nil)

			ctx, cancel := test.withEnd(t.Context())
			defer cancel()

			if name == "canceled" {
				go func() {
					<-b.entered
					cancel()
				}()
			}

			r := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/v1/broadcast", strings.NewReader(`{"data":"hi"}`))
			if name == "canceled" {
				r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
			}

			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)

			got := response{w.Result(), w.Body.String()}
			if f := got.failure(t); got.StatusCode != test.status || f.code != test.code || f.reason != test.reason {
				t.Errorf("response %s %+v, want status %d, code %v and reason %s", got.Status, f, test.status, test.code, test.reason)
			}
		})
	}
}

// A tail is long-lived: it ends when its client closes its sending side. That is
// all the server notices when most clients disconnect.
func TestTailEndsWithItsClient(t *testing.T) {
	t.Parallel()

	log := &testbed.Log{}
	s := startServer(t, control.Config{Logger: slog.New(slog.NewTextHandler(log, nil))}, startBroker(t), nil)

	conn := s.dial(t, "GET /v1/tail HTTP/1.1\r\nHost: localhost\r\n\r\n")

	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", resp, err)
	}

	lines := bufio.NewReader(resp.Body)
	if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, "position") {
		t.Fatalf("first line %q, %v, want a position", line, err)
	}

	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}

	if !testbed.Eventually(time.Minute, func() bool { return len(log.With("msg=audit", "method=Tail")) == 1 }) {
		t.Errorf("the tail didn't end: %s", log)
	}
}
