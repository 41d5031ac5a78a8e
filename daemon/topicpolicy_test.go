package daemon_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// TestReloadOfTopicPolicies checks that new policies apply at once, that an open stream
// and what it missed survive them, and that an invalid policy changes nothing.
func TestReloadOfTopicPolicies(t *testing.T) {
	r := startReloadable(t, daemon.Options{}, func(cfg *daemon.Config) { cfg.Auth.AnonymousTopics = []string{"news"} })
	web := client(t)
	status := func(topic string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, "http://"+r.SSE+"/events?topic="+topic, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := web.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	check := func(when string, want map[string]int) {
		t.Helper()
		for topic, want := range want {
			if got := status(topic); got != want {
				t.Errorf("%s: topic %s gets status %d, want %d", when, topic, got, want)
			}
		}
	}

	check("at first", map[string]int{"news": 200, "prices.eur": 403})
	api, _ := controlClient(t, r.GRPC)
	publish := func(n int) {
		t.Helper()
		for range n {
			for _, topic := range []string{"news", "prices.eur"} {
				if _, err := api.Publish(t.Context(), &pealv1.PublishRequest{Topic: topic, Data: "x"}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	publish(5)
	held := func() int64 {
		t.Helper()
		stats, err := api.Stats(t.Context(), &pealv1.StatsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return stats.GetLog().GetEvents()
	}

	prices := []daemon.TopicPolicy{
		{Pattern: "prices.>", History: daemon.TopicHistory{MaxEvents: new(1), MaxAge: new(time.Hour)}, SlowConsumer: "conflate", Anonymous: new(true)},
		{Pattern: "news", Anonymous: new(false)},
		{Pattern: "prices.usd"},
	}
	logged := r.reload(t, func(cfg *daemon.Config) { cfg.Topics = prices })
	if !strings.Contains(logged, "changed=topics") || !strings.Contains(logged, `msg="policy applies to no topic" setting=topics pattern=prices.usd earlier=prices.>`) {
		t.Errorf("the log is %q", logged)
	}
	explain := func(topic string) *pealv1.TopicPolicy {
		t.Helper()
		reply, err := api.ExplainTopic(t.Context(), &pealv1.ExplainTopicRequest{Topic: topic})
		if err != nil {
			t.Fatal(err)
		}
		return reply.GetPolicy()
	}
	if p := explain("prices.usd"); p.GetPosition() != 1 || p.GetPattern() != "prices.>" || p.GetMaxEvents() != 1 || p.GetMaxAge().AsDuration() != time.Hour ||
		p.GetSlowConsumer() != "conflate" || !p.GetAnonymous() {
		t.Errorf("the policy for prices.usd is %v", p)
	}
	check("with policies", map[string]int{"news": 403, "prices.eur": 200, "prices.*": 200, "*": 403})
	if got := held(); got != 5+1 {
		t.Errorf("%d events are held, want 5 of news and one price", got)
	}
	publish(2)
	if got := held(); got != 7+1 {
		t.Errorf("%d events are held, want 7 of news and one price", got)
	}

	logged = r.reload(t, func(cfg *daemon.Config) { cfg.Topics = []daemon.TopicPolicy{{Pattern: "news", SlowConsumer: "wait"}} })
	if !strings.Contains(logged, `error="topics[0].slow_consumer: given \"wait\"`) {
		t.Errorf("the log is %q", logged)
	}
	check("after an invalid policy", map[string]int{"news": 403, "prices.eur": 200})

	r.reload(t, func(cfg *daemon.Config) { cfg.Topics = nil })
	if p := explain("prices.usd"); p != nil {
		t.Errorf("the policy for prices.usd is %v, want none", p)
	}
	check("without policies", map[string]int{"news": 200, "prices.eur": 403})
	publish(2)
	if got := held(); got != 9+3 {
		t.Errorf("%d events are held, want 12", got)
	}
}
