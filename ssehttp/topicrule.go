package ssehttp

import (
	"slices"

	"github.com/peald/peald/internal/auth"
	"github.com/peald/peald/internal/broker"
)

// TopicRule determines whether streams without a token may subscribe to the topics
// that match a pattern.
type TopicRule struct {
	Pattern string
	Access  Access
}

// Access is a decision about streams without a token.
type Access uint8

const (
	// AsConfigured leaves the decision to Config.AnonymousTopics.
	AsConfigured Access = iota
	// AllowAnonymous allows the topics.
	AllowAnonymous
	// DenyAnonymous denies the topics, even if Config.AnonymousTopics contains them.
	DenyAnonymous
)

// allows returns a function that reports whether a stream may subscribe to a topic or
// pattern. token is the request's token; empty for none.
func (rules *rules) allows(who auth.Identity, token string) func(topic string) bool {
	if token == "" && rules.cfg.Application == nil {
		return rules.allowsAnonymous
	}
	return func(topic string) bool { return coveredBy(who.Topics, topic) }
}

// allowsAnonymous reports whether a stream without a token may subscribe to a topic
// or pattern. It may subscribe to a pattern only if it may subscribe to every topic
// that the pattern matches.
func (rules *rules) allowsAnonymous(topic string) bool {
	for _, r := range rules.cfg.TopicRules {
		if !broker.Overlap(r.Pattern, topic) {
			continue
		}
		switch r.Access {
		case AllowAnonymous:
		case AsConfigured:
			// It would be enough for the list to cover the topics that this rule
			// applies to. But the check isn't that precise: the list must cover
			// everything that topic matches.
			if !coveredBy(rules.cfg.AnonymousTopics, topic) {
				return false
			}
		default:
			return false
		}
		if broker.Covers(r.Pattern, topic) {
			return true // no other rule applies to any of the topics
		}
	}
	return coveredBy(rules.cfg.AnonymousTopics, topic)
}

// coveredBy reports whether one of the patterns matches every topic that topic
// matches. The topic may itself be a pattern.
func coveredBy(patterns []string, topic string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return broker.Covers(p, topic) })
}
