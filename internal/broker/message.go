package broker

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/peald/peald/internal/eventstream"
)

const (
	// MaxData is the maximum length of a message's data, in bytes.
	MaxData = 1 << 20
	// MaxUserID is the maximum length of a user id, in bytes.
	MaxUserID = 255
	// MaxTTL is the maximum time to live of a message.
	MaxTTL = 365 * 24 * time.Hour
	// ReservedTypes is the prefix of event types that only the daemon uses.
	ReservedTypes = "peald."
)

// ErrClosed is returned once the broker is closing.
var ErrClosed = errors.New("broker is closing")

// InvalidError describes an invalid field of a request.
type InvalidError struct {
	// Field is the field's name in the control API, such as "data".
	Field string
	// Reason completes a sentence that starts with the field's name.
	Reason string
}

func (e *InvalidError) Error() string { return e.Field + " " + e.Reason }

// IsRejection reports whether err means that a message can't be published, now or later:
// it is invalid, its idempotency key has been used, or there is no room to retain it.
func IsRejection(err error) bool {
	if _, invalid := errors.AsType[*InvalidError](err); invalid {
		return true
	}
	_, full := errors.AsType[*RetainFullError](err)

	return full || errors.Is(err, ErrKeyUsed)
}

// Audience is the set of streams that a message is for. The zero value is empty.
type Audience struct {
	kind audienceKind
	name string
}

type audienceKind uint8

const (
	nobody audienceKind = iota
	everyone
	oneUser
	oneTopic
)

// audiences is the number of audience kinds.
const audiences = int(oneTopic) + 1

// Everyone returns the audience of all open streams, authenticated or not.
func Everyone() Audience { return Audience{kind: everyone} }

// ToUser returns the audience of all open streams of one user.
func ToUser(id string) Audience { return Audience{kind: oneUser, name: id} }

// ToTopic returns the audience of all open streams that subscribe to a topic, by
// its name or by a pattern.
func ToTopic(name string) Audience { return Audience{kind: oneTopic, name: name} }

// IsEveryone reports whether a was returned by [Everyone].
func (a Audience) IsEveryone() bool { return a.kind == everyone }

// User returns the user passed to [ToUser], or false for any other audience.
func (a Audience) User() (id string, ok bool) { return a.name, a.kind == oneUser }

// Topic returns the topic passed to [ToTopic], or false for any other audience.
func (a Audience) Topic() (name string, ok bool) { return a.name, a.kind == oneTopic }

// defaultType returns the event type to use if the publisher gave none.
func (a Audience) defaultType() string {
	switch a.kind {
	case oneUser:
		return "individual"
	case oneTopic:
		return "topic"
	default:
		return "broadcast"
	}
}

// Message is an event as submitted by a publisher.
type Message struct {
	Audience Audience
	// Topics are further topics, if Audience is a topic: the event is for the
	// subscribers of any of them, and a stream that subscribes to several gets it once.
	// There must be fewer than MaxTopics, without duplicates. See [Message.SetTopics].
	Topics []string
	// ExcludeUser is a user whose streams don't get the event, even if they belong to
	// the audience; empty for none. It must be empty if Audience is a user, or if Final
	// is set.
	ExcludeUser string
	// Event is the event's type. If it is empty, the audience determines the
	// type: "broadcast", "individual" or "topic".
	Event string
	// Data is the payload: UTF-8, not empty, at most MaxData bytes.
	Data string
	// IdempotencyKey makes retries safe. If it is not empty and the same
	// message is published again within Config.IdempotencyWindow, Publish sends
	// nothing and returns the first receipt.
	IdempotencyKey string
	// ConflateKey identifies the state that the event updates. With the Conflate
	// policy, a full queue keeps only the newest event for each key.
	ConflateKey string
	// TTL limits how long the event may be replayed or retained, in addition to the
	// limits of the history; 0 for no additional limit.
	TTL time.Duration
	// Retain keeps the event as the latest value for its audience and ConflateKey. New
	// streams get the values of their audiences.
	Retain bool
	// Final ends each topic: a stream that subscribes to it alone is closed after the
	// event, and others are notified. A later message reopens the topic.
	Final bool
}

// SetTopics makes m a message for the subscribers of the given topics, of which there
// must be at least one. A topic that is repeated has no further effect.
func (m *Message) SetTopics(names []string) {
	m.Audience, m.Topics = ToTopic(names[0]), nil
	for _, name := range names[1:] {
		if name != names[0] && !slices.Contains(m.Topics, name) {
			m.Topics = append(m.Topics, name)
		}
	}
}

