package control_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// call is an RPC over gRPC and REST; path is empty if REST doesn't have it.
type call struct {
	scope        string
	grpc         func(context.Context, pealv1.ControlServiceClient) error
	method, path string
	body         string
	longLived    bool // the REST response has no end
}

func calls() map[string]call {
	return map[string]call{
		"Broadcast": {control.ScopePublish, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			return errOf(c.Broadcast(ctx, &pealv1.BroadcastRequest{Data: "hi"}))
		}, "POST", "/v1/broadcast", `{"data":"hi"}`, false},
		"SendToUser": {control.ScopePublish, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			return errOf(c.SendToUser(ctx, &pealv1.SendToUserRequest{UserId: "alice", Data: "hi"}))
		}, "POST", "/v1/users/alice/messages", `{"data":"hi"}`, false},
		"Publish": {control.ScopePublish, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			return errOf(c.Publish(ctx, &pealv1.PublishRequest{Topic: "orders", Data: "hi"}))
		}, "POST", "/v1/topics/orders/messages", `{"data":"hi"}`, false},
		"PublishStream": {control.ScopePublish, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			stream, err := c.PublishStream(ctx)
			if err != nil {
				return err
			}

			// Recv also returns the error, with more detail.
			_ = stream.Send(&pealv1.PublishStreamRequest{Audience: everyone(), Data: "hi"})
			return errOf(stream.Recv())
		}, "", "", "", false},
		"WatchConnections": {control.ScopeRead, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			stream, err := c.WatchConnections(ctx, &pealv1.WatchConnectionsRequest{})
			if err != nil {
				return err
			}

			return errOf(stream.Recv())
		}, "", "", "", false},
		"Tail": {control.ScopeAdmin, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			stream, err := c.Tail(ctx, &pealv1.TailRequest{})
			if err != nil {
				return err
			}

			return errOf(stream.Recv())
		}, "GET", "/v1/tail", "", true},
		"PublishMessage": {control.ScopePublish, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			return errOf(c.PublishMessage(ctx, &pealv1.PublishMessageRequest{Topics: []string{"news", "sports"}, Data: "hi"}))
		}, "POST", "/v1/messages", `{"topics":["news","sports"],"data":"hi"}`, false},
		"PublishBatch": {control.ScopePublish, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			return errOf(c.PublishBatch(ctx, &pealv1.PublishBatchRequest{Messages: []*pealv1.PublishMessageRequest{{Topics: []string{"news"}, Data: "hi"}}}))
		}, "POST", "/v1/messages:batch", `{"messages":[{"topics":["news"],"data":"hi"}]}`, false},
		"WhoAmI": {"none", func(ctx context.Context, c pealv1.ControlServiceClient) error {
			return errOf(c.WhoAmI(ctx, &pealv1.WhoAmIRequest{}))
		}, "GET", "/v1/whoami", "", false},
		"ListTopics": {control.ScopeRead, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			return errOf(c.ListTopics(ctx, &pealv1.ListTopicsRequest{}))
		}, "GET", "/v1/topics", "", false},
		"Disconnect": {control.ScopeAdmin, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			return errOf(c.Disconnect(ctx, &pealv1.DisconnectRequest{UserId: "alice"}))
		}, "POST", "/v1/users/alice:disconnect", `{}`, false},
		"ListUsers": {control.ScopeRead, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			return errOf(c.ListUsers(ctx, &pealv1.ListUsersRequest{}))
		}, "GET", "/v1/users", "", false},
		"Stats": {control.ScopeRead, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			return errOf(c.Stats(ctx, &pealv1.StatsRequest{}))
		}, "GET", "/v1/stats", "", false},
		"ExplainTopic": {control.ScopeRead, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			return errOf(c.ExplainTopic(ctx, &pealv1.ExplainTopicRequest{Topic: "news"}))
		}, "GET", "/v1/topics/news/policy", "", false},
		"ClearRetained": {control.ScopePublish, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			return errOf(c.ClearRetained(ctx, &pealv1.ClearRetainedRequest{Audience: &pealv1.ClearRetainedRequest_Topic{Topic: "news"}}))
		}, "DELETE", "/v1/topics/news/retained", "", false},
		"GetPosition": {control.ScopeRead, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			return errOf(c.GetPosition(ctx, &pealv1.GetPositionRequest{}))
		}, "GET", "/v1/position", "", false},
		"ListMessages": {control.ScopeData, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			return errOf(c.ListMessages(ctx, &pealv1.ListMessagesRequest{Audience: &pealv1.ListMessagesRequest_Everyone{Everyone: true}}))
		}, "GET", "/v1/broadcast", "", false},
		"ListRetained": {control.ScopeRead, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			return errOf(c.ListRetained(ctx, &pealv1.ListRetainedRequest{}))
		}, "GET", "/v1/retained", "", false},
		"CreateToken": {control.ScopeTokens, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			return errOf(c.CreateToken(ctx, &pealv1.CreateTokenRequest{UserId: "alice"}))
		}, "POST", "/v1/tokens", `{"userId":"alice"}`, false},
		"RemoveNode": {control.ScopeAdmin, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			return errOf(c.RemoveNode(ctx, &pealv1.RemoveNodeRequest{Name: "b"}))
		}, "POST", "/v1/nodes/b:remove", `{}`, false},
		"ListHooks": {control.ScopeRead, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			return errOf(c.ListHooks(ctx, &pealv1.ListHooksRequest{}))
		}, "GET", "/v1/hooks", "", false},
		"TestHook": {control.ScopeAdmin, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			return errOf(c.TestHook(ctx, &pealv1.TestHookRequest{Url: "https://app.example/hooks"}))
		}, "POST", "/v1/hooks:test", `{}`, false},
		"Drain": {control.ScopeAdmin, func(ctx context.Context, c pealv1.ControlServiceClient) error {
			stream, err := c.Drain(ctx, &pealv1.DrainRequest{})
			if err != nil {
				return err
			}

			return errOf(stream.Recv())
		}, "POST", "/v1/drain", `{}`, false},
	}
}

