package control_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/auth"
	"github.com/peald/peald/internal/broker"
)

func TestListUsersPages(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	want := make([]string, 0, 25)
	for i := range cap(want) {
		user := fmt.Sprintf("user-%02d/ü", i)
		want = append(want, user)
		for range i%3 + 1 {
			stream(t, b, user)
		}
	}
	stream(t, b, "zoë")
	stream(t, b, "")

	for _, size := range []int32{1, 7, 25, 26, 1000} {
		if got := p.pages(t, size, "user-"); !slices.Equal(got, want) {
			t.Errorf("pages of %d: %q", size, got)
		}
	}

	rest := p.do(t, "GET", "/v1/users?pageSize=1&prefix="+url.QueryEscape("zoë"), "")
	if !strings.Contains(rest.body, `{"users":[{"userId":"zoë","connections":1,"connectedSince":"`) || !strings.Contains(rest.body, `"nextPageToken":""`) {
		t.Errorf("REST: %s", rest.body)
	}
	if rest := p.do(t, "GET", "/v1/users?prefix=nobody", ""); rest.body != `{"users":[],"nextPageToken":"","missingNodes":[]}`+"\n" {
		t.Errorf("REST without users: %s", rest.body)
	}
}

// pages lists users page by page.
func (p *plane) pages(t *testing.T, size int32, prefix string) []string {
	t.Helper()
	var users []string
	for token := ""; ; {
		reply, err := p.ListUsers(t.Context(), &pealv1.ListUsersRequest{PageSize: size, Prefix: prefix, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		if len(reply.GetUsers()) > int(size) {
			t.Fatalf("%d users on a page of %d", len(reply.GetUsers()), size)
		}
		for _, u := range reply.GetUsers() {
			users = append(users, u.GetUserId())
			if u.GetConnections() < 1 || time.Since(u.GetConnectedSince().AsTime()) > time.Minute {
				t.Errorf("%v", u)
			}
		}
		if token = reply.GetNextPageToken(); token == "" {
			return users
		}
	}
}

func TestListUsersPageOf100ByDefault(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	for i := range 101 {
		stream(t, b, fmt.Sprintf("%03d", i))
	}
	reply, err := p.ListUsers(t.Context(), &pealv1.ListUsersRequest{})
	if err != nil || len(reply.GetUsers()) != 100 || reply.GetNextPageToken() == "" {
		t.Errorf("%d users, next %q, %v", len(reply.GetUsers()), reply.GetNextPageToken(), err)
	}
}

func TestListUsersRefuses(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for name, c := range map[string]struct {
		req   *pealv1.ListUsersRequest
		field string
	}{
		"negative size":   {&pealv1.ListUsersRequest{PageSize: -1}, "page_size"},
		"size too large":  {&pealv1.ListUsersRequest{PageSize: 1001}, "page_size"},
		"no base64":       {&pealv1.ListUsersRequest{PageToken: "a b"}, "page_token"},
		"padded base64":   {&pealv1.ListUsersRequest{PageToken: "YQ=="}, "page_token"},
		"loose base64":    {&pealv1.ListUsersRequest{PageToken: "YR"}, "page_token"},
		"of nobody":       {&pealv1.ListUsersRequest{PageToken: encode("a\nb")}, "page_token"},
		"not UTF-8":       {&pealv1.ListUsersRequest{PageToken: encode("\xff")}, "page_token"},
		"of a longer one": {&pealv1.ListUsersRequest{PageToken: encode(strings.Repeat("x", 256))}, "page_token"},
	} {
		_, err := p.ListUsers(t.Context(), c.req)
		if f := failureOf(t, err); f.code != codes.InvalidArgument || len(f.fields) != 1 || !strings.HasPrefix(f.fields[c.field], c.field) {
			t.Errorf("%s: %+v", name, f)
		}
	}
	_, err := p.ListUsers(t.Context(), &pealv1.ListUsersRequest{PageSize: -1, PageToken: "?"})
	if f := failureOf(t, err); len(f.fields) != 2 {
		t.Errorf("both wrong: %+v", f)
	}
}

func TestStats(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{Version: "v1.2.3", MaxConnections: 5000}, b, nil)
	stream(t, b, "alice").waitFor(t, "\n\n")
	lost := &sink{grown: make(chan struct{}, 1)}
	if err := b.NewStream(broker.Subscription{LastEventID: "other-1"}).Start(lost, broker.Opening{}); err != nil {
		t.Fatal(err)
	}
	lost.waitFor(t, "\n\n")
	if _, err := p.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "hi"}); err != nil {
		t.Fatal(err)
	}
	reply, err := p.Stats(t.Context(), &pealv1.StatsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if n := reply.GetResumes().GetResets()["unknown"]; n != 1 || reply.GetResumes().GetReplayed() != 0 {
		t.Errorf("resumes: %v", reply.GetResumes())
	}
	total := reply.GetTotal()
	if total.GetConnections() != 2 || total.GetAuthenticatedConnections() != 1 || total.GetConnected() != 2 || reply.GetUsers() != 1 ||
		reply.GetPublished() != 1 || len(reply.GetShards()) != 2 || reply.GetVersion() != "v1.2.3" || reply.GetMaxConnections() != 5000 ||
		time.Since(reply.GetStartedAt().AsTime()) > time.Minute {
		t.Errorf("%v", reply)
	}
	for i, shard := range reply.GetShards() {
		if int(shard.GetShard()) != i {
			t.Errorf("row %d is of shard %d", i, shard.GetShard())
		}
	}
}

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
			t.Errorf("for %s: ends in %s", want, left)
		}
		id, err := tokens.Verify(reply.GetToken())
		if err != nil || id.User != "alice" {
			t.Errorf("for %s: %+v, %v", want, id, err)
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

func TestCreateTokenRefuses(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), stubMinter{})
	for name, c := range map[string]struct {
		user  string
		ttl   *durationpb.Duration
		field string
		says  string
	}{
		"no user":         {"", nil, "user_id", "empty"},
		"user with LF":    {"a\nb", nil, "user_id", "control"},
		"zero":            {"alice", &durationpb.Duration{}, "ttl", "0s"},
		"negative":        {"alice", durationpb.New(-time.Second), "ttl", "-1s"},
		"over a year":     {"alice", durationpb.New(365*24*time.Hour + time.Nanosecond), "ttl", "365 days"},
		"no duration":     {"alice", &durationpb.Duration{Seconds: 1, Nanos: -1}, "ttl", "not a valid duration"},
		"beyond all time": {"alice", &durationpb.Duration{Seconds: 1 << 60}, "ttl", "365 days"},
	} {
		_, err := p.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: c.user, Ttl: c.ttl})
		f := failureOf(t, err)
		if f.code != codes.InvalidArgument || len(f.fields) != 1 || !strings.HasPrefix(f.message, c.field) || !strings.Contains(f.fields[c.field], c.says) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestCreateTokenRefusesTopics(t *testing.T) {
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
		topics []string
		field  string
		says   string
	}{
		"too many":      {slices.Repeat([]string{"a"}, 101), "topics", "101"},
		"too long":      {long, "topics", "8192"},
		"an empty one":  {[]string{"a", ""}, "topics[1]", "empty"},
		"a long one":    {[]string{strings.Repeat("x", 256)}, "topics[0]", "256"},
		"a bad pattern": {[]string{"a", "b", ">.a"}, "topics[2]", "pattern"},
		"with LF":       {[]string{"a\nb"}, "topics[0]", "control"},
	} {
		_, err := p.CreateToken(t.Context(), &pealv1.CreateTokenRequest{UserId: "alice", Topics: c.topics})
		f := failureOf(t, err)
		if f.code != codes.InvalidArgument || len(f.fields) != 1 || !strings.HasPrefix(f.message, c.field+" ") || !strings.Contains(f.fields[c.field], c.says) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestCreateTokenWithoutKey(t *testing.T) {
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

func TestBrokerThatIsClosing(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	b.Close()
	_, err := p.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "hi"})
	rest := p.do(t, "POST", "/v1/broadcast", `{"data":"hi"}`)
	if rest.StatusCode != http.StatusServiceUnavailable || rest.Header.Get("Retry-After") == "" {
		t.Errorf("REST: %s, Retry-After %q", rest.Status, rest.Header.Get("Retry-After"))
	}
	for _, f := range []failure{failureOf(t, err), rest.failure(t)} {
		if f.code != codes.Unavailable || f.reason != "STOPPING" {
			t.Errorf("%+v", f)
		}
	}
}

var _ control.Broker = (*broker.Broker)(nil)
