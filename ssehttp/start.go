package ssehttp

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/peald/peald/internal/broker"
)

// acceptedSince lists the accepted values of since. It follows "want" in a rejection.
const acceptedSince = "all, a duration such as 10m, a time such as 2026-11-27T09:30:00Z (RFC 3339, with + encoded as %2B), or an event id"

// start describes where a request wants its stream to start: after the last event that
// the client has, or earlier. The zero value stands for the current end of the history.
type start struct {
	lastEventID string
	earlier     broker.Start // if lastEventID is empty
}

// startOf returns where a request wants its stream to start. The Last-Event-ID header
// takes precedence over the query: when EventSource reconnects, it sends the header
// along with the query of its first connection.
func startOf(header http.Header, query url.Values) (start, *rejection) {
	if id := headerEventID(header); id != "" {
		return start{lastEventID: id}, nil
	}

	var given []string
	for _, name := range []string{"last_event_id", "since", "rewind"} {
		values := query[name]
		if name == "last_event_id" {
			values = slices.DeleteFunc(slices.Clone(values), func(id string) bool { return id == "" })
		}
		if len(values) == 0 {
			continue
		}
		if slices.ContainsFunc(values, func(other string) bool { return other != values[0] }) {
			return start{}, reject(BadRequest, http.StatusBadRequest, "the query has two different values for %s; want one", name)
		}
		given = append(given, name, values[0])
	}
	if len(given) > 2 {
		return start{}, reject(BadRequest, http.StatusBadRequest, "the query has %s and %s; want at most one of last_event_id, since and rewind", given[0], given[2])
	}
	if len(given) == 0 {
		return start{}, nil
	}
	switch name, value := given[0], given[1]; name {
	case "since":
		return parseSince(value)
	case "rewind":
		return parseRewind(value)
	default:
		if err := broker.ValidEventID(value); err != nil {
			return start{}, rejectQuoting(BadRequest, http.StatusBadRequest, "%v", err)
		}
		return start{lastEventID: value}, nil
	}
}

// headerEventID returns the value of the Last-Event-ID header; empty for none.
func headerEventID(header http.Header) string {
	lines := slices.DeleteFunc(slices.Clone(header["Last-Event-Id"]), func(id string) bool { return id == "" })
	// Lines that differ form a list (RFC 9110 §5.3), which isn't a valid id. Choosing
	// one of them could skip events.
	id := strings.Join(slices.Compact(lines), ", ")
	// The client would send an invalid id again and again, so a rejection would be
	// permanent. The broker resets the stream instead.
	return strings.ToValidUTF8(id[:min(len(id), broker.MaxEventID)], "\uFFFD")
}

// parseSince parses the value of the since query parameter.
func parseSince(value string) (start, *rejection) {
	if value == "all" {
		return start{earlier: broker.SinceAll()}, nil
	}
	if ago, err := time.ParseDuration(value); err == nil && ago > 0 && value[0] != '+' {
		return start{earlier: broker.SinceAgo(ago)}, nil
	}
	var at time.Time
	if err := at.UnmarshalText([]byte(value)); err == nil { // stricter than time.Parse
		return start{earlier: broker.SinceTime(at)}, nil
	}
	if broker.ValidEventID(value) == nil {
		return start{lastEventID: value}, nil
	}
	return start{}, rejectQuoting(BadRequest, http.StatusBadRequest, "since is %q; want %s", shortened(value), acceptedSince)
}

// parseRewind parses the value of the rewind query parameter.
func parseRewind(value string) (start, *rejection) {
	n, err := strconv.Atoi(value)
	if err != nil || strconv.Itoa(n) != value || n < 1 || n > broker.MaxRewind {
		return start{}, rejectQuoting(BadRequest, http.StatusBadRequest,
			"rewind is %q; want the number of events to start with, from 1 to %d", shortened(value), broker.MaxRewind)
	}
	return start{earlier: broker.Rewind(n)}, nil
}
