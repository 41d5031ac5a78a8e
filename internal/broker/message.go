package broker

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/peald/peald/internal/eventstream"
)

const (
	// MaxData is the length of the longest data of a message, in bytes.
	MaxData = 1 << 20
	// MaxUserID is the length of the longest user id, in bytes.
	MaxUserID = 255
	// MaxTTL is the longest that a message's own end may be away.
	MaxTTL = 365 * 24 * time.Hour
	// ReservedTypes is how the types of the daemon's own events begin.
	ReservedTypes = "peald."
)

// ErrClosed is what the broker answers once it is closing.
var ErrClosed = errors.New("the broker is closing")

// InvalidError says what is wrong with one field of a request.
type InvalidError struct {
	// Field is the field's name in the control plane's contract: "data".
	Field string
	// Reason completes the sentence that begins with the field's name.
	Reason string
}

func (e *InvalidError) Error() string { return e.Field + " " + e.Reason }

// Audience is whom a message is for. The zero value is nobody.
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

// audiences is how many kinds there are.
const audiences = int(oneTopic) + 1

// Everyone is every open stream, authenticated or not.
func Everyone() Audience { return Audience{kind: everyone} }

// ToUser is every open stream of one user.
func ToUser(id string) Audience { return Audience{kind: oneUser, name: id} }

// ToTopic is every open stream that subscribes to a topic, by its name or by a
// pattern.
func ToTopic(name string) Audience { return Audience{kind: oneTopic, name: name} }

// IsEveryone says whether it is [Everyone].
func (a Audience) IsEveryone() bool { return a.kind == everyone }

// User is the user of [ToUser], or false for another audience.
func (a Audience) User() (id string, ok bool) { return a.name, a.kind == oneUser }

// Topic is the topic of [ToTopic], or false for another audience.
func (a Audience) Topic() (name string, ok bool) { return a.name, a.kind == oneTopic }

// defaultType is the type of an event whose publisher names none.
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

// Message is an event as a publisher hands it in.
type Message struct {
	Audience Audience
	// Event is the event's type; empty means the audience's own, "broadcast",
	// "individual" or "topic".
	Event string
	// Data is what receivers get: UTF-8, not empty, at most MaxData bytes.
	Data string
	// IdempotencyKey, if not empty, makes a repetition of the message within
	// Config.IdempotencyWindow return the first one's receipt and send
	// nothing.
	IdempotencyKey string
	// ConflateKey names what the event is the newest state of: under the
	// policy Conflate, a full queue keeps only the newest of each key.
	ConflateKey string
	// TTL is how long the event may be replayed, if that is less than the
	// log's bounds; 0 for no end of its own.
	TTL time.Duration
}

// Receipt says what became of a message that was accepted.
type Receipt struct {
	// ID is the event's id on the wire, "<epoch>-<sequence>".
	ID string
	// Recipients counts the streams that the event was queued to.
	Recipients int
}

// Validate returns nil if m can be an event, else an *InvalidError.
func (m *Message) Validate() error {
	switch m.Audience.kind {
	case everyone:
	case oneUser:
		if err := ValidUserID(m.Audience.name); err != nil {
			return err
		}
	case oneTopic:
		if err := ValidTopic(m.Audience.name); err != nil {
			return err
		}
	default:
		return &InvalidError{"audience", "is missing"}
	}
	if err := validKey("idempotency_key", m.IdempotencyKey); err != nil {
		return err
	}
	if err := validKey("conflate_key", m.ConflateKey); err != nil {
		return err
	}
	if m.TTL < 0 || m.TTL > MaxTTL {
		return &InvalidError{"ttl", fmt.Sprintf("is %v, more than 0 and at most %v is accepted", m.TTL, MaxTTL)}
	}
	if err := eventstream.ValidType(m.Event); err != nil {
		return &InvalidError{"event", err.Error()}
	}
	if strings.HasPrefix(m.Event, ReservedTypes) {
		return &InvalidError{"event", fmt.Sprintf("is %q, and types that begin with %q are the daemon's own", m.Event, ReservedTypes)}
	}
	switch {
	case m.Data == "":
		return &InvalidError{"data", fmt.Sprintf("is empty, 1 to %d bytes are accepted", MaxData)}
	case len(m.Data) > MaxData:
		return &InvalidError{"data", fmt.Sprintf("is %d bytes long, at most %d are accepted", len(m.Data), MaxData)}
	case !utf8.ValidString(m.Data):
		return &InvalidError{"data", "is not valid UTF-8"}
	}
	return nil
}

// ValidUserID returns nil if id can be a user's, else an *InvalidError.
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
		return &InvalidError{field, fmt.Sprintf("is empty, 1 to %d bytes are accepted", most)}
	case len(name) > most:
		return &InvalidError{field, fmt.Sprintf("is %d bytes long, 1 to %d are accepted", len(name), most)}
	case !utf8.ValidString(name):
		return &InvalidError{field, "is not valid UTF-8"}
	}
	if i := strings.IndexFunc(name, isControl); i >= 0 {
		return &InvalidError{field, fmt.Sprintf("has the control character %q at byte %d", name[i], i)}
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }

// event is a message that has been given its place in the order, as the bytes
// of its frame.
type event struct {
	seq   uint64 // 0: not of the order but the daemon's own, such as a heartbeat
	frame frame
	hole  bool // a peald.reset of events that were dropped here

	audience Audience
	conflate string
	at, ends int64 // when published, and when no longer to be replayed or 0, Unix nanoseconds

	cost   int64        // what the event took of Broker.backlog
	ending int          // the event's place in history.ending
	left   atomic.Int32 // shards that have yet to take it out of their mailbox

	recipients int32 // the streams that it was queued to; for taps
}

// encodeFields encodes all of m that doesn't depend on its id, after room bytes
// that seal fills.
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

// appendID appends an id as it stands on the wire, "<epoch>-<sequence>".
func appendID(dst []byte, epoch string, seq uint64) []byte {
	dst = append(dst, epoch...)
	dst = append(dst, '-')
	return strconv.AppendUint(dst, seq, 10)
}

// MaxEventID is the length of the longest event id, in bytes.
const MaxEventID = 64

// ValidEventID returns nil if id has the form of an event's, else an
// *InvalidError.
func ValidEventID(id string) error {
	_, _, err := parseID(id)
	return err
}

// parseID takes an id apart. It takes no form but the one that appendID makes.
func parseID(id string) (epoch string, seq uint64, err error) {
	epoch, digits, ok := strings.Cut(id, "-")
	seq, numErr := strconv.ParseUint(digits, 10, 64)
	valid := ok && numErr == nil && epoch != "" && len(id) <= MaxEventID &&
		strings.Trim(epoch, "0123456789abcdefghijklmnopqrstuvwxyz") == "" &&
		(digits == "0" || digits[0] != '0')
	if !valid {
		shown := strings.ToValidUTF8(id[:min(len(id), MaxEventID)], "\uFFFD")
		return "", 0, &InvalidError{"last_event_id", fmt.Sprintf("is %q, an id of the form EPOCH-SEQUENCE is accepted", shown)}
	}
	return epoch, seq, nil
}

// logName is what ids say of their log.
type logName struct {
	epoch string
	room  int // that the framing and any id field of the epoch fit in
}

func newLogName(epoch string) *logName {
	return &logName{epoch, chunkRoom + len("id: -\n") + len(epoch) + len("18446744073709551615")}
}