func errOf(_ any, err error) error { return err }

func everyone() *pealv1.PublishStreamRequest_Everyone {
	return &pealv1.PublishStreamRequest_Everyone{Everyone: true}
}

// attempt makes the call over gRPC, and closes its stream.
func (c call) attempt(ctx context.Context, client pealv1.ControlServiceClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return c.grpc(ctx, client)
}

type fakeMinter struct{}

func (fakeMinter) Mint(string, []string, time.Duration) (string, time.Time, error) {
	return "token", time.Unix(2e9, 0), nil
}

// A method that is missing from calls wouldn't be tested.
func TestEveryMethodIsTested(t *testing.T) {
	for _, m := range pealv1.ControlService_ServiceDesc.Methods {
		if _, ok := calls()[m.MethodName]; !ok {
			t.Errorf("%s is missing from calls", m.MethodName)
		}
	}
	for _, m := range pealv1.ControlService_ServiceDesc.Streams {
		if _, ok := calls()[m.StreamName]; !ok {
			t.Errorf("%s is missing from calls", m.StreamName)
		}
	}
}

func TestScopes(t *testing.T) {
	tokens := []control.Token{
		{Name: "all", Token: "token-all"},
		{Name: "pub", Token: "token-pub", Scopes: []string{control.ScopePublish}},
		{Name: "ops", Token: "token-ops", Scopes: []string{control.ScopeRead, control.ScopeAdmin}},
		{Name: "auditor", Token: "token-auditor", Scopes: []string{control.ScopeData}},
		{Name: "login", Token: "token-login", Scopes: []string{control.ScopeTokens}},
		{Name: "odd", Token: "token-odd", Scopes: []string{"write"}},
	}

	p := start(t, control.Config{Tokens: tokens, Membership: members{}, Hooks: &fakeHooks{}}, startBroker(t), fakeMinter{})

	for name, c := range calls() {
		for _, token := range tokens {
			t.Run(name+" "+token.Name, func(t *testing.T) {
				allowed := len(token.Scopes) == 0 || c.scope == "none" || slices.Contains(token.Scopes, c.scope) ||
					c.scope == control.ScopeTokens && slices.Contains(token.Scopes, control.ScopeAdmin)
				err := c.attempt(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token.Token), p)
				if allowed && err != nil {
					t.Errorf("gRPC: %v, want success", err)
				} else if !allowed {
					checkDenied(t, failureOf(t, err), name, c.scope, token)
				}

				if c.path == "" {
					return
				}

				do := p.do
				if c.longLived && allowed {
					do = p.begin
				}

				rest := do(t, c.method, c.path, c.body, "Authorization", "bearer "+token.Token)
				if allowed && rest.StatusCode != http.StatusOK || !allowed && rest.StatusCode != http.StatusForbidden {
					t.Errorf("REST: status %s, want allowed %v", rest.Status, allowed)
				}

				if !allowed {
					checkDenied(t, rest.failure(t), name, c.scope, token)
				}
			})
		}
	}
}

func checkDenied(t *testing.T, f failure, rpc, scope string, token control.Token) {
	t.Helper()
	if f.code != codes.PermissionDenied || f.reason != "CONTROL_SCOPE_MISSING" {
		t.Errorf("error %+v, want CONTROL_SCOPE_MISSING", f)
	}
	for _, word := range []string{token.Name, rpc, scope} {
		if !strings.Contains(f.message, word) {
			t.Errorf("message %q doesn't contain %q", f.message, word)
		}
	}
	if strings.Contains(f.message, token.Token) {
		t.Errorf("message %q contains the token", f.message)
	}
}

