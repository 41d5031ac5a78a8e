package control_test

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

func TestPublishToSeveralTopics(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	both, alice := stream(t, b, "bob", "orders.7", "customers.*"), stream(t, b, "alice", "orders.7")
	stream(t, b, "", "other")

	reply, err := p.Publish(t.Context(), &pealv1.PublishRequest{Topic: "orders.7", Topics: []string{"customers.1"}, Data: "paid", ExcludeUserId: "alice"})
	if err != nil || reply.GetRecipients() != 1 {
		t.Fatalf("%v, %v; want 1 recipient", reply, err)
	}
	for _, call := range []string{
		`/v1/topics/orders.7/messages {"topics":["customers.1","orders.7"],"data":"shipped"}`,
		`/v1/messages {"topics":["customers.1","orders.7","customers.1"],"data":"shipped"}`,
		`/v1/messages {"topic":"customers.1","topics":["orders.7"],"data":"shipped"}`,
	} {
		path, body, _ := strings.Cut(call, " ")
		if got := p.do(t, "POST", path, body); got.StatusCode != http.StatusOK || !strings.Contains(got.body, `"recipients":2}`) {
			t.Errorf("%s: %s %s", call, got.Status, got.body)
		}
	}

	end, err := p.PublishMessage(t.Context(), &pealv1.PublishMessageRequest{Topics: []string{"customers.9", "orders.7"}, Data: "end"})
	if err != nil || end.GetRecipients() != 2 {
		t.Fatalf("%v, %v; want 2 recipients", end, err)
	}
	alice.waitFor(t, "data: end\n")
	both.waitFor(t, "data: end\n")
	for name, s := range map[string]*sink{"both": both, "alice": alice} {
		if n := strings.Count(s.text(), "data: shipped\n"); n != 3 {
			t.Errorf("%s received %d events, want 3", name, n)
		}
		if n := strings.Count(s.text(), "data: paid\n"); n != 1 && name == "both" || n != 0 && name == "alice" {
			t.Errorf("%s received the event without alice %d times", name, n)
		}
	}
}

func TestPublishMessageToAnyAudience(t *testing.T) {
	var got broker.Message
	p := start(t, control.Config{}, &fakeBroker{publish: func(m broker.Message) (broker.Receipt, error) {
		got = m
		return broker.Receipt{ID: "e-1", Recipients: 2}, nil
	}}, nil)
	for body, want := range map[string]broker.Message{
		`"everyone":true,"exclude_user_id":"bob"`:    {Audience: broker.Everyone(), ExcludeUser: "bob"},
		`"user_id":"alice"`:                          {Audience: broker.ToUser("alice")},
		`"topic":"a","final":true,"retain":true`:     {Audience: broker.ToTopic("a"), Final: true, Retain: true},
		`"topics":["a","b","a"],"excludeUserId":"b"`: {Audience: broker.ToTopic("a"), Topics: []string{"b"}, ExcludeUser: "b"},
		`"topic":"c","topics":["a","c"]`:             {Audience: broker.ToTopic("c"), Topics: []string{"a"}},
		`"topic":"a","topics":[],"conflate_key":"k"`: {Audience: broker.ToTopic("a"), ConflateKey: "k"},
	} {
		want.Data = "x"
		reply := p.do(t, "POST", "/v1/messages", `{"data":"x",`+body+`}`)
		if reply.StatusCode != http.StatusOK || strings.TrimSpace(reply.body) != `{"id":"e-1","recipients":2}` || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %s %s, published %+v", body, reply.Status, reply.body, got)
		}
	}
}

// Invalid audiences are rejected with the same errors in all calls.
func TestInvalidAudiences(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	many := `"topics":["t` + strings.Repeat(`","t`, 100) + `"]`

	for body, c := range map[string]struct{ field, message string }{
		``:                                 {"audience", "audience is missing; set everyone, user_id, topic or topics"},
		`"topics":[]`:                      {"audience", "audience is missing; set everyone, user_id, topic or topics"},
		`"everyone":false`:                 {"everyone", "everyone is false; want true"},
		`"everyone":true,"topics":["a"]`:   {"topics", "topics can't be combined with everyone or user_id; set topic, topics or both"},
		`"userId":"alice","topics":["a"]`:  {"topics", "topics can't be combined with everyone or user_id; set topic, topics or both"},
		`"topic":"","topics":["a"]`:        {"topic", "topic is empty; want 1 to 255 bytes"},
		`"topics":["a",""]`:                {"topics[1]", "topics[1] is empty; want 1 to 255 bytes"},
		`"topic":"a","topics":["b.*"]`:     {"topics[0]", `topics[0] is the pattern "b.*"; want a topic without wildcards`},
		many:                               {"topics", "topics has 101 topics; want at most 100"},
		`"userId":"a","excludeUserId":"a"`: {"exclude_user_id", "exclude_user_id is set for a message to one user; want a message to topics or to everyone"},
		`"everyone":true,"excludeUserId":"\u0000"`:        {"exclude_user_id", `exclude_user_id has the control character '\x00' at byte 0`},
		`"topics":["a"],"final":true,"excludeUserId":"a"`: {"exclude_user_id", "exclude_user_id is set for a final message; a topic ends for all of its subscribers"},
	} {
		fields := `"data":"x"`
		if body != "" {
			fields += "," + body
		}
		f := p.do(t, "POST", "/v1/messages", "{"+fields+"}").failure(t)
		if f.code != codes.InvalidArgument || f.message != c.message || f.fields[c.field] != c.message {
			t.Errorf("%s: %+v, want %s", body, f, c.message)
		}
		batch := p.do(t, "POST", "/v1/messages:batch", `{"messages":[{`+fields+`},{"everyone":true,"data":"y"}]}`)
		if want := fmt.Sprintf(`"message":%q`, c.message); batch.StatusCode != http.StatusOK || !strings.Contains(batch.body, want) || !strings.Contains(batch.body, `"recipients":0}`) {
			t.Errorf("%s in a batch: %s %s", body, batch.Status, batch.body)
		}
	}

	for body, want := range map[string]string{
		`"topics":["b",""]`:                "topics[1] is empty; want 1 to 255 bytes",
		`"topics":"b"`:                     `topics is "b"; want a list of JSON strings`,
		`"excludeUserId":"a","final":true`: "exclude_user_id is set for a final message; a topic ends for all of its subscribers",
	} {
		if f := p.do(t, "POST", "/v1/topics/a/messages", `{"data":"x",`+body+`}`).failure(t); f.message != want {
			t.Errorf("%s: %+v, want %s", body, f, want)
		}
	}
	if _, err := p.Publish(t.Context(), &pealv1.PublishRequest{Data: "x"}); failureOf(t, err).fields["topic"] == "" {
		t.Errorf("Publish without a topic: %v", err)
	}
}
