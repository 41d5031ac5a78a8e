package main_test

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	main "github.com/peald/peald/cmd/pealctl"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// daemon is a fake control plane with configurable replies.
type daemon struct {
	pealv1.UnimplementedControlServiceServer

	addr string

	mu        sync.Mutex
	fail      error // returned by every call, if not nil
	broadcast []*pealv1.BroadcastRequest
	sent      []*pealv1.SendToUserRequest
	published []*pealv1.PublishRequest
	closed    []*pealv1.DisconnectRequest
	removed   []*pealv1.RemoveNodeRequest
	tokens    []*pealv1.CreateTokenRequest
	lists     []*pealv1.ListUsersRequest
	ending    bool                       // of all messages
	expiry    *pealv1.Message_ExpireTime // of all messages
	reads     []*pealv1.ListMessagesRequest
	listed    []*pealv1.ListRetainedRequest
	cleared   []*pealv1.ClearRetainedRequest
	pages     []*pealv1.ListUsersResponse
	hooks     []*pealv1.Hook
	tested    []string                 // the URLs in calls of TestHook
	testHook  *pealv1.TestHookResponse // returned by TestHook

	hooksMissing []string // the nodes that ListHooks reports as missing

	stats    func() *pealv1.StatsResponse
	pass     func(data string) // called with the data of a broadcast, if not nil
	metadata metadata.MD
}

func startDaemon(t *testing.T, opts ...grpc.ServerOption) *daemon {
	t.Helper()
	d := &daemon{}

	opts = append(opts, grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.metadata, _ = metadata.FromIncomingContext(ctx)
		if d.fail != nil {
			return nil, d.fail
		}
		return handle(ctx, req)
	}))

	d.addr = serve(t, d, opts...)

	return d
}

// serve serves a control plane, and returns its address.
func serve(t *testing.T, service pealv1.ControlServiceServer, opts ...grpc.ServerOption) (addr string) {
	t.Helper()
	server := grpc.NewServer(opts...)
	pealv1.RegisterControlServiceServer(server, service)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(listener) })

	t.Cleanup(func() {
		server.Stop()
		wg.Wait()
	})

	return listener.Addr().String()
}

func (d *daemon) Broadcast(_ context.Context, r *pealv1.BroadcastRequest) (*pealv1.BroadcastResponse, error) {
	d.broadcast = append(d.broadcast, r)
	if d.pass != nil {
		d.pass(r.GetData())
	}
	return &pealv1.BroadcastResponse{Id: "k3f9-1042", Recipients: 5000}, nil
}

func (d *daemon) SendToUser(_ context.Context, r *pealv1.SendToUserRequest) (*pealv1.SendToUserResponse, error) {
	d.sent = append(d.sent, r)
	return &pealv1.SendToUserResponse{Id: "k3f9-1043", Recipients: 2}, nil
}

func (d *daemon) Publish(_ context.Context, r *pealv1.PublishRequest) (*pealv1.PublishResponse, error) {
	d.published = append(d.published, r)
	return &pealv1.PublishResponse{Id: "k3f9-1044", Recipients: 7}, nil
}

func (d *daemon) ExplainTopic(_ context.Context, r *pealv1.ExplainTopicRequest) (*pealv1.ExplainTopicResponse, error) {
	reply := &pealv1.ExplainTopicResponse{Policies: 3}
	switch r.GetTopic() {
	case "prices.eur":
		reply.PolicyValue = &pealv1.ExplainTopicResponse_Policy{Policy: &pealv1.TopicPolicy{
			Pattern: "prices.>", Position: 2,
			MaxEventsValue:    &pealv1.TopicPolicy_MaxEvents{MaxEvents: 1},
			MaxAgeValue:       &pealv1.TopicPolicy_MaxAge{MaxAge: durationpb.New(time.Hour)},
			SlowConsumerValue: &pealv1.TopicPolicy_SlowConsumer{SlowConsumer: "conflate"},
			AnonymousValue:    &pealv1.TopicPolicy_Anonymous{Anonymous: true},
			RetainValue:       &pealv1.TopicPolicy_Retain{Retain: true},
		}}
	case "audit":
		reply.PolicyValue = &pealv1.ExplainTopicResponse_Policy{Policy: &pealv1.TopicPolicy{
			Pattern: "audit", Position: 3, MaxAgeValue: &pealv1.TopicPolicy_MaxAge{MaxAge: durationpb.New(0)},
		}}
	}
	return reply, nil
}

func (d *daemon) GetPosition(context.Context, *pealv1.GetPositionRequest) (*pealv1.GetPositionResponse, error) {
	return &pealv1.GetPositionResponse{Id: "k3f9-42"}, nil
}