// Receipt describes an accepted message.
type Receipt struct {
	// ID is the event's id on the wire, "<epoch>-<sequence>".
	ID string
	// Recipients is the number of streams that the event was queued for.
	Recipients int
}

// Validate returns nil if m can be published, or an *InvalidError.
func (m *Message) Validate() error {
	if err := m.Audience.validate(); err != nil {
		return err
	}

	if err := m.validateTopics(); err != nil {
		return err
	}

	if err := m.validateExclusion(); err != nil {
		return err
	}

	if m.Final && m.Audience.kind != oneTopic {
		return &InvalidError{"final", "is true for a message that isn't for a topic; only topics end"}
	}

	if err := validKey("idempotency_key", m.IdempotencyKey); err != nil {
		return err
	}

	if err := validKey("conflate_key", m.ConflateKey); err != nil {
		return err
	}

	if m.TTL < 0 || m.TTL > MaxTTL {
		return &InvalidError{"ttl", fmt.Sprintf("is %v; want more than 0 and at most %v", m.TTL, MaxTTL)}
	}

	if err := eventstream.ValidType(m.Event); err != nil {
		return &InvalidError{"event", err.Error()}
	}

	if strings.HasPrefix(m.Event, ReservedTypes) {
		return &InvalidError{"event", fmt.Sprintf("is %q; types that start with %q are reserved", m.Event, ReservedTypes)}
	}

	switch {
	case m.Data == "":
		return &InvalidError{"data", fmt.Sprintf("is empty; want 1 to %d bytes", MaxData)}
	case len(m.Data) > MaxData:
		return &InvalidError{"data", fmt.Sprintf("is %d bytes long; want at most %d", len(m.Data), MaxData)}
	case !utf8.ValidString(m.Data):
		return &InvalidError{"data", "is not valid UTF-8"}
	}

	return nil
}

// validateTopics returns nil if m.Topics is valid, or an *InvalidError.
func (m *Message) validateTopics() error {
	switch {
	case len(m.Topics) == 0:
		return nil
	case m.Audience.kind != oneTopic:
		return &InvalidError{"topics", "is set for a message that isn't for a topic"}
	case len(m.Topics) >= MaxTopics:
		return &InvalidError{"topics", fmt.Sprintf("makes %d topics; want at most %d", len(m.Topics)+1, MaxTopics)}
	}

	for i, name := range m.Topics {
		if err := ValidTopic(name); err != nil {
			return inList("topics", i, err)
		}
		if name == m.Audience.name || slices.Contains(m.Topics[:i], name) {
			return &InvalidError{"topics", fmt.Sprintf("has %q more than once", name)}
		}
	}
	return nil
}

// inList returns the error for an invalid element of the list in a field, given the
// error for the element.
func inList(field string, index int, err error) error {
	if invalid, ok := errors.AsType[*InvalidError](err); ok {
		invalid.Field = fmt.Sprintf("%s[%d]", field, index)
	}
	return err
}

// validateExclusion returns nil if m.ExcludeUser is valid, or an *InvalidError.
func (m *Message) validateExclusion() error {
	switch {
	case m.ExcludeUser == "":
		return nil
	case m.Audience.kind == oneUser:
		return &InvalidError{"exclude_user_id", "is set for a message to one user; want a message to topics or to everyone"}
	case m.Final:
		return &InvalidError{"exclude_user_id", "is set for a final message; a topic ends for all of its subscribers"}
	}
	return validName("exclude_user_id", m.ExcludeUser, MaxUserID)
}

// validate returns nil if a message can be published to the audience, or an
// *InvalidError.
func (a Audience) validate() error {
	switch a.kind {
	case everyone:
		return nil
	case oneUser:
		return ValidUserID(a.name)
	case oneTopic:
		return ValidTopic(a.name)
	default:
		return &InvalidError{"audience", "is missing"}
	}
}

// ValidUserID returns nil if id is a valid user id, or an *InvalidError.
func ValidUserID(id string) error { return validName("user_id", id, MaxUserID) }

func validKey(field, key string) error {
	if key == "" {
		return nil
	}
	return validName(field, key, MaxKey)
}

