package control_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// disconnectBroker records the arguments of Disconnect.
type disconnectBroker struct {
	fakeBroker

	user string
	ban  time.Duration
}

func (b *disconnectBroker) Disconnect(user string, ban time.Duration) (int, error) {
	b.user, b.ban = user, ban
	return 3, nil
}

func TestUserIDsBeforeAVerb(t *testing.T) {
	b := &disconnectBroker{}
	p := start(t, control.Config{}, b, nil)
	for _, user := range unusualNames() {
		for _, escaped := range []string{strings.ReplaceAll(url.PathEscape(user), ".", "%2E"), escapeAll(user)} {
			b.user = ""
			got := p.do(t, "POST", "/v1/users/"+escaped+":disconnect", `{"for":"90s"}`)
			if got.StatusCode != http.StatusOK || b.user != user || b.ban != 90*time.Second || got.body != `{"connections":3,"missingNodes":[]}`+"\n" {
				t.Errorf("%q as %s: %s, disconnected %q for %s: %s", user, escaped, got.Status, b.user, b.ban, got.body)
			}
		}
	}
	if got := p.do(t, "POST", "/v1/users/alice:disconnect", ""); got.StatusCode != http.StatusOK || b.user != "alice" || b.ban != 0 {
		t.Errorf("without a body: %s, %q for %s", got.Status, b.user, b.ban)
	}
}

func TestDisconnectClosesAUsersStreams(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	stream(t, b, "alice")
	stream(t, b, "alice")
	bob := stream(t, b, "bob")

	reply, err := p.Disconnect(t.Context(), &pealv1.DisconnectRequest{UserId: "alice", For: durationpb.New(time.Minute)})
	if err != nil || reply.GetConnections() != 2 || !b.Banned("alice") || b.Banned("bob") {
		t.Errorf("%v, %v; alice is banned: %v, bob: %v", reply, err, b.Banned("alice"), b.Banned("bob"))
	}
	if _, err := p.SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "bob", Data: "still here"}); err != nil {
		t.Fatal(err)
	}
	bob.waitFor(t, "data: still here\n\n")
	if got := p.do(t, "POST", "/v1/users/nobody:disconnect", `{}`); got.body != `{"connections":0,"missingNodes":[]}`+"\n" {
		t.Errorf("user without streams: %s", got.body)
	}
}

func TestDisconnectRejects(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	for name, c := range map[string]struct {
		req             *pealv1.DisconnectRequest
		field, contains string
	}{
		"empty user":  {&pealv1.DisconnectRequest{}, "user_id", "empty"},
		"long id":     {&pealv1.DisconnectRequest{UserId: strings.Repeat("x", 256)}, "user_id", "256"},
		"zero":        {&pealv1.DisconnectRequest{UserId: "alice", For: &durationpb.Duration{}}, "for", "0s"},
		"negative":    {&pealv1.DisconnectRequest{UserId: "alice", For: durationpb.New(-time.Second)}, "for", "-1s"},
		"over a year": {&pealv1.DisconnectRequest{UserId: "alice", For: durationpb.New(366 * 24 * time.Hour)}, "for", "365 days"},
	} {
		_, err := p.Disconnect(t.Context(), c.req)
		if f := failureOf(t, err); f.code != codes.InvalidArgument || len(f.fields) != 1 || !strings.Contains(f.fields[c.field], c.contains) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}