func (d *daemon) Disconnect(_ context.Context, r *pealv1.DisconnectRequest) (*pealv1.DisconnectResponse, error) {
	d.closed = append(d.closed, r)
	return &pealv1.DisconnectResponse{Connections: 3}, nil
}

func (d *daemon) RemoveNode(_ context.Context, r *pealv1.RemoveNodeRequest) (*pealv1.RemoveNodeResponse, error) {
	d.removed = append(d.removed, r)
	return &pealv1.RemoveNodeResponse{Members: []string{"a", "c"}}, nil
}

// ListTopics returns two pages of one topic each.
func (d *daemon) ListTopics(_ context.Context, r *pealv1.ListTopicsRequest) (*pealv1.ListTopicsResponse, error) {
	if r.GetPageToken() == "" {
		return &pealv1.ListTopicsResponse{Topics: []*pealv1.Topic{{Topic: r.GetPrefix() + "news", Subscribers: 12}}, NextPageToken: "more"}, nil
	}
	return &pealv1.ListTopicsResponse{Topics: []*pealv1.Topic{{Topic: "orders.*", Subscribers: 1}}}, nil
}

func (d *daemon) CreateToken(_ context.Context, r *pealv1.CreateTokenRequest) (*pealv1.CreateTokenResponse, error) {
	d.tokens = append(d.tokens, r)
	return &pealv1.CreateTokenResponse{Token: "header.claims.signature", ExpiresAt: timestamppb.Now()}, nil
}

func (d *daemon) ListUsers(_ context.Context, r *pealv1.ListUsersRequest) (*pealv1.ListUsersResponse, error) {
	d.lists = append(d.lists, r)
	for i, page := range d.pages {
		if r.GetPageToken() == "" || (i > 0 && d.pages[i-1].GetNextPageToken() == r.GetPageToken()) {
			return page, nil
		}
	}
	return nil, status.Error(codes.InvalidArgument, "no such page")
}

func (d *daemon) Stats(context.Context, *pealv1.StatsRequest) (*pealv1.StatsResponse, error) {
	return d.stats(), nil
}

func (d *daemon) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// result is the result of a run of the program.
type result struct {
	stdout, stderr string
	status         int
}

type runOption func(*runOptions)

type runOptions struct {
	stdin string
	env   map[string]string
}

func withStdin(text string) runOption { return func(o *runOptions) { o.stdin = text } }

func withEnv(name, value string) runOption { return func(o *runOptions) { o.env[name] = value } }

// pealctl runs the program with the address of d.
func (d *daemon) pealctl(t *testing.T, args []string, opts ...runOption) result {
	t.Helper()
	return pealctl(t, append([]string{"--addr", d.addr}, args...), opts...)
}

func pealctl(t *testing.T, args []string, opts ...runOption) result {
	t.Helper()
	o := runOptions{env: map[string]string{}}
	for _, opt := range opts {
		opt(&o)
	}
	var stdout, stderr bytes.Buffer
	code := main.Run(t.Context(), args, func(name string) string { return o.env[name] }, strings.NewReader(o.stdin), &stdout, &stderr)
	return result{stdout: stdout.String(), stderr: stderr.String(), status: code}
}

// want fails the test unless the run succeeded with exactly this on stdout and
// nothing on stderr.
func (r result) want(t *testing.T, stdout string) {
	t.Helper()
	if r.status != 0 || r.stderr != "" || r.stdout != stdout {
		t.Fatalf("status %d\nstdout:\n%s\nwant:\n%s\nstderr:\n%s", r.status, r.stdout, stdout, r.stderr)
	}
}

// wantError fails the test unless the run failed with one line on stderr that
// contains all parts.
func (r result) wantError(t *testing.T, parts ...string) {
	t.Helper()
	r.wantStatus(t, 1, parts...)
}

// wantUsage is wantError for an invalid command line.
func (r result) wantUsage(t *testing.T, parts ...string) {
	t.Helper()
	r.wantStatus(t, 2, parts...)
}

func (r result) wantStatus(t *testing.T, status int, parts ...string) {
	t.Helper()
	if r.status != status || !strings.HasPrefix(r.stderr, "pealctl: ") || strings.Count(r.stderr, "\n") != 1 {
		t.Fatalf("status %d, stderr %q; want status %d and one line", r.status, r.stderr, status)
	}
	for _, part := range parts {
		if !strings.Contains(r.stderr, part) {
			t.Errorf("stderr is %q, want %q in it", r.stderr, part)
		}
	}
}

func violation(t *testing.T, fields ...string) error {
	t.Helper()
	bad := &errdetails.BadRequest{}
	for _, f := range fields {
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: f, Description: "is invalid"})
	}
	st, err := status.New(codes.InvalidArgument, "invalid request").WithDetails(bad)
	if err != nil {
		t.Fatal(err)
	}
	return st.Err()
}
