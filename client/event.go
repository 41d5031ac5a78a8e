package client

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/peald/peald/internal/eventstream"
)

// Event is an event of a stream.
type Event struct {
	// ID is the position after this event. It is empty if the server has no history.
	ID string

	// Type is the type that the publisher chose. By default it is "broadcast" for an
	// event to everyone, "individual" for one to a user, and "topic" for one to a
	// topic. Types that start with "peald." are the server's.
	Type string

	// Data is the data. Lines are separated by LF.
	Data string

	// Retained reports whether the event is a retained value: the latest event of its
	// audience from before the start of the stream.
	Retained bool

	// Reset is set if events before this one are missing.
	Reset *Reset

	// End is set if a topic has ended.
	End *End

	// Audience, Topic and Time are set if the subscription has [WithEnvelope], except
	// in a Reset and an End.
	Audience Audience
	Topic    string    // if Audience is ToTopic
	Topics   []string  // all topics of the event to which the stream subscribes, if there are several
	Time     time.Time // of publication
}

// Reset reports that events are missing and can't be sent again. A program that
// derives state from events must load it again.
type Reset struct {
	// Reason is "expired" if the history no longer holds the events, "unknown" if the
	// position isn't from this history, and "overflow" if the client read too slowly.
	Reason string

	// LastEventID is the position after which events are missing.
	LastEventID string
}

// End reports that a topic has ended. Nothing follows unless the topic is reopened.
type End struct {
	Topic string
}

// Audience is the kind of an event's audience.
type Audience uint8

// The kinds of audiences.
const (
	Unknown    Audience = iota // without WithEnvelope
	ToTopic                    // the subscribers of a topic
	ToUser                     // the stream's user
	ToEveryone                 // all streams
)

// String returns the name of the audience.
func (a Audience) String() string { return [...]string{"unknown", "topic", "user", "everyone"}[a] }

const (
	reservedTypes = "peald."
	resetType     = reservedTypes + "reset"
	endType       = reservedTypes + "end"
	overflow      = "overflow"
)

// newEvent returns an event without its id. It returns a *MalformedEventError if the
// data isn't what the type requires, or isn't an envelope when it must be.
func newEvent(e eventstream.Event, enveloped bool) (Event, error) {
	event := Event{Type: typeName(e.Type), Data: string(e.Data)}
	var err error
	switch {
	case event.Type == resetType:
		event.Reset, err = parseReset(e.Data)
	case event.Type == endType:
		event.End, err = parseEnd(e.Data)
	case enveloped && !isReserved(event.Type):
		err = event.open(e.Data)
	}
	if err != nil {
		return Event{}, &MalformedEventError{ID: string(e.ID), Type: event.Type, Data: shortened(event.Data), Err: err}
	}
	return event, nil
}

// isReserved reports whether events of a type come from the server itself.
func isReserved(eventType string) bool { return strings.HasPrefix(eventType, reservedTypes) }

// typeName returns a type as a string. It doesn't allocate for the usual ones.
func typeName(t []byte) string {
	switch string(t) {
	case "broadcast":
		return "broadcast"
	case "individual":
		return "individual"
	case "topic":
		return "topic"
	case "message":
		return "message"
	}
	return string(t)
}

func parseReset(data []byte) (*Reset, error) {
	var members struct {
		Reason      *string `json:"reason"`
		LastEventID *string `json:"last_event_id"`
	}
	if err := unmarshal(data, &members); err != nil {
		return nil, err
	}
	if members.Reason == nil || members.LastEventID == nil {
		return nil, errors.New(`want an object with "reason" and "last_event_id"`)
	}
	return &Reset{*members.Reason, *members.LastEventID}, nil
}

func parseEnd(data []byte) (*End, error) {
	var members struct {
		Topic *string `json:"topic"`
	}
	if err := unmarshal(data, &members); err != nil {
		return nil, err
	}
	if members.Topic == nil {
		return nil, errors.New(`want an object with "topic"`)
	}
	return &End{*members.Topic}, nil
}

// open sets the fields of e from an envelope, whose type must be that of e.
func (e *Event) open(data []byte) error {
	var members struct {
		Topic     *string    `json:"topic"`
		Topics    []string   `json:"topics"`
		User      *bool      `json:"user"`
		Broadcast *bool      `json:"broadcast"`
		Event     *string    `json:"event"`
		Data      *string    `json:"data"`
		Time      *time.Time `json:"time"`
	}
	if err := unmarshal(data, &members); err != nil {
		return err
	}
	if members.Event == nil || members.Data == nil || members.Time == nil {
		return errors.New(`want an envelope with "event", "data" and "time"`)
	}
	if *members.Event != e.Type {
		return fmt.Errorf("the envelope is for the type %q", *members.Event)
	}

	audiences := 0
	if members.Topic != nil {
		e.Audience, e.Topic, e.Topics = ToTopic, *members.Topic, members.Topics
		audiences++
	}
	if members.User != nil && *members.User {
		e.Audience = ToUser
		audiences++
	}
	if members.Broadcast != nil && *members.Broadcast {
		e.Audience = ToEveryone
		audiences++
	}
	if audiences != 1 {
		return fmt.Errorf(`the envelope has %d audiences; want one of "topic", "user": true and "broadcast": true`, audiences)
	}
	e.Data, e.Time = *members.Data, *members.Time
	return nil
}

// unmarshal reads a JSON object. It rejects invalid UTF-8 and duplicate members.
// Unknown members are ignored, since later versions of peald may add some.
func unmarshal(data []byte, members any) error {
	if err := json.Unmarshal(data, members); err != nil {
		return fmt.Errorf("want a JSON object: %w", err)
	}
	return nil
}

// shortened returns text for an error message.
func shortened(text string) string {
	const limit = 100
	if len(text) > limit {
		return strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return text
}
