package ssehttp

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/peald/peald/internal/broker"
)

// topics validates the requested topics and patterns, and returns them without
// duplicates.
func topics(requested []string, allowed func(topic string) bool) ([]string, *rejection) {
	if len(requested) == 0 {
		return nil, nil
	}
	slices.Sort(requested)
	requested = slices.Compact(requested)
	if len(requested) > broker.MaxTopics {
		return nil, reject(BadRequest, http.StatusBadRequest, "topic is given %d times; want at most %d", len(requested), broker.MaxTopics)
	}
	for _, topic := range requested {
		if err := broker.ValidPattern(topic); err != nil {
			return nil, rejectQuoting(BadRequest, http.StatusBadRequest, "%v", err)
		}
		if !allowed(topic) {
			return nil, rejectQuoting(BadTopic, http.StatusForbidden, "topic %q is not allowed for this stream", topic)
		}
	}
	return requested, nil
}

// lastEventID returns the id of the last event that the client got; empty for
// none. The header takes precedence over the query: when EventSource reconnects,
// it sends the header along with the query of its first connection.
func lastEventID(header http.Header, query url.Values) (string, *rejection) {
	lines := slices.DeleteFunc(slices.Clone(header["Last-Event-Id"]), func(id string) bool { return id == "" })
	if len(lines) > 0 {
		// Different lines form a list (RFC 9110 §5.3), which isn't a valid id.
		// Choosing one of them could skip events.
		id := strings.Join(slices.Compact(lines), ", ")
		// The client would send an invalid id again and again, so a rejection
		// would be permanent. The broker resets the stream instead.
		return strings.ToValidUTF8(id[:min(len(id), broker.MaxEventID)], "\uFFFD"), nil
	}

	given := slices.DeleteFunc(slices.Clone(query["last_event_id"]), func(id string) bool { return id == "" })
	if len(given) == 0 {
		return "", nil
	}
	id := given[0]
	if slices.ContainsFunc(given, func(other string) bool { return other != id }) {
		return "", reject(BadRequest, http.StatusBadRequest, "the query has two different values for last_event_id; want one")
	}
	if err := broker.ValidEventID(id); err != nil {
		return "", rejectQuoting(BadRequest, http.StatusBadRequest, "%v", err)
	}
	return id, nil
}
