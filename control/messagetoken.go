package control

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/peald/peald/internal/broker"
)

// messageToken holds the contents of a ListMessages page token: the request it belongs
// to, and where the page starts.
type messageToken struct {
	order    string
	source   string // sourceHistory or sourceRetained
	audience string // a hash, in hexadecimal
	after    string // noEvent if the request has no after_id

	cursor   string // the id of the last message on the previous page
	position string // the position of the previous page
}

const (
	sourceHistory  = "history"
	sourceRetained = "retained"

	// noEvent marks the absence of an event in a token. It isn't a valid event id.
	noEvent = "-"
)

// tokenOf returns the token for q, without its position.
func tokenOf(q broker.Read) messageToken {
	t := messageToken{order: oldestFirst, source: sourceHistory, after: noEvent}
	if q.Newest {
		t.order = newestFirst
	}

	if q.Retained {
		t.source = sourceRetained
	}

	if q.After != "" {
		t.after = q.After
	}

	// All nodes of a cluster must compute the same hash.
	hash := fnv.New64a()
	user, isUser := q.Audience.User()
	topic, isTopic := q.Audience.Topic()
	_, _ = fmt.Fprintf(hash, "%t %t %s", isUser, isTopic, max(user, topic))
	t.audience = fmt.Sprintf("%016x", hash.Sum64())

	return t
}

// String returns the token in the form that parseMessageToken accepts.
func (t messageToken) String() string {
	return strings.Join([]string{t.order, t.source, t.audience, t.after, t.cursor, t.position}, " ")
}

// request returns the part of the token that identifies the request.
func (t messageToken) request() messageToken {
	t.cursor, t.position = "", ""

	return t
}

// difference returns the name of a request field in which t and other differ.
func (t messageToken) difference(other messageToken) string {
	switch {
	case t.order != other.order:
		return "order"
	case t.source != other.source:
		return "retained"
	case t.audience != other.audience:
		return "audience"
	default:
		return "after_id"
	}
}

var errMessageToken = errors.New("is not the next_page_token of an earlier reply")

// parseMessageToken parses the text of a token. It accepts only text that String can
// return.
func parseMessageToken(text string) (messageToken, error) {
	parts := strings.Split(text, " ")
	if len(parts) != 6 {
		return messageToken{}, errMessageToken
	}

	t := messageToken{order: parts[0], source: parts[1], audience: parts[2], after: parts[3], cursor: parts[4], position: parts[5]}
	valid := (t.order == oldestFirst || t.order == newestFirst) && (t.source == sourceHistory || t.source == sourceRetained) &&
		len(t.audience) == 16 && strings.Trim(t.audience, "0123456789abcdef") == "" &&
		(t.after == noEvent || broker.ValidEventID(t.after) == nil) &&
		broker.ValidEventID(t.cursor) == nil && broker.ValidEventID(t.position) == nil

	if !valid {
		return messageToken{}, errMessageToken
	}

	return t, nil
}
