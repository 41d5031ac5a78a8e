package hooks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// The types of messages.
const (
	presenceMessage = "peald.presence"
	snapshotMessage = "peald.presence.snapshot"
	testMessage     = "peald.test"
)

const (
	// maxBatch limits the number of events in a batch, or names on a page.
	maxBatch = 1000
	// maxBatchBytes limits the size of a batch. Many frameworks reject requests that are
	// larger than 100 kB by default.
	maxBatchBytes = 64 << 10
)

// timeFormat is RFC 3339 with milliseconds.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// message is the body of a request.
type message struct {
	Type      string `json:"type"`
	Timestamp string `json:"timestamp"`
	Data      any    `json:"data"`
}

type eventsData struct {
	Snapshot string            `json:"snapshot"`
	Sequence int               `json:"sequence"`
	Events   []json.RawMessage `json:"events"`
}

type eventData struct {
	Type   string `json:"type"`
	UserID string `json:"user_id,omitempty"`
	Topic  string `json:"topic,omitempty"`
	Time   string `json:"time"`
}

type pageData struct {
	Snapshot string             `json:"snapshot"`
	Sequence int                `json:"sequence"`
	Last     bool               `json:"last"`
	Users    *[]json.RawMessage `json:"users,omitempty"`
	Topics   *[]json.RawMessage `json:"topics,omitempty"`
}

type testData struct {
	Node string `json:"node,omitempty"`
}

// messageID returns the id of a batch. It is the same each time the batch is sent.
func messageID(snapshot string, sequence int) string { return fmt.Sprintf("%s-%d", snapshot, sequence) }

// encodeEvents fills the batch with the first of the events, if there are any.
func (b *batch) encodeEvents(snapshot string, events []event, now time.Time) {
	encoded := []json.RawMessage{}
	for size := 0; len(encoded) < min(len(events), maxBatch); {
		e := events[len(encoded)]
		d := eventData{Type: typeOf(e.key.kind, e.present), Time: formatTime(e.at)}
		if e.key.kind == userKind {
			d.UserID = e.key.name
		} else {
			d.Topic = e.key.name
		}
		text := encode(d)
		if size += len(text); size > maxBatchBytes && len(encoded) > 0 {
			break
		}
		encoded = append(encoded, text)
	}
	b.events = events[:len(encoded)]
	b.body = encodeMessage(presenceMessage, eventsData{snapshot, b.sequence, encoded}, now)
}

// encodePage fills the batch with the first of the names in a snapshot.
func (b *batch) encodePage(snapshot string, h Hook, names []key, now time.Time) {
	users, topics := []json.RawMessage{}, []json.RawMessage{}
	for size := 0; b.names < min(len(names), maxBatch); b.names++ {
		k := names[b.names]
		text := encode(k.name)
		if size += len(text); size > maxBatchBytes && b.names > 0 {
			break
		}
		if k.kind == userKind {
			users = append(users, text)
		} else {
			topics = append(topics, text)
		}
	}
	b.last = b.names == len(names)

	page := pageData{Snapshot: snapshot, Sequence: b.sequence, Last: b.last}
	if h.wantsKind(userKind) {
		page.Users = &users
	}
	if h.wantsKind(topicKind) {
		page.Topics = &topics
	}
	b.body = encodeMessage(snapshotMessage, page, now)
}

func encodeMessage(of string, data any, now time.Time) []byte {
	return encode(message{of, formatTime(now), data})
}

func formatTime(t time.Time) string { return t.UTC().Format(timeFormat) }

// encode returns v in JSON. The types in this file and strings can always be encoded.
func encode(v any) []byte {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v) //nolint:errchkjson // See above.
	return bytes.TrimSuffix(text.Bytes(), []byte("\n"))
}
