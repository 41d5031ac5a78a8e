package bench

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// A message's data is a header in hexadecimal, so that it is text, and padding
// up to the size asked for.
const (
	headerBytes = 4 + 4 + 4 + 4 + 8 // run, target, number, size, time
	headerSize  = 2 * headerBytes

	padding = 'x'
)

// payloads makes and reads the messages of one run. It may be used by several
// goroutines.
type payloads struct {
	run     uint32 // tells this run's messages from all others
	started time.Time
}

// message is what the header of a message says.
type message struct {
	target uint32        // the number of the user, 0 for everybody
	number uint32        // among the messages to target, from 0
	sentAt time.Duration // since the start of the run
	whole  bool          // size and padding are as they were sent
}

// Shared is what processes have in common that hold the streams of one run
// together: one of them publishes, and all take the messages for theirs.
type Shared struct {
	Run     uint32    // tells the run's messages from all others
	Started time.Time // by the clock of the machine, which all are on
}

// NewShared is that of a run that begins now.
func NewShared() Shared {
	var run [4]byte
	rand.Read(run[:])
	return Shared{Run: binary.BigEndian.Uint32(run[:]), Started: time.Now()}
}

func newPayloads(shared Shared) *payloads {
	if shared == (Shared{}) {
		shared = NewShared()
	}
	return &payloads{run: shared.Run, started: shared.Started}
}

// now is the time since the start of the run, by the monotonic clock where the
// run is this process's own.
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

// read returns what data says, and whether it is of this run at all.
func (p *payloads) read(data []byte) (message, bool) {
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
