package rest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control"
	"github.com/peald/peald/internal/broker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is the REST side of a control plane on a real socket.
type server struct{ url string }

// startServer serves a control plane with the given parts.
func startServer(tb testing.TB, cfg control.Config, b control.Broker, m control.Minter) server {
	tb.Helper()

	web := httptest.NewUnstartedServer(newHandler(tb, cfg, b, m))
	web.Config.Protocols = new(http.Protocols)
	web.Config.Protocols.SetHTTP1(true)
	web.Config.Protocols.SetUnencryptedHTTP2(true)
	web.Start()
	tb.Cleanup(web.Close)

	return server{web.URL}
}

// newHandler returns the REST handler of a control plane that is serving.
func newHandler(tb testing.TB, cfg control.Config, b control.Broker, m control.Minter) http.Handler {
	tb.Helper()

	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(tb.Output(), nil))
	}

	cfg.Drain = func() {}
	cfg.Membership = members{}
	cfg.Hooks = hooks{}

	service := control.New(cfg, b, m)
	tb.Cleanup(service.Close)

	handler, err := service.RESTHandler()
	if err != nil {
		tb.Fatal(err)
	}

	service.SetServing(true)

	return handler
}

// members is a cluster from which any node can be removed.
type members struct{}

func (members) Remove(context.Context, string) ([]string, error) { return []string{"a"}, nil }

// hooks is a single webhook, whose receiver accepts test messages.
type hooks struct{}

const hookURL = "https://app.example/hooks"

func (hooks) Status() []control.Hook { return []control.Hook{{URL: hookURL}} }

func (hooks) Test(_ context.Context, url string) (control.HookTest, bool) {
	return control.HookTest{URL: hookURL, MessageID: "test-1", Status: http.StatusNoContent}, url == "" || url == hookURL
}

type stubMinter struct{}

func (stubMinter) Mint(string, []string, time.Duration) (string, time.Time, error) {
	return "token", time.Unix(2e9, 0), nil
}

func startBroker(tb testing.TB) *broker.Broker {
	tb.Helper()

	b := broker.New(broker.Config{
		Shards:       2,
		QueueBytes:   1 << 20,
		SlowConsumer: broker.Disconnect,
		Heartbeat:    time.Minute,
		Retry:        time.Second,
		WriteTimeout: time.Minute,
		History:      broker.History{MaxEvents: 100, MaxBytes: 1 << 20, MaxAge: time.Minute},
	})
	tb.Cleanup(b.Close)

	return b
}

// fakeBroker accepts every message and has no streams.
type fakeBroker struct{ stats broker.Stats }

func (f *fakeBroker) Publish(context.Context, broker.Message) (broker.Receipt, error) {
	return broker.Receipt{ID: "e-1"}, nil
}

func (f *fakeBroker) RetainedAudiences(context.Context, broker.RetainedList) (broker.RetainedPage, error) {
	return broker.RetainedPage{}, nil
}

func (f *fakeBroker) ClearRetained(context.Context, broker.Clear) (int, error) { return 0, nil }

func (f *fakeBroker) Users(string, string, int) []broker.User { return nil }

func (f *fakeBroker) Topics(string, string, int) []broker.Topic { return nil }

func (f *fakeBroker) Subscribers(context.Context, broker.SubscriberList) (broker.Subscribers, error) {
	return broker.Subscribers{}, broker.ErrClosed
}

func (f *fakeBroker) Stats() broker.Stats { return f.stats }

func (f *fakeBroker) Latency() broker.Histogram { return broker.Histogram{} }

func (f *fakeBroker) Disconnect(string, time.Duration) (int, error) { return 0, nil }

func (f *fakeBroker) Watch() (*broker.Watch, error) { return nil, broker.ErrClosed }

func (f *fakeBroker) WatchTopic(context.Context, string) (*broker.Watch, error) {
	return nil, broker.ErrClosed
}

func (f *fakeBroker) Position() (string, error) { return "", broker.ErrClosed }

func (f *fakeBroker) ReadMessages(context.Context, broker.Read) (broker.ReadPage, error) {
	return broker.ReadPage{Position: "e-1"}, nil
}

func (f *fakeBroker) Tap(broker.Audience, string) (*broker.Tap, error) { return nil, broker.ErrClosed }

// response is an HTTP response with its body.
type response struct {
	*http.Response

	body string
}

// do sends a request and returns the complete response. Header holds alternating
// names and values; Host sets the request's host.
func (s server) do(tb testing.TB, method, path, body string, header ...string) response {
	tb.Helper()

	r, err := http.NewRequestWithContext(tb.Context(), method, s.url+path, http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}

	if body != "" {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}

	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}

		r.Header.Add(header[i], header[i+1])
	}

	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		tb.Fatal(err)
	}

	return readBody(tb, resp)
}

func readBody(tb testing.TB, resp *http.Response) response {
	tb.Helper()

	defer func() { _ = resp.Body.Close() }()

	body, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}

	return response{resp, string(body)}
}

// dial connects to the server and sends raw bytes.
func (s server) dial(tb testing.TB, request string) *net.TCPConn {
	tb.Helper()

	conn, err := new(net.Dialer).DialContext(tb.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		tb.Fatal(err)
	}

	tb.Cleanup(func() { _ = conn.Close() })

	_ = conn.SetDeadline(time.Now().Add(time.Minute))

	if _, err := io.WriteString(conn, request); err != nil {
		tb.Fatal(err)
	}

	return conn.(*net.TCPConn)
}

// readResponse reads a response from a connection.
func readResponse(tb testing.TB, conn io.Reader) response {
	tb.Helper()

	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		tb.Fatal(err)
	}

	return readBody(tb, resp)
}

// failure is an error response.
type failure struct {
	code    codes.Code
	message string
	reason  string
	fields  map[string]string
}

// failure parses an error response with encoding/json, as a client would.
func (r response) failure(tb testing.TB) failure {
	tb.Helper()

	if r.StatusCode < 400 {
		tb.Fatalf("status %s: %s", r.Status, r.body)
	}

	if got := r.Header.Get("Content-Type"); got != "application/json" {
		tb.Errorf("Content-Type %q, want application/json", got)
	}

	var body struct {
		Code    *codes.Code `json:"code"`
		Message string      `json:"message"`
		Details []struct {
			Type            string `json:"@type"`
			Reason          string `json:"reason"`
			FieldViolations []struct {
				Field       string `json:"field"`
				Description string `json:"description"`
			} `json:"fieldViolations"`
		} `json:"details"`
	}
	if err := json.Unmarshal([]byte(r.body), &body); err != nil || body.Code == nil {
		tb.Fatalf("not a google.rpc.Status (%v): %s", err, r.body)
	}

	f := failure{code: *body.Code, message: body.Message, fields: map[string]string{}}

	for _, d := range body.Details {
		if d.Type == "type.googleapis.com/google.rpc.ErrorInfo" {
			f.reason = d.Reason
		}

		for _, v := range d.FieldViolations {
			f.fields[v.Field] = v.Description
		}
	}

	return f
}
