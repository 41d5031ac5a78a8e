package control_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/testbed"
)

func TestAudit(t *testing.T) {
	log := &testbed.Log{}
	p := start(t, control.Config{
		Tokens: []control.Token{
			{Name: "boss", Token: "token-of-the-boss"},
			{Name: "publisher", Token: "token-to-publish", Scopes: []string{control.ScopePublish}},
		},
		Logger:     slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Membership: members{},
	}, startBroker(t), fakeMinter{})
	as := func(token string, more ...string) (ctx []string) {
		return append([]string{"authorization", "Bearer " + token}, more...)
	}

	boss := metadata.AppendToOutgoingContext(t.Context(), as("token-of-the-boss", "x-forwarded-for", "203.0.113.9")...)
	publisher := metadata.AppendToOutgoingContext(t.Context(), as("token-to-publish")...)
	if _, err := p.CreateToken(boss, &pealv1.CreateTokenRequest{UserId: "alice"}); err != nil {
		t.Fatal(err)
	}

	if _, err := p.Broadcast(boss, &pealv1.BroadcastRequest{Data: "the-data"}); err != nil {
		t.Fatal(err)
	}

	if _, err := p.Disconnect(publisher, &pealv1.DisconnectRequest{UserId: "bob"}); err == nil {
		t.Fatal("a caller with the scope publish can disconnect")
	}

	if _, err := p.Disconnect(boss, &pealv1.DisconnectRequest{UserId: "bad\nid"}); err == nil {
		t.Fatal("a user id with a line break is accepted")
	}

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/v1/users/carol:disconnect", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}

	req.Header.Set("Authorization", "Bearer token-of-the-boss")
	req.Header.Set("X-Forwarded-For", "203.0.113.9")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}

	_ = resp.Body.Close()

	if _, err := p.RemoveNode(boss, &pealv1.RemoveNodeRequest{Name: "node-b"}); err != nil {
		t.Fatal(err)
	}

	if _, err := p.ListMessages(boss, &pealv1.ListMessagesRequest{Audience: &pealv1.ListMessagesRequest_Topic{Topic: "news"}}); err != nil {
		t.Fatal(err)
	}

	if _, err := p.ListMessages(publisher, &pealv1.ListMessagesRequest{Audience: &pealv1.ListMessagesRequest_UserId{UserId: "dora"}}); err == nil {
		t.Fatal("a caller with the scope publish can read messages")
	}

	audit := log.With("msg=audit")
	want := []string{
		"level=DEBUG msg=audit caller=boss method=CreateToken code=OK peer=127.0.0.1:# user=alice",
		"level=INFO msg=audit caller=publisher method=Disconnect code=PERMISSION_DENIED peer=127.0.0.1:# user=bob",
		"level=INFO msg=audit caller=boss method=Disconnect code=INVALID_ARGUMENT peer=127.0.0.1:#",
		"level=INFO msg=audit caller=boss method=Disconnect code=OK peer=127.0.0.1 user=carol",
		"level=INFO msg=audit caller=boss method=RemoveNode code=OK peer=127.0.0.1:# node=node-b",
		"level=DEBUG msg=audit caller=boss method=ListMessages code=OK peer=127.0.0.1:# topic=news",
		"level=INFO msg=audit caller=publisher method=ListMessages code=PERMISSION_DENIED peer=127.0.0.1:# user=dora",
	}

	if len(audit) != len(want) {
		t.Fatalf("audit log %q, want %q", audit, want)
	}

	for i, line := range want {
		for part := range strings.SplitSeq(line, "#") {
			if !strings.Contains(audit[i], part) {
				t.Errorf("line %d is %q, want %q", i, audit[i], line)
			}
		}
	}

	for _, secret := range []string{"token-of", "token-to", "the-data", "203.0.113.9"} {
		if found := log.With(secret); len(found) > 0 {
			t.Errorf("the log contains %q: %q", secret, found)
		}
	}
}

func TestRejectedCallsAreLogged(t *testing.T) {
	log := &testbed.Log{}
	p := start(t, control.Config{
		Tokens: []control.Token{{Name: "boss", Token: "token-of-the-boss"}},
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	}, startBroker(t), nil)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer a-guess")
	const guesses = 200

	for range guesses {
		if _, err := p.CreateToken(ctx, &pealv1.CreateTokenRequest{UserId: "alice"}); err == nil {
			t.Fatal("a guessed token is accepted")
		}
	}

	found := log.With("control call rejected")
	if len(found) < 1 || len(found) > guesses/2 {
		t.Errorf("%d rejected calls leave %d lines, want a few", guesses, len(found))
	}

	for _, part := range []string{"level=WARN", "reason=CONTROL_TOKEN_UNKNOWN", "method=CreateToken", "peer=127.0.0.1:"} {
		if !strings.Contains(found[0], part) {
			t.Errorf("line %q lacks %q", found[0], part)
		}
	}

	if len(log.With("a-guess")) > 0 || len(log.With("msg=audit")) > 0 {
		t.Errorf("the log contains guesses or audits them: %q", log.With(""))
	}
}