func validName(field, name string, most int) error {
	switch {
	case name == "":
		return &InvalidError{field, fmt.Sprintf("is empty; want 1 to %d bytes", most)}
	case len(name) > most:
		return &InvalidError{field, fmt.Sprintf("is %d bytes long; want 1 to %d", len(name), most)}
	case !utf8.ValidString(name):
		return &InvalidError{field, "is not valid UTF-8"}
	}
	if i := strings.IndexFunc(name, isControl); i >= 0 {
		return &InvalidError{field, fmt.Sprintf("has the control character %q at byte %d", name[i], i)}
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }

// event is an encoded message with its sequence number.
type event struct {
	seq    uint64 // 0 for an event from the daemon itself, such as a heartbeat
	frame  frame
	packed atomic.Pointer[packed] // for gzip bodies; nil until one needs it

	envelope atomic.Pointer[envelope] // nil until a stream needs it, and while it isn't kept

	audience    Audience
	conflateKey string
	at          int64        // when it was published, in Unix nanoseconds
	expires     int64        // when it may no longer be replayed, in Unix nanoseconds; 0 for never
	due         int64        // when it leaves the history regardless of its other limits, in Unix nanoseconds; 0 for never
	policy      *TopicPolicy // of its topic when it was published; nil for none
	extra       *extra       // nil for most events

	cost      int32        // what it acquired from Broker.backlog
	heapIndex int32        // its index in history.expiring
	pending   atomic.Int32 // shards that have not taken it out of their mailbox yet

	recipients int32 // streams that it was queued for; for taps
	copyBytes  int32 // what the history counts for packed and envelope; guarded by Broker.mu
	gap        bool  // a peald.reset for events that were dropped from a queue
	final      bool  // its message has Final set; unlike extra.end, this also holds for a restored value
}

// encodeFields encodes the fields of m that don't depend on its id. It leaves
// room bytes in front of them, for seal.
func encodeFields(m *Message, room int) []byte {
	typ := m.Event
	if typ == "" {
		typ = m.Audience.defaultType()
	}
	buf := make([]byte, room, room+eventstream.FieldsSize(typ, m.Data)+6*strings.Count(m.Data, "\n")+len(chunkEnd))
	return eventstream.AppendFields(buf, typ, m.Data)
}

// seal writes the id field right before the fields that encodeFields wrote,
// and returns the whole frame and the id.
func seal(buf []byte, room int, epoch string, seq uint64) (f frame, id string) {
	var scratch [64]byte
	text := appendID(scratch[:0], epoch, seq)
	id = string(text)
	start := room - len("id: ") - len(id) - len("\n")
	eventstream.AppendID(buf[start:start], id)
	return sealFrame(buf, start), id
}

// appendID appends an id in its wire format, "<epoch>-<sequence>".
func appendID(dst []byte, epoch string, seq uint64) []byte {
	dst = append(dst, epoch...)
	dst = append(dst, '-')
	return strconv.AppendUint(dst, seq, 10)
}

// MaxEventID is the maximum length of an event id, in bytes.
const MaxEventID = 64

// ValidEventID returns nil if id is a well-formed event id, or an *InvalidError.
func ValidEventID(id string) error { return validID("last_event_id", id) }

// validID is ValidEventID for the id in a field with the given name.
func validID(field, id string) error {
	_, _, err := parseID(id)
	if invalid, ok := errors.AsType[*InvalidError](err); ok {
		invalid.Field = field
	}
	return err
}

// parseID parses an id. It accepts only the format that appendID writes.
func parseID(id string) (epoch string, seq uint64, err error) {
	epoch, digits, ok := strings.Cut(id, "-")
	seq, numErr := strconv.ParseUint(digits, 10, 64)
	valid := ok && numErr == nil && epoch != "" && len(id) <= MaxEventID &&
		strings.Trim(epoch, "0123456789abcdefghijklmnopqrstuvwxyz") == "" &&
		(digits == "0" || digits[0] != '0')
	if !valid {
		shown := strings.ToValidUTF8(id[:min(len(id), MaxEventID)], "\uFFFD")
		return "", 0, &InvalidError{"last_event_id", fmt.Sprintf("is %q; want an id of the form EPOCH-SEQUENCE", shown)}
	}
	return epoch, seq, nil
}

// idFormat is the format of the ids in one event log.
type idFormat struct {
	epoch string
	room  int // bytes with enough space for the framing and any id field with the epoch
}

func newIDFormat(epoch string) *idFormat {
	return &idFormat{epoch, chunkRoom + len("id: -\n") + len(epoch) + len("18446744073709551615")}
}
