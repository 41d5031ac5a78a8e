package control_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

func TestBroadcastReachesEveryStream(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	sinks := []*sink{stream(t, b, ""), stream(t, b, "alice"), stream(t, b, "alice")}

	reply, err := p.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "one\ntwo"})
	if err != nil {
		t.Fatal(err)
	}
	if reply.GetRecipients() != 3 || reply.GetId() == "" {
		t.Errorf("reply %v", reply)
	}
	rest := p.do(t, "POST", "/v1/broadcast", `{"data":"three","event":"news"}`, "Content-Type", "application/json")
	if rest.StatusCode != http.StatusOK || !strings.Contains(rest.body, `"recipients":3`) {
		t.Errorf("REST: %s %s", rest.Status, rest.body)
	}
	for _, s := range sinks {
		s.waitFor(t, "id: "+reply.GetId()+"\nevent: broadcast\ndata: one\ndata: two\n\n")
		s.waitFor(t, "event: news\ndata: three\n\n")
	}
}

func TestSendToUserReachesTheUsersStreams(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	first, second := stream(t, b, "alice"), stream(t, b, "alice")
	stream(t, b, "bob")

	reply, err := p.SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "alice", Data: "hi"})
	if err != nil || reply.GetRecipients() != 2 {
		t.Fatalf("%v, %v", reply, err)
	}
	first.waitFor(t, "event: individual\ndata: hi\n\n")
	second.waitFor(t, "event: individual\ndata: hi\n\n")

	reply, err = p.SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: "nobody", Data: "hi"})
	if err != nil || reply.GetRecipients() != 0 || reply.GetId() == "" {
		t.Errorf("user without a stream: %v, %v", reply, err)
	}
	// Zeros must be present, because clients read them.
	if got := p.do(t, "POST", "/v1/users/nobody/messages", `{"data":"hi"}`); !strings.Contains(got.body, `"recipients":0`) {
		t.Errorf("REST: %s", got.body)
	}
}

func TestUserIDsInPaths(t *testing.T) {
	var to broker.Audience
	p := start(t, control.Config{}, &fakeBroker{publish: func(m broker.Message) (broker.Receipt, error) {
		to = m.Audience
		return broker.Receipt{ID: "e-1", Recipients: 1}, nil
	}}, nil)
	for _, user := range unusualNames() {
		// PathEscape doesn't escape dots, and clients remove "." and ".." from
		// paths.
		for _, escaped := range []string{strings.ReplaceAll(url.PathEscape(user), ".", "%2E"), escapeAll(user)} {
			to = broker.Audience{}
			got := p.do(t, "POST", "/v1/users/"+escaped+"/messages", `{"data":"hi"}`)
			if got.StatusCode != http.StatusOK || to != broker.ToUser(user) {
				t.Errorf("%q as %s: %s, sent to %+v: %s", user, escaped, got.Status, to, got.body)
			}
		}
	}
}

// unusualNames returns names of users and topics with characters that are special
// in paths.
func unusualNames() []string {
	return []string{
		"alice", "alice/bob", "/", "//", "a//b", "Zoë Ångström", "東京 🦊", "a:b", "x:disconnect", "a%2Fb", "100%", "%", "a+b", "a?b#c",
		"a&b=c;d", "user@example.com", `"quoted"`, `back\slash`, "messages", "..", ".", "...", "a/../b", "~!$'()*,[]", strings.Repeat("é", 127),
	}
}

// escapeAll percent-encodes every byte.
func escapeAll(s string) string {
	const hex = "0123456789abcdef"
	var b strings.Builder
	for _, c := range []byte(s) {
		b.Write([]byte{'%', hex[c>>4], hex[c&15]})
	}
	return b.String()
}

// Invalid messages are rejected with the same errors over gRPC and REST.
func TestInvalidMessages(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)

	for name, c := range map[string]struct {
		user, event, data string
		field             string
		contains          []string
	}{
		"type with LF":    {"alice", "a\nb", "hi", "event", []string{"event", "LF"}},
		"type with CR":    {"alice", "a\rb", "hi", "event", []string{"event", "CR"}},
		"type with CRLF":  {"alice", "a\r\ndata: x", "hi", "event", []string{"event"}},
		"type with NUL":   {"alice", "a\x00b", "hi", "event", []string{"event", "NUL"}},
		"type too long":   {"alice", strings.Repeat("x", 256), "hi", "event", []string{"event", "256", "255"}},
		"reserved type":   {"alice", "peald.reset", "hi", "event", []string{"event", "peald."}},
		"reserved prefix": {"alice", "peald.", "hi", "event", []string{"event", "peald."}},
		"empty data":      {"alice", "", "", "data", []string{"data", "empty"}},
		"data too long":   {"alice", "", strings.Repeat("x", 1<<20+1), "data", []string{"data", "1048577", "1048576"}},
		"user too long":   {strings.Repeat("x", 256), "", "hi", "user_id", []string{"user_id", "256", "255"}},
		"empty user":      {"", "", "hi", "user_id", []string{"user_id", "empty"}},
		"user with LF":    {"a\nb", "", "hi", "user_id", []string{"user_id", "control"}},
		"user with NUL":   {"a\x00", "", "hi", "user_id", []string{"user_id", "control"}},
	} {
		t.Run(name, func(t *testing.T) {
			check := func(f failure) {
				t.Helper()
				if f.code != codes.InvalidArgument || f.reason != "INVALID_FIELD" || len(f.fields) != 1 {
					t.Errorf("%+v", f)
				}

				for _, word := range c.contains {
					if !strings.Contains(f.message, word) || !strings.Contains(f.fields[c.field], word) {
						t.Errorf("message %q and fields %q don't both contain %q", f.message, f.fields, word)
					}
				}
			}

			_, err := p.SendToUser(t.Context(), &pealv1.SendToUserRequest{UserId: c.user, Event: c.event, Data: c.data})
			check(failureOf(t, err))
			check(p.post(t, "/v1/users/"+url.PathEscape(c.user)+"/messages", c.data, c.event))
			if c.field == "user_id" {
				return
			}

			_, err = p.Broadcast(t.Context(), &pealv1.BroadcastRequest{Event: c.event, Data: c.data})
			check(failureOf(t, err))
			check(p.post(t, "/v1/broadcast", c.data, c.event))
		})
	}
}

// post publishes a message over REST, which must be rejected.
func (p *plane) post(t *testing.T, path, data, event string) failure {
	t.Helper()
	body, err := json.Marshal(map[string]string{"data": data, "event": event})
	if err != nil {
		t.Fatal(err)
	}
	got := p.do(t, http.MethodPost, path, string(body))
	if got.StatusCode != http.StatusBadRequest {
		t.Errorf("%s: %s", path, got.Status)
	}
	return got.failure(t)
}

func TestLargestMessage(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	data := strings.Repeat("é", 1<<19)
	if _, err := p.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: data}); err != nil {
		t.Error(err)
	}
	if got := p.do(t, "POST", "/v1/broadcast", `{"data":"`+data+`"}`); got.StatusCode != http.StatusOK {
		t.Errorf("REST: %s %s", got.Status, got.body)
	}
}
