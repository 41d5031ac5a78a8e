package control_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

func TestPublishReachesSubscribers(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	named, patterned := stream(t, b, "", "orders.new"), stream(t, b, "alice", "orders.*", "orders.>")
	others := []*sink{stream(t, b, ""), stream(t, b, "bob", "orders"), stream(t, b, "", "orders.new.eu")}

	reply, err := p.Publish(t.Context(), &pealv1.PublishRequest{Topic: "orders.new", Data: "one"})
	if err != nil || reply.GetRecipients() != 2 || reply.GetId() == "" {
		t.Fatalf("%v, %v", reply, err)
	}

	rest := p.do(t, "POST", "/v1/topics/orders.new/messages", `{"data":"two","event":"order"}`)
	if rest.StatusCode != http.StatusOK || !strings.Contains(rest.body, `"recipients":2`) {
		t.Errorf("REST: %s %s", rest.Status, rest.body)
	}

	for _, s := range []*sink{named, patterned} {
		s.waitFor(t, "id: "+reply.GetId()+"\nevent: topic\ndata: one\n\n")
		s.waitFor(t, "event: order\ndata: two\n\n")
	}

	if _, err := p.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: "the end"}); err != nil {
		t.Fatal(err)
	}

	for i, s := range others {
		if s.waitFor(t, "data: the end\n\n"); strings.Contains(s.text(), "data: one") || strings.Contains(s.text(), "data: two") {
			t.Errorf("stream %d, for another topic, received %q", i, s.text())
		}
	}

	reply, err = p.Publish(t.Context(), &pealv1.PublishRequest{Topic: "no.subscribers", Data: "hi"})
	if err != nil || reply.GetRecipients() != 0 || reply.GetId() == "" {
		t.Errorf("without subscribers: %v, %v", reply, err)
	}
}

func TestTopicsInPaths(t *testing.T) {
	var to broker.Audience
	p := start(t, control.Config{}, &fakeBroker{publish: func(m broker.Message) (broker.Receipt, error) {
		to = m.Audience
		return broker.Receipt{ID: "e-1", Recipients: 1}, nil
	}}, nil)
	for _, topic := range unusualNames() {
		for _, escaped := range []string{strings.ReplaceAll(url.PathEscape(topic), ".", "%2E"), escapeAll(topic)} {
			to = broker.Audience{}
			got := p.do(t, "POST", "/v1/topics/"+escaped+"/messages", `{"data":"hi"}`)
			if got.StatusCode != http.StatusOK || to != broker.ToTopic(topic) {
				t.Errorf("%q as %s: %s, sent to %+v: %s", topic, escaped, got.Status, to, got.body)
			}
		}
	}
}

func TestInvalidTopics(t *testing.T) {
	p := start(t, control.Config{}, startBroker(t), nil)
	for topic, want := range map[string]string{
		"":                       "empty",
		strings.Repeat("x", 256): "256",
		"a\nb":                   "control",
		"a\u0085b":               "control",
		"orders.*":               "pattern",
		"orders.>":               "pattern",
		"*":                      "pattern",
	} {
		_, err := p.Publish(t.Context(), &pealv1.PublishRequest{Topic: topic, Data: "hi"})
		failures := []failure{failureOf(t, err), p.post(t, "/v1/topics/"+url.PathEscape(topic)+"/messages", "hi", "")}
		for _, f := range failures {
			if f.code != codes.InvalidArgument || f.reason != "INVALID_FIELD" || !strings.Contains(f.fields["topic"], want) {
				t.Errorf("%.20q: %+v", topic, f)
			}
		}
	}
}

func TestListTopics(t *testing.T) {
	b := startBroker(t)
	p := start(t, control.Config{}, b, nil)
	want := make([]string, 0, 25)

	for i := range cap(want) {
		topic := fmt.Sprintf("orders.%02d", i)
		want = append(want, topic)
		stream(t, b, "", topic, "zoë.>")
	}

	for _, size := range []int32{1, 7, 25, 26, 1000} {
		if got := p.topics(t, size, "orders."); !slices.Equal(got, want) {
			t.Errorf("pages of %d: %q", size, got)
		}
	}

	// Patterns are listed unchanged, and their page tokens are accepted.
	if got := p.topics(t, 1, ""); !slices.Equal(got, append(want, "zoë.>")) {
		t.Errorf("all topics: %q", got)
	}

	rest := p.do(t, "GET", "/v1/topics?pageSize=5&prefix="+url.QueryEscape("zoë"), "")
	if want := `{"topics":[{"topic":"zoë.>","subscribers":25}],"nextPageToken":"","missingNodes":[]}` + "\n"; rest.body != want {
		t.Errorf("REST: %s, want %s", rest.body, want)
	}

	if rest := p.do(t, "GET", "/v1/topics?prefix=nothing", ""); rest.body != `{"topics":[],"nextPageToken":"","missingNodes":[]}`+"\n" {
		t.Errorf("REST without topics: %s", rest.body)
	}

	_, err := p.ListTopics(t.Context(), &pealv1.ListTopicsRequest{PageSize: -1, PageToken: "?"})
	if f := failureOf(t, err); f.code != codes.InvalidArgument || len(f.fields) != 2 {
		t.Errorf("two invalid fields: %+v", f)
	}
}

// topics lists topics page by page.
func (p *plane) topics(t *testing.T, size int32, prefix string) []string {
	t.Helper()
	var topics []string
	for token := ""; ; {
		reply, err := p.ListTopics(t.Context(), &pealv1.ListTopicsRequest{PageSize: size, Prefix: prefix, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		if len(reply.GetTopics()) > int(size) {
			t.Fatalf("%d topics on a page of %d", len(reply.GetTopics()), size)
		}
		for _, topic := range reply.GetTopics() {
			topics = append(topics, topic.GetTopic())
			if topic.GetSubscribers() < 1 {
				t.Errorf("%v", topic)
			}
		}
		if token = reply.GetNextPageToken(); token == "" {
			return topics
		}
	}
}
