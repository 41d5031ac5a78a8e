package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// plane is a control plane on real sockets, with a gRPC client.
type plane struct {
	pealv1.ControlServiceClient

	service *control.Service
	conn    *grpc.ClientConn
	url     string // of REST
}

// start serves a control plane over gRPC and REST.
func start(tb testing.TB, cfg control.Config, b control.Broker, m control.Minter) *plane {
	tb.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(tb.Output(), nil))
	}
	if cfg.Drain == nil {
		cfg.Drain = func() {}
	}
	p := &plane{service: control.New(cfg, b, m)}
	tb.Cleanup(p.service.Close)

	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}

	server := p.service.GRPCServer()
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(listener); err != nil {
			tb.Errorf("serving gRPC: %v", err)
		}
	})
	tb.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})

	p.conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = p.conn.Close() })
	p.ControlServiceClient = pealv1.NewControlServiceClient(p.conn)

	rest, err := p.service.RESTHandler()
	if err != nil {
		tb.Fatal(err)
	}

	web := httptest.NewUnstartedServer(rest)
	web.Config.Protocols = new(http.Protocols)
	web.Config.Protocols.SetHTTP1(true)
	web.Config.Protocols.SetUnencryptedHTTP2(true)
	web.Start()
	tb.Cleanup(web.Close)

	p.url = web.URL
	p.service.SetServing(true)
	return p
}

// startBroker returns a real broker, which retains up to 3 values.
func startBroker(tb testing.TB) *broker.Broker {
	tb.Helper()
	b := broker.New(broker.Config{
		Shards:       2,
		QueueBytes:   1 << 20,
		SlowConsumer: broker.Disconnect,
		Heartbeat:    time.Minute,
		Retry:        time.Second,
		WriteTimeout: time.Minute,

		History:           broker.History{MaxEvents: 10_000, MaxBytes: 64 << 20, MaxAge: time.Minute},
		Retain:            broker.Retain{MaxEvents: 3, MaxBytes: 1 << 20},
		IdempotencyWindow: time.Minute,
	})
	tb.Cleanup(b.Close)
	return b
}

// stream opens a stream for user, and returns the sink that receives its bytes.
func stream(tb testing.TB, b *broker.Broker, user string, topics ...string) *sink {
	tb.Helper()
	s := &sink{grown: make(chan struct{}, 1)}
	s.Stream = b.NewStream(broker.Subscription{User: user, Topics: topics})
	if err := s.Start(s, broker.Opening{}); err != nil {
		tb.Fatal(err)
	}
	return s
}

type sink struct {
	*broker.Stream

	mu    sync.Mutex
	bytes bytes.Buffer
	grown chan struct{}
}

func (s *sink) Write(pieces [][]byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range pieces {
		s.bytes.Write(p)
		n += len(p)
	}
	select {
	case s.grown <- struct{}{}:
	default:
	}
	return n, nil
}

func (s *sink) Close(broker.Reason) {}

// text returns the bytes that the stream has received.
func (s *sink) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes.String()
}

// waitFor waits until the stream has received text.
func (s *sink) waitFor(t *testing.T, text string) {
	t.Helper()
	for {
		got := s.text()
		if strings.Contains(got, text) {
			return
		}
		select {
		case <-s.grown:
		case <-time.After(time.Minute):
			t.Fatalf("the stream didn't receive %q, only %q", text, got)
		}
	}
}

// fakeBroker is a broker whose results a test sets.
type fakeBroker struct {
	publish func(broker.Message) (broker.Receipt, error)
	users   []broker.User
	stats   broker.Stats
	latency broker.Histogram
}

func (f *fakeBroker) Publish(_ context.Context, m broker.Message) (broker.Receipt, error) {
	if f.publish == nil {
		return broker.Receipt{ID: "e-1"}, nil
	}
	return f.publish(m)
}

func (f *fakeBroker) RetainedAudiences(context.Context, broker.RetainedList) (broker.RetainedPage, error) {
	return broker.RetainedPage{}, nil
}

func (f *fakeBroker) ClearRetained(context.Context, broker.Clear) (int, error) { return 0, nil }

func (f *fakeBroker) Users(string, string, int) []broker.User { return f.users }

func (f *fakeBroker) Topics(string, string, int) []broker.Topic { return nil }

func (f *fakeBroker) Subscribers(context.Context, broker.SubscriberList) (broker.Subscribers, error) {
	return broker.Subscribers{}, broker.ErrClosed
}

func (f *fakeBroker) Stats() broker.Stats { return f.stats }

func (f *fakeBroker) Latency() broker.Histogram { return f.latency }

func (f *fakeBroker) Disconnect(string, time.Duration) (int, error) { return 0, nil }

func (f *fakeBroker) Watch() (*broker.Watch, error) { return nil, broker.ErrClosed }

func (f *fakeBroker) WatchTopic(context.Context, string) (*broker.Watch, error) {
	return nil, broker.ErrClosed
}

func (f *fakeBroker) Position() (string, error) { return "", broker.ErrClosed }

func (f *fakeBroker) ReadMessages(context.Context, broker.Read) (broker.ReadPage, error) {
	return broker.ReadPage{}, broker.ErrClosed
}

func (f *fakeBroker) Tap(broker.Audience, string) (*broker.Tap, error) { return nil, broker.ErrClosed }

// answer is a REST response with its body.
type answer struct {
	*http.Response

	body string
}

func (p *plane) do(tb testing.TB, method, path, body string, header ...string) answer {
	tb.Helper()
	resp := p.begin(tb, method, path, body, header...)
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	resp.body = string(data)
	return resp
}

// begin is like do for a response whose body has no end.
func (p *plane) begin(tb testing.TB, method, path, body string, header ...string) answer {
	tb.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(tb.Context(), method, p.url+path, reader)
	if err != nil {
		tb.Fatal(err)
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
	tb.Cleanup(func() { _ = resp.Body.Close() })
	return answer{Response: resp}
}

// failure is an error as callers receive it, over gRPC or REST.
type failure struct {
	code    codes.Code
	message string
	reason  string
	fields  map[string]string
}

func failureOf(tb testing.TB, err error) failure {
	tb.Helper()
	st, ok := status.FromError(err)
	if !ok || err == nil {
		tb.Fatalf("%v is not a gRPC status", err)
	}
	f := failure{code: st.Code(), message: st.Message(), fields: map[string]string{}}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() != "peald" {
				tb.Errorf("ErrorInfo has the domain %q", d.GetDomain())
			}
			f.reason = d.GetReason()
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				f.fields[v.GetField()] = v.GetDescription()
			}
		}
	}
	return f
}

// failure parses an error response with encoding/json, as a client would.
func (a answer) failure(tb testing.TB) failure {
	tb.Helper()
	if a.StatusCode < 400 {
		tb.Fatalf("status %s: %s", a.Status, a.body)
	}

	if got := a.Header.Get("Content-Type"); got != "application/json" {
		tb.Errorf("Content-Type %q", got)
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

	if err := json.Unmarshal([]byte(a.body), &body); err != nil || body.Code == nil {
		tb.Fatalf("not a google.rpc.Status (%v): %s", err, a.body)
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

var _ control.Broker = (*broker.Broker)(nil)