func TestCallersWithoutToken(t *testing.T) {
	p := start(t, control.Config{Tokens: []control.Token{{Name: "shop", Token: "s3cret"}, {Name: "empty"}}}, &fakeBroker{}, fakeMinter{})

	for name, c := range map[string]struct {
		authorization []string
		reason        string
	}{
		"none":          {nil, "CONTROL_TOKEN_MISSING"},
		"empty":         {[]string{""}, "CONTROL_TOKEN_MISSING"},
		"scheme only":   {[]string{"Bearer"}, "CONTROL_TOKEN_MISSING"},
		"spaces only":   {[]string{"Bearer   "}, "CONTROL_TOKEN_MISSING"},
		"Basic":         {[]string{"Basic czNjcmV0"}, "CONTROL_TOKEN_MISSING"},
		"no scheme":     {[]string{"s3cret"}, "CONTROL_TOKEN_MISSING"},
		"two":           {[]string{"Bearer s3cret", "Bearer other"}, "CONTROL_TOKEN_MISSING"},
		"unknown":       {[]string{"Bearer wrong-7f3a"}, "CONTROL_TOKEN_UNKNOWN"},
		"prefix":        {[]string{"Bearer s3cre"}, "CONTROL_TOKEN_UNKNOWN"},
		"wrong case":    {[]string{"Bearer S3CRET"}, "CONTROL_TOKEN_UNKNOWN"},
		"trailing text": {[]string{"Bearer s3cret x"}, "CONTROL_TOKEN_UNKNOWN"},
	} {
		for rpc, call := range calls() {
			t.Run(name+" "+rpc, func(t *testing.T) {
				ctx := metadata.NewOutgoingContext(t.Context(), metadata.MD{"authorization": c.authorization})
				failures := []failure{failureOf(t, call.attempt(ctx, p))}
				if call.path != "" {
					rest := p.do(t, call.method, call.path, call.body, pairs("Authorization", c.authorization)...)
					if rest.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(rest.Header.Get("WWW-Authenticate"), "Bearer ") {
						t.Errorf("REST: %s, WWW-Authenticate %q", rest.Status, rest.Header.Get("WWW-Authenticate"))
					}
					failures = append(failures, rest.failure(t))
				}

				for _, f := range failures {
					if f.code != codes.Unauthenticated || f.reason != c.reason || !strings.Contains(f.message, "control.tokens") ||
						strings.Contains(f.message, "wrong-7f3a") {
						t.Errorf("error %+v, want %s", f, c.reason)
					}
				}
			})
		}
	}
}

// pairs returns the name and value pairs of a header with several values.
func pairs(name string, values []string) []string {
	header := make([]string, 0, 2*len(values))
	for _, v := range values {
		header = append(header, name, v)
	}
	return header
}

// Load balancers check health without a token. Reflection requires one.
func TestHealthAndReflection(t *testing.T) {
	p := start(t, control.Config{Tokens: []control.Token{{Name: "shop", Token: "s3cret", Scopes: []string{control.ScopePublish}}}}, &fakeBroker{}, nil)
	health := healthv1.NewHealthClient(p.conn)
	for _, service := range []string{"", "peal.v1.ControlService"} {
		reply, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
		if err != nil || reply.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("health check for %q: %v, %v", service, reply, err)
		}
	}

	if _, err := services(t.Context(), p); status.Code(err) != codes.Unauthenticated {
		t.Errorf("reflection without a token: %v", err)
	}
	names, err := services(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer s3cret"), p)
	if err != nil || !slices.Contains(names, "peal.v1.ControlService") {
		t.Errorf("reflection: %q, %v", names, err)
	}

	for _, path := range []string{"/healthz", "/readyz", "/openapi.json"} {
		if got := p.do(t, "GET", path, ""); got.StatusCode != http.StatusOK {
			t.Errorf("%s without a token: %s", path, got.Status)
		}
	}
}

// services returns the names of the services that reflection lists.
func services(ctx context.Context, p *plane) ([]string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := reflectionv1.NewServerReflectionClient(p.conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening: %w", err)
	}
	// Recv also returns the error, with more detail.
	_ = stream.Send(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
	})
	reply, err := stream.Recv()
	if err != nil {
		return nil, fmt.Errorf("listing: %w", err)
	}
	listed := reply.GetListServicesResponse().GetService()
	names := make([]string, 0, len(listed))
	for _, s := range listed {
		names = append(names, s.GetName())
	}
	return names, nil
}

// Without control tokens, every caller may do everything, even a caller that sends
// a token.
func TestOpenControlPlane(t *testing.T) {
	p := start(t, control.Config{Membership: members{}, Hooks: &fakeHooks{}}, startBroker(t), fakeMinter{})
	for name, c := range calls() {
		if err := c.attempt(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer x"), p); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.path == "" {
			continue
		}
		do := p.do
		if c.longLived {
			do = p.begin
		}
		if got := do(t, c.method, c.path, c.body); got.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %s", name, got.Status, got.body)
		}
	}
	if _, err := services(t.Context(), p); err != nil {
		t.Errorf("reflection: %v", err)
	}
}
