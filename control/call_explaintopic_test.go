package control_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/peald/peald/control"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

func TestExplainTopic(t *testing.T) {
	cfg := control.Config{TopicPolicies: []control.TopicPolicy{
		{Pattern: "prices.internal.>", Anonymous: new(false)},
		{Pattern: "prices.>", MaxEvents: 1, MaxAge: new(time.Hour), SlowConsumer: "conflate", Anonymous: new(true), Retain: new(true)},
		{Pattern: "prices.eur", MaxEvents: 2},
		{Pattern: "audit", MaxAge: new(time.Duration(0)), Retain: new(false)},
	}}
	p := start(t, cfg, &fakeBroker{}, nil)
	for topic, want := range map[string]string{
		"prices.eur":         `{"policy":{"pattern":"prices.>","position":2,"maxEvents":1,"maxAge":"3600s","slowConsumer":"conflate","anonymous":true,"retain":true},"policies":4}`,
		"prices.internal.eu": `{"policy":{"pattern":"prices.internal.>","position":1,"anonymous":false},"policies":4}`,
		"audit":              `{"policy":{"pattern":"audit","position":4,"maxAge":"0s","retain":false},"policies":4}`,
		"prices":             `{"policies":4}`,
		"prices..eur":        `{"policies":4}`,
		"a%2Fb":              `{"policies":4}`,
	} {
		if got := p.do(t, http.MethodGet, "/v1/topics/"+topic+"/policy", ""); got.StatusCode != 200 || strings.TrimSpace(got.body) != want {
			t.Errorf("%s: got %d %s, want %s", topic, got.StatusCode, got.body, want)
		}
	}

	for topic, want := range map[string]string{"": "topic is empty", "prices.*": `topic is the pattern "prices.*"; want a topic without wildcards`} {
		_, err := p.ExplainTopic(t.Context(), &pealv1.ExplainTopicRequest{Topic: topic})
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want InvalidArgument, %s", topic, err, want)
		}
	}

	p.service.Reconfigure(control.Config{TopicPolicies: cfg.TopicPolicies[3:]}, nil)
	reply, err := p.ExplainTopic(t.Context(), &pealv1.ExplainTopicRequest{Topic: "audit"})
	if err != nil || reply.GetPolicy().GetPosition() != 1 || reply.GetPolicies() != 1 {
		t.Errorf("with new policies: %v, %v", reply, err)
	}
}
