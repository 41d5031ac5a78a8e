package hooks

import (
	"net/url"
	"slices"
	"time"
)

// The types of events.
const (
	UserOnline    = "user.online"
	UserOffline   = "user.offline"
	TopicOccupied = "topic.occupied"
	TopicVacated  = "topic.vacated"
)

// EventTypes returns all types of events.
func EventTypes() []string { return []string{UserOnline, UserOffline, TopicOccupied, TopicVacated} }

// Hook configures a webhook.
type Hook struct {
	// URL is the URL of the receiver. Its scheme is http or https. The names of all
	// hooks must differ; see Name.
	URL string

	// Events holds the types of events that the receiver gets, at least one.
	Events []string

	// Secret holds the secrets that sign requests, separated by spaces. [CheckSecret]
	// must accept it.
	Secret string

	// Delay is the time that a user or topic must be without streams before the receiver
	// is notified.
	Delay time.Duration
}

// Name returns the part of the hook's URL that identifies the hook in logs, metrics and
// calls. It leaves out the user info and the query, since these may be secret.
func (h Hook) Name() string {
	u, err := url.Parse(h.URL)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = nil, "", false, "", ""
	return u.String()
}

// wants reports whether the hook has events of one of the types.
func (h Hook) wants(types ...string) bool {
	return slices.ContainsFunc(types, func(t string) bool { return slices.Contains(h.Events, t) })
}

// wantsKind reports whether the hook has events about users, or about topics.
func (h Hook) wantsKind(k kind) bool { return h.wants(typeOf(k, true), typeOf(k, false)) }
