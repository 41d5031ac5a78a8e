package ssehttp_test

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

// TestTopicRules checks which topics streams without a token may subscribe to. A
// pattern is allowed only if all topics that it matches are.
func TestTopicRules(t *testing.T) {
	s := start(t, path{}, func(c *ssehttp.Config, _ *broker.Config) {
		c.AnonymousTopics = []string{"news", "listed.>"}
		c.TopicRules = []ssehttp.TopicRule{
			{Pattern: "prices.internal.>", Access: ssehttp.DenyAnonymous},
			{Pattern: "prices.draft"},
			{Pattern: "prices.>", Access: ssehttp.AllowAnonymous},
			{Pattern: "listed.secret", Access: ssehttp.DenyAnonymous},
			{Pattern: "listed.*"},
			{Pattern: "later.*", Access: ssehttp.AllowAnonymous},
			{Pattern: "later.>", Access: ssehttp.AllowAnonymous},
			{Pattern: "orders.>", Access: ssehttp.DenyAnonymous},
			{Pattern: "orders.public", Access: ssehttp.AllowAnonymous},
		}
	})

	for topic, status := range map[string]int{
		"news":                200,
		"prices.eur":          200,
		"prices.eur.fx":       200,
		"prices.eur.*":        200,
		"prices.internal.x":   403,
		"prices.internal.>":   403,
		"prices.internal":     200, // prices.internal.> doesn't match it
		"prices.*.x":          403, // includes prices.internal.x
		"prices.draft":        403,
		"prices.*":            403, // includes prices.draft
		"prices.>":            403,
		">":                   403,
		"*":                   403,
		"listed.a":            200,
		"listed.secret":       403,
		"listed.*":            403,
		"listed.>":            403,
		"listed.a.b":          200,
		"listed.*.b":          200,
		"later.*":             200,
		"later.>":             200,
		"later.a.b":           200,
		"orders.public":       403, // the first match counts
		"other":               403,
		"prices":              403,
		"prices..internal":    403, // no pattern matches an empty token
		"prices.internal.x.y": 403,
	} {
		if resp := s.request(t, http.MethodGet, "/events?topic="+url.QueryEscape(topic)); resp.StatusCode != status {
			t.Errorf("topic %q: status %d, want %d", topic, resp.StatusCode, status)
		} else if status == http.StatusForbidden {
			if body, _ := io.ReadAll(resp.Body); !strings.Contains(string(body), topic) {
				t.Errorf("topic %q: the answer is %q", topic, body)
			}
		}
	}

	// A token's topics are all that counts for its streams.
	for topic, status := range map[string]int{"prices.eur": 403, "orders.public": 200, "news": 200} {
		if resp := s.request(t, http.MethodGet, "/events?access_token=good-alice&topic="+topic); resp.StatusCode != status {
			t.Errorf("topic %q with a token: status %d, want %d", topic, resp.StatusCode, status)
		}
	}
}

// TestTopicRulesFailClosed checks with random rules that a pattern is allowed only if
// each topic that it matches is.
func TestTopicRulesFailClosed(t *testing.T) {
	names := []string{"a", "b", "a.a", "a.b", "b.a", "b.b", "a.a.a", "a.b.a", "b.a.b", "*", ">", "a.*", "*.a", "b.*", "a.>", "b.>", "*.*", "*.>", "a.*.a", "a.b.>"}
	name := rapid.SampledFrom(names)
	rapid.Check(t, func(rt *rapid.T) {
		listed := rapid.SliceOfN(name, 0, 2).Draw(rt, "listed")
		var rules []ssehttp.TopicRule
		for _, pattern := range rapid.SliceOfN(name, 0, 4).Draw(rt, "patterns") {
			access := rapid.SampledFrom([]ssehttp.Access{ssehttp.AsConfigured, ssehttp.AllowAnonymous, ssehttp.DenyAnonymous}).Draw(rt, "access")
			rules = append(rules, ssehttp.TopicRule{Pattern: pattern, Access: access})
		}
		allowed := ssehttp.AnonymousAccess(listed, rules)

		covered := func(patterns []string, topic string) bool {
			return slices.ContainsFunc(patterns, func(p string) bool { return broker.Covers(p, topic) })
		}
		pattern := name.Draw(rt, "pattern")
		all := true
		for _, topic := range names {
			if broker.ValidTopic(topic) != nil || !broker.Covers(pattern, topic) {
				continue
			}
			want := covered(listed, topic)
			i := slices.IndexFunc(rules, func(r ssehttp.TopicRule) bool { return broker.Covers(r.Pattern, topic) })
			if i >= 0 && rules[i].Access != ssehttp.AsConfigured {
				want = rules[i].Access == ssehttp.AllowAnonymous
			}
			if allowed(topic) != want {
				rt.Fatalf("topic %q: allowed is %v, want %v", topic, !want, want)
			}
			all = all && want
		}
		if allowed(pattern) && !all {
			rt.Fatalf("pattern %q is allowed, but not all of its topics are", pattern)
		}
	})
}
