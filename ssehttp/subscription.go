package ssehttp

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/peald/peald/internal/broker"
)

// topics validates the topics and patterns that a stream asks for, and returns
// them without doubles.
func topics(asked, allowed []string) ([]string, *refusal) {
	if len(asked) == 0 {
		return nil, nil
	}
	slices.Sort(asked)
	asked = slices.Compact(asked)
	if len(asked) > broker.MaxTopics {
		return nil, refuse(BadRequest, http.StatusBadRequest, "topic is given %d times, 1 to %d are accepted", len(asked), broker.MaxTopics)
	}
	for _, topic := range asked {
		if err := broker.ValidPattern(topic); err != nil {
			return nil, quoting(BadRequest, http.StatusBadRequest, "%v", err)
		}
		if !slices.ContainsFunc(allowed, func(a string) bool { return broker.Covers(a, topic) }) {
			return nil, quoting(BadTopic, http.StatusForbidden, "topic %q is not allowed to this stream", topic)
		}
	}
	return asked, nil
}

// lastEventID finds what the client got last. The header wins: EventSource
// sends it when it reconnects, with the query of the first connection.
func lastEventID(header http.Header, query url.Values) (string, *refusal) {
	lines := slices.DeleteFunc(slices.Clone(header["Last-Event-Id"]), func(id string) bool { return id == "" })
	if len(lines) > 0 {
		// Lines that differ are one list (RFC 9110 §5.3), which is no id: to
		// choose one of them could skip events.
		id := strings.Join(slices.Compact(lines), ", ")
		// Whatever it says, the client would say it again and again, so that
		// a refusal would be for good. The broker resets the stream instead.
		return strings.ToValidUTF8(id[:min(len(id), broker.MaxEventID)], "\uFFFD"), nil
	}
	given := slices.DeleteFunc(slices.Clone(query["last_event_id"]), func(id string) bool { return id == "" })
	if len(given) == 0 {
		return "", nil
	}
	id := given[0]
	if slices.ContainsFunc(given, func(other string) bool { return other != id }) {
		return "", refuse(BadRequest, http.StatusBadRequest, "the query has two different values of last_event_id; one is accepted")
	}
	if err := broker.ValidEventID(id); err != nil {
		return "", quoting(BadRequest, http.StatusBadRequest, "%v", err)
	}
	return id, nil
}
