package daemon

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/peald/peald/control"
	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/ssehttp"
)

// maxTopicPolicies is the maximum number of entries in topics. It is limited because
// they are tried one after another.
const maxTopicPolicies = 1000

// TopicPolicy is an entry of topics. If a field is nil or empty, the setting for all
// topics applies.
type TopicPolicy struct {
	Pattern      string       `mapstructure:"pattern"`
	History      TopicHistory `mapstructure:"history"`
	SlowConsumer string       `mapstructure:"slow_consumer"`
	// Anonymous allows or forbids subscribing without a subscriber token, regardless of
	// auth.anonymous_topics.
	Anonymous *bool `mapstructure:"anonymous"`
	// Retain makes the daemon retain each message to the topics. False has the same
	// effect as nil: it leaves that to the publishers.
	Retain *bool `mapstructure:"retain"`
}

// TopicHistory limits the history of each topic that matches a policy.
type TopicHistory struct {
	MaxEvents *int           `mapstructure:"max_events"`
	MaxAge    *time.Duration `mapstructure:"max_age"`
}

// retains reports whether the policy retains messages.
func (p TopicPolicy) retains() bool { return p.Retain != nil && *p.Retain }

// String returns the policy in the form of a YAML flow mapping.
func (p TopicPolicy) String() string {
	var history, fields []string
	fields = append(fields, "pattern: "+strconv.Quote(p.Pattern))
	if p.History.MaxEvents != nil {
		history = append(history, "max_events: "+strconv.Itoa(*p.History.MaxEvents))
	}
	if p.History.MaxAge != nil {
		history = append(history, "max_age: "+p.History.MaxAge.String())
	}
	if len(history) > 0 {
		fields = append(fields, "history: {"+strings.Join(history, ", ")+"}")
	}
	if p.SlowConsumer != "" {
		fields = append(fields, "slow_consumer: "+p.SlowConsumer)
	}
	if p.Anonymous != nil {
		fields = append(fields, "anonymous: "+strconv.FormatBool(*p.Anonymous))
	}
	if p.Retain != nil {
		fields = append(fields, "retain: "+strconv.FormatBool(*p.Retain))
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

func (c Config) checkTopics() *SettingError {
	if n := len(c.Topics); n > maxTopicPolicies {
		return &SettingError{"topics", strconv.Itoa(n) + " policies", fmt.Sprintf("at most %d", maxTopicPolicies)}
	}
	for i, p := range c.Topics {
		if err := c.checkTopicPolicy(fmt.Sprintf("topics[%d].", i), p); err != nil {
			return err
		}
	}
	return nil
}

// checkTopicPolicy checks an entry of topics. Prefix is the start of the keys in
// errors.
func (c Config) checkTopicPolicy(prefix string, p TopicPolicy) *SettingError {
	if err := broker.ValidPattern(p.Pattern); err != nil {
		return &SettingError{prefix + "pattern", strconv.Quote(p.Pattern), `a topic such as "orders", or a pattern such as "orders.*" or "orders.>"`}
	}

	switch history := p.History; {
	case history.MaxEvents != nil && *history.MaxEvents < 1:
		return &SettingError{prefix + "history.max_events", strconv.Itoa(*history.MaxEvents), "at least 1"}
	case history.MaxAge != nil && *history.MaxAge < 0:
		return &SettingError{prefix + "history.max_age", history.MaxAge.String(), "a duration, or 0s for no limit"}
	case (history.MaxEvents != nil || history.MaxAge != nil) && c.History.MaxEvents == 0:
		return &SettingError{prefix + "history", "limits although history.max_events is 0", "history.max_events of 1 or more, or no limits"}
	}

	if policies := []string{SlowDisconnect, SlowDropOldest, SlowConflate}; p.SlowConsumer != "" && !slices.Contains(policies, p.SlowConsumer) {
		return &SettingError{prefix + "slow_consumer", strconv.Quote(p.SlowConsumer), "disconnect, drop-oldest or conflate"}
	}

	if p.retains() && c.Retain.MaxEvents == 0 {
		return &SettingError{prefix + "retain", "true although retain.max_events is 0", "retain.max_events of 1 or more, or no retain"}
	}

	switch {
	case p.Anonymous == nil:
	case c.Auth.CallbackURL != "":
		return &SettingError{prefix + "anonymous", strconv.FormatBool(*p.Anonymous) + " with auth.callback_url", "nothing: the application decides who may subscribe to which topics"}
	case *p.Anonymous && !c.Auth.Anonymous:
		return &SettingError{prefix + "anonymous", "true without auth.anonymous", "auth.anonymous too: otherwise every stream needs a token"}
	}
	return nil
}

// shadowed returns the patterns of policies that apply to no topic, each with the
// pattern of an earlier policy that matches all of its topics.
func (c Config) shadowed() (pairs [][2]string) {
	for i, p := range c.Topics {
		j := slices.IndexFunc(c.Topics[:i], func(earlier TopicPolicy) bool { return broker.Covers(earlier.Pattern, p.Pattern) })
		if j >= 0 {
			pairs = append(pairs, [2]string{p.Pattern, c.Topics[j].Pattern})
		}
	}
	return pairs
}

// brokerPolicies returns the parts of the policies that concern the broker.
func brokerPolicies(topics []TopicPolicy) (policies []broker.TopicPolicy) {
	for _, t := range topics {
		p := broker.TopicPolicy{Pattern: t.Pattern, MaxAge: t.History.MaxAge, SlowConsumer: broker.SlowPolicy(t.SlowConsumer), Retain: t.retains()}
		if t.History.MaxEvents != nil {
			p.MaxEvents = *t.History.MaxEvents
		}
		policies = append(policies, p)
	}
	return policies
}

// controlPolicies converts the policies for the control plane, which reports them.
func controlPolicies(topics []TopicPolicy) (policies []control.TopicPolicy) {
	for _, t := range topics {
		p := control.TopicPolicy{Pattern: t.Pattern, MaxAge: t.History.MaxAge, SlowConsumer: t.SlowConsumer, Anonymous: t.Anonymous, Retain: t.Retain}
		if t.History.MaxEvents != nil {
			p.MaxEvents = *t.History.MaxEvents
		}
		policies = append(policies, p)
	}
	return policies
}

// anonymousRules returns the parts of the policies that concern streams without a
// token. It includes policies that leave the decision to auth.anonymous_topics, since
// the first match counts.
func anonymousRules(topics []TopicPolicy) (rules []ssehttp.TopicRule) {
	for _, t := range topics {
		r := ssehttp.TopicRule{Pattern: t.Pattern}
		if t.Anonymous != nil {
			r.Access = ssehttp.DenyAnonymous
			if *t.Anonymous {
				r.Access = ssehttp.AllowAnonymous
			}
		}
		rules = append(rules, r)
	}
	return rules
}
