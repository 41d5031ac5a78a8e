package broker

import (
	"slices"
	"strings"
	"time"
)

// TopicPolicy configures the topics that match a pattern. Only the first policy in
// Config.Topics whose pattern matches a topic applies to it.
type TopicPolicy struct {
	// Pattern must be valid according to [ValidPattern].
	Pattern string
	// MaxEvents is the maximum number of events in the history for each topic, in
	// addition to the limits of the history; 0 for no such limit.
	MaxEvents int
	// MaxAge overrides History.MaxAge; 0 means no limit. If it is nil,
	// History.MaxAge applies.
	MaxAge *time.Duration
	// SlowConsumer overrides Config.SlowConsumer for the topic's events. If it is
	// empty, Config.SlowConsumer applies.
	SlowConsumer SlowPolicy
	// Retain retains each of the topic's messages, as Message.Retain does.
	Retain bool
}

// equal reports whether two policies are the same.
func (p *TopicPolicy) equal(other *TopicPolicy) bool {
	return p.Pattern == other.Pattern && p.MaxEvents == other.MaxEvents && p.SlowConsumer == other.SlowConsumer && p.Retain == other.Retain &&
		(p.MaxAge == nil) == (other.MaxAge == nil) && (p.MaxAge == nil || *p.MaxAge == *other.MaxAge)
}

// policies holds the policies for topics. It is never modified.
type policies []prefixedPolicy

// prefixedPolicy is a policy with the prefix that all topics matching its pattern
// share. The prefix rules out most patterns quickly.
type prefixedPolicy struct {
	*TopicPolicy

	prefix string
}

func newPolicies(configured []TopicPolicy) policies {
	var p policies
	for _, policy := range configured {
		p = append(p, prefixedPolicy{&policy, literalPrefix(policy.Pattern)})
	}
	return p
}

// literalPrefix returns the part of a pattern before its first wildcard.
func literalPrefix(pattern string) string {
	start := 0
	for token := range strings.SplitSeq(pattern, ".") {
		if token == "*" || token == ">" {
			return pattern[:start]
		}
		start += len(token) + 1
	}
	return pattern
}

// find returns the policy for the audience, or nil if there is none.
func (p policies) find(a Audience) *TopicPolicy {
	if a.kind != oneTopic {
		return nil
	}
	for _, policy := range p {
		if strings.HasPrefix(a.name, policy.prefix) && Covers(policy.Pattern, a.name) {
			return policy.TopicPolicy
		}
	}
	return nil
}

func (p policies) equal(other policies) bool {
	return slices.EqualFunc(p, other, func(a, b prefixedPolicy) bool { return a.equal(b.TopicPolicy) })
}

// slowConsumer returns the policy's SlowConsumer; empty if policy is nil.
func (p *TopicPolicy) slowConsumer() SlowPolicy {
	if p == nil {
		return ""
	}
	return p.SlowConsumer
}

// retain reports whether the policy retains messages. A nil policy doesn't.
func (p *TopicPolicy) retain() bool { return p != nil && p.Retain }

// ownAge reports whether the policy overrides History.MaxAge.
func (p *TopicPolicy) ownAge() bool { return p != nil && p.MaxAge != nil }

// due returns when an event must leave the history because of its time to live or its
// topic's policy, in Unix nanoseconds; 0 for never.
func (p *TopicPolicy) due(e *event) int64 {
	if !p.ownAge() || *p.MaxAge == 0 {
		return e.expires
	}
	due := e.at + int64(*p.MaxAge)
	if e.expires != 0 {
		due = min(due, e.expires)
	}
	return due
}

// Overlap reports whether there is a topic that both patterns match. Either may be a
// topic itself.
func Overlap(p, q string) bool {
	if p == q {
		return true
	}
	for {
		a, aRest, aMore := strings.Cut(p, ".")
		b, bRest, bMore := strings.Cut(q, ".")
		switch {
		case a == "" || b == "":
			return false // no wildcard matches an empty token
		case a == ">":
			return !hasEmptyToken(q)
		case b == ">":
			return !hasEmptyToken(p)
		case a != b && a != "*" && b != "*":
			return false
		case !aMore || !bMore:
			return aMore == bMore
		}
		p, q = aRest, bRest
	}
}
