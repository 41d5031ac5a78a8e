package control_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/auth"
)

func TestCreateToken(t *testing.T) {
	tokens, err := auth.New(auth.Config{HMACSecret: strings.Repeat("k", 32)})
	if err != nil {
		t.Fatal(err)
	}

	p := start(t, control.Config{}, startBroker(t), tokens)

	for want, ttl := range map[time.Duration]*durationpb.Duration{
		time.Hour:            nil,
		time.Second:          durationpb.New(time.Second),
		365 * 24 * time.Hour: durationpb.New(365 * 24 * time.Hour),
	} {
		reply, err := p.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: "alice", Ttl: ttl})
		if err != nil {
			t.Fatal(err)
		}

		left := time.Until(reply.GetExpiresAt().AsTime())
		if left > want+time.Second || left < want-time.Minute {
			t.Errorf("ttl %s: the token expires in %s", want, left)
		}

		id, err := tokens.Verify(reply.GetToken())
		if err != nil || id.User != "alice" {
			t.Errorf("ttl %s: %+v, %v", want, id, err)
		}
	}

	topics := []string{"orders.*", "news", "zoë.>"}
	reply, err := p.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: "alice", Topics: topics})
	if err != nil {
		t.Fatal(err)
	}

	if id, err := tokens.Verify(reply.GetToken()); err != nil || !slices.Equal(id.Topics, topics) {
		t.Errorf("with topics: %+v, %v", id, err)
	}

	rest := p.do(t, "POST", "/v1/tokens", `{"userId":"alice","ttl":"90s","topics":["a","b"]}`)
	if rest.StatusCode != http.StatusOK || !strings.Contains(rest.body, `"token":"ey`) || !strings.Contains(rest.body, `"expiresAt":"2`) {
		t.Errorf("REST: %s %s", rest.Status, rest.body)
	}
}

func TestCreateTokenRejects(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), fakeMinter{})
	for name, c := range map[string]struct {
		user     string
		ttl      *durationpb.Duration
		field    string
		contains string
	}{
		"empty user":       {"", nil, "user_id", "empty"},
		"user with LF":     {"a\nb", nil, "user_id", "control"},
		"zero":             {"alice", &durationpb.Duration{}, "ttl", "0s"},
		"negative":         {"alice", durationpb.New(-time.Second), "ttl", "-1s"},
		"over a year":      {"alice", durationpb.New(365*24*time.Hour + time.Nanosecond), "ttl", "365 days"},
		"invalid duration": {"alice", &durationpb.Duration{Seconds: 1, Nanos: -1}, "ttl", "not a valid duration"},
		"out of range":     {"alice", &durationpb.Duration{Seconds: 1 << 60}, "ttl", "365 days"},
	} {
		_, err := p.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: c.user, Ttl: c.ttl})
		f := failureOf(t, err)
		if f.code != codes.InvalidArgument || len(f.fields) != 1 || !strings.HasPrefix(f.message, c.field) || !strings.Contains(f.fields[c.field], c.contains) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestCreateTokenRejectsTopics(t *testing.T) {
	tokens, err := auth.New(auth.Config{HMACSecret: strings.Repeat("k", 32)})
	if err != nil {
		t.Fatal(err)
	}

	p := start(t, control.Config{}, startBroker(t), tokens)
	long := make([]string, 100)

	for i := range long {
		long[i] = fmt.Sprintf("%0255d", i)
	}

	for name, c := range map[string]struct {
		topics   []string
		field    string
		contains string
	}{
		"too many":    {slices.Repeat([]string{"a"}, 101), "topics", "101"},
		"too long":    {long, "topics", "8192"},
		"empty":       {[]string{"a", ""}, "topics[1]", "empty"},
		"long":        {[]string{strings.Repeat("x", 256)}, "topics[0]", "256"},
		"bad pattern": {[]string{"a", "b", ">.a"}, "topics[2]", "pattern"},
		"with LF":     {[]string{"a\nb"}, "topics[0]", "control"},
	} {
		_, err := p.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: "alice", Topics: c.topics})
		f := failureOf(t, err)
		if f.code != codes.InvalidArgument || len(f.fields) != 1 || !strings.HasPrefix(f.message, c.field+" ") || !strings.Contains(f.fields[c.field], c.contains) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestCreateTokenWithoutSigningKey(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	_, err := p.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: "alice"})
	rest := p.do(t, "POST", "/v1/tokens", `{"userId":"alice"}`)
	if rest.StatusCode != http.StatusBadRequest {
		t.Errorf("REST: %s", rest.Status)
	}
	for _, f := range []failure{failureOf(t, err), rest.failure(t)} {
		if f.code != codes.FailedPrecondition || f.reason != "NO_SIGNING_KEY" || !strings.Contains(f.message, "auth.jwt.hmac_secret") {
			t.Errorf("%+v", f)
		}
	}
}
