package control_test

import (
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/control"
	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// retainingPlane starts a control plane over a broker that retains up to 3 values.
func retainingPlane(t *testing.T) (*plane, *broker.Broker) {
	t.Helper()
	b := startBroker(t)
	return start(t, control.Config{}, b, nil), b
}

func TestRetainedMessages(t *testing.T) {
	p, b := retainingPlane(t)
	p.do(t, "POST", "/v1/topics/prices.eur/messages", `{"data":"1.08","retain":true}`)
	if _, err := p.Publish(t.Context(), &pealv1.PublishRequest{Topic: "prices.eur", Data: "1.09", Retain: true, ConflateKey: "ask"}); err != nil {
		t.Fatal(err)
	}
	p.do(t, "POST", "/v1/users/alice/messages", `{"data":"hello","retain":true}`)
	stream(t, b, "alice").waitFor(t, "data: hello\n\n")

	for _, call := range []struct{ path, body string }{
		{"/v1/broadcast", `{"data":"x","retain":true}`}, {"/v1/topics/t/messages", `{"data":"x","retain":true}`}, {"/v1/users/u/messages", `{"data":"x","retain":true}`},
	} {
		reply := p.do(t, "POST", call.path, call.body)
		if reply.StatusCode != http.StatusTooManyRequests || !strings.Contains(reply.body, apierror.ReasonRetainFull) || !strings.Contains(reply.body, "retain.max_events allows 3") {
			t.Errorf("%s: %s %s", call.path, reply.Status, reply.body)
		}
	}
	st, err := p.Stats(t.Context(), &pealv1.StatsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if st.GetPublished() != 3 || st.GetRetained().GetEvents() != 3 || st.GetRetained().GetBytes() == 0 || st.GetRetained().GetStarts().GetReplayed() != 1 {
		t.Errorf("stats %v", st)
	}
}

func TestClearRetained(t *testing.T) {
	p, b := retainingPlane(t)
	publish := func(m broker.Message) {
		t.Helper()
		m.Data, m.Retain = "x", true
		if _, err := b.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		path string
		want string
	}{
		{"/v1/topics/t/retained", `{"cleared":2}`},
		{"/v1/topics/t/retained?conflate_key=k", `{"cleared":1}`},
		{"/v1/topics/t/retained?conflateKey=k", `{"cleared":1}`},
		{"/v1/topics/t/retained?conflate_key=", `{"cleared":1}`},
		{"/v1/topics/t/retained?conflate_key=z", `{"cleared":0}`},
		{"/v1/topics/u/retained", `{"cleared":0}`},
		{"/v1/users/t/retained", `{"cleared":0}`},
		{"/v1/broadcast/retained", `{"cleared":1}`},
		{"/v1/broadcast/retained?conflate_key=", `{"cleared":1}`},
		{"/v1/retained?all=true", `{"cleared":3}`},
	} {
		publish(broker.Message{Audience: broker.ToTopic("t")})
		publish(broker.Message{Audience: broker.ToTopic("t"), ConflateKey: "k"})
		publish(broker.Message{Audience: broker.Everyone()})
		if reply := p.do(t, "DELETE", c.path, ""); reply.StatusCode != http.StatusOK || strings.TrimSpace(reply.body) != c.want {
			t.Errorf("DELETE %s: %s %s, want %s", c.path, reply.Status, reply.body, c.want)
		}
	}

	for path, problem := range map[string]string{
		"/v1/topics/t/retained?topic=u":                     "topic is set by the path",
		"/v1/topics/t/retained?user_id=u":                   "user_id is set by the path",
		"/v1/topics/t/retained?everyone=true":               "everyone is set by the path",
		"/v1/broadcast/retained?everyone=true":              "everyone is set by the path",
		"/v1/broadcast/retained?topic=t":                    "topic is set by the path",
		"/v1/topics/t/retained?all=true":                    "all is set by the path",
		"/v1/retained":                                      "audience is missing; set everyone, user_id, topic or all",
		"/v1/retained?all=false":                            "all is false; want true",
		"/v1/retained?all=true&topic=t":                     "can't be combined with",
		"/v1/retained?all=true&conflate_key=k":              "all can't be combined with",
		"/v1/topics/t/retained?colour=red":                  "colour is not a parameter",
		"/v1/topics/t.*/retained":                           "is the pattern",
		"/v1/topics/t/retained?conflate_key=%0A":            "control character",
		"/v1/users/t/retained?conflateKey=a&conflate_key=b": "more than once",
	} {
		if reply := p.do(t, "DELETE", path, ""); reply.StatusCode != http.StatusBadRequest || !strings.Contains(reply.body, problem) {
			t.Errorf("DELETE %s: %s %s, want %q", path, reply.Status, reply.body, problem)
		}
	}
	for _, req := range []*pealv1.ClearRetainedRequest{{}, {Audience: &pealv1.ClearRetainedRequest_Everyone{}}, {Audience: &pealv1.ClearRetainedRequest_Topic{}}} {
		_, err := p.ClearRetained(t.Context(), req)
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: got %v", req, err)
		}
	}
}

func TestFinalMessages(t *testing.T) {
	p, b := retainingPlane(t)
	reply := p.do(t, "POST", "/v1/topics/answers.1/messages", `{"data":"bye","final":true}`)
	if reply.StatusCode != http.StatusOK {
		t.Fatalf("%s %s", reply.Status, reply.body)
	}
	_, id, _ := strings.Cut(reply.body, `"id":"`)
	id, _, _ = strings.Cut(id, `"`)
	for path, body := range map[string]string{"/v1/broadcast": `{"data":"x","final":true}`, "/v1/users/alice/messages": `{"data":"x","final":true}`, "/v1/topics/a.*/messages": `{"data":"x","final":true}`} {
		if reply := p.do(t, "POST", path, body); reply.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s %s", path, reply.Status, reply.body)
		}
	}
	if !b.NothingFollows([]string{"answers.1"}, id) {
		t.Errorf("the topic hasn't ended after %q", id)
	}
}
