package ssehttp

import (
	"net/http"
	"slices"

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
