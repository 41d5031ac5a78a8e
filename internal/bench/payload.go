package bench

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// The data of a message is a header, in hexadecimal because data is text, and
// padding up to the configured size.
const (
	headerBytes = 4 + 4 + 4 + 4 + 8 // run, target, number, size, time
	headerSize  = 2 * headerBytes

	padding = 'x'
)

// payloads encodes and decodes the messages of one run. It is safe for concurrent
// use.
type payloads struct {
	run     uint32 // identifies the messages of this run
	started time.Time
	unwrap  func(data []byte) []byte // nil if data is a message
}

// message is the decoded header of a message.
type message struct {
	target uint32        // number of the user; 0 for everyone
	number uint32        // sequence number among the messages to target, from 0
	sentAt time.Duration // since the start of the run
	whole  bool          // size and padding are undamaged
}

// Shared identifies a run whose streams are held by several processes on one
// machine. One of them publishes, and all of them count the messages.
type Shared struct {
	Run     uint32    // identifies the messages of the run
	Started time.Time // by the clock of the machine
}

// NewShared returns the identity of a run that is starting now.
func NewShared() Shared {
	var run [4]byte
	rand.Read(run[:])
	return Shared{Run: binary.BigEndian.Uint32(run[:]), Started: time.Now()}
}

func newPayloads(shared Shared, unwrap func([]byte) []byte) *payloads {
	if shared == (Shared{}) {
		shared = NewShared()
	}
	return &payloads{run: shared.Run, started: shared.Started, unwrap: unwrap}
}

// now returns the time since the start of the run. It uses the monotonic clock
// unless the run is shared.
func (p *payloads) now() time.Duration { return time.Since(p.started) }

func (p *payloads) make(target, number uint32, size int) string {
	var header [headerBytes]byte
	binary.BigEndian.PutUint32(header[0:], p.run)
	binary.BigEndian.PutUint32(header[4:], target)
	binary.BigEndian.PutUint32(header[8:], number)
	binary.BigEndian.PutUint32(header[12:], uint32(size))
	binary.BigEndian.PutUint64(header[16:], uint64(p.now()))
	data := bytes.Repeat([]byte{padding}, size)
	hex.Encode(data, header[:])
	return string(data)
}

// read decodes data and reports whether it is a message from this run.
func (p *payloads) read(data []byte) (message, bool) {
	if p.unwrap != nil {
		data = p.unwrap(data)
	}

	var header [headerBytes]byte
	if len(data) < headerSize {
		return message{}, false
	}
	if _, err := hex.Decode(header[:], data[:headerSize]); err != nil {
		return message{}, false
	}
	if binary.BigEndian.Uint32(header[0:]) != p.run {
		return message{}, false
	}

	return message{
		target: binary.BigEndian.Uint32(header[4:]),
		number: binary.BigEndian.Uint32(header[8:]),
		sentAt: time.Duration(binary.BigEndian.Uint64(header[16:])),
		whole: len(data) == int(binary.BigEndian.Uint32(header[12:])) &&
			bytes.Count(data[headerSize:], []byte{padding}) == len(data)-headerSize,
	}, true
}
