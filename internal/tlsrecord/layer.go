package tlsrecord

import (
	"crypto/cipher"
	"sync/atomic"
)

const (
	// MaxPlaintext is the maximum size of a record's plaintext in bytes (RFC 8446
	// §5.1).
	MaxPlaintext = 1 << 14

	// MaxRecord is the maximum size of a received record in bytes, including its header
	// (RFC 8446 §5.2). A buffer of this size can hold any record that Open accepts.
	MaxRecord = headerSize + maxCiphertext

	// Overhead is the number of bytes that Seal adds to the plaintext of a record:
	// header, type and tag.
	Overhead = headerSize + 1 + tagSize

	headerSize    = 5
	maxCiphertext = MaxPlaintext + 256

	// maxRecords limits the number of records encrypted under one key. RFC 8446 §5.5
	// allows 2^24.5 full-size records for AES-GCM.
	maxRecords = 1 << 24

	// maxExpanded limits the number of expanded keys that the layers of one Handshaker
	// keep. With AES-GCM, each takes 768 bytes: 2 MB in total.
	maxExpanded = 2560

	// maxUseless limits the number of consecutive records without application data, as
	// in crypto/tls. Such records cost the sender less than the receiver.
	maxUseless = 16
)

// Content types of records (RFC 8446 §5.1).
const (
	typeAlert           = 21
	typeHandshake       = 22
	typeApplicationData = 23
)

// Types of handshake messages (RFC 8446 §4).
const (
	messageNewSessionTicket = 4
	messageKeyUpdate        = 24
)

// keyUpdateSize is the size in bytes of a KeyUpdate message: the type, three bytes for
// the length, and one byte that may ask the peer for an update in return.
const keyUpdateSize = 5

// Layer is the record layer of one connection after the handshake. One goroutine at a
// time may call Open, and one at a time may call Seal or SealAlert. All other methods
// need exclusive access.
//
// There may be many connections, so only a limited number of layers keep the expanded
// key for sealing. The others expand the key again in each call.
type Layer struct {
	in, out direction
	unread  []byte

	expanded cipher.AEAD // the key of out if the layer may keep it; otherwise nil
	budget   *budget     // shared by the layers of a Handshaker; may be nil

	suite suite

	// Fields that only Open uses.
	state      inState
	alert      Alert // received or to be sent, depending on state
	useless    uint8 // consecutive records without application data
	pendingLen uint8
	pending    [keyUpdateSize]byte // the start of a KeyUpdate message that spans several records

	closed          bool        // Seal appends nothing
	updateRequested atomic.Bool // the peer has asked for a KeyUpdate
}

// inState determines what Open returns.
type inState uint8

const (
	inOpen      inState = iota
	inClosed            // the peer has sent close_notify
	inPeerAlert         // the peer has sent another alert
	inFailed            // the peer has sent something invalid
)

// newLayer returns a layer that starts with copies of the given traffic secrets.
func newLayer(s suite, client, server []byte) (*Layer, error) {
	l := &Layer{suite: s}

	if err := l.in.start(s, client); err != nil {
		return nil, err
	}

	if err := l.out.start(s, server); err != nil {
		return nil, err
	}

	return l, nil
}

// Unread returns the ciphertext that was read from the connection during the handshake,
// but that follows the handshake. It comes before anything else that is read from the
// connection. The caller owns the slice; further calls return nil.
func (l *Layer) Unread() []byte {
	unread := l.unread
	l.unread = nil

	return unread
}

// Wipe overwrites the layer's secrets, and drops the expanded key, which it can't
// overwrite. Afterwards, Seal and SealAlert append nothing, and Open returns an error.
func (l *Layer) Wipe() {
	l.closed = true // first, since nothing must be sealed under a key of zeros
	l.forgetExpanded()
	l.in, l.out, l.unread = direction{}, direction{}, nil
	l.pending, l.pendingLen = [keyUpdateSize]byte{}, 0

	if l.state == inOpen {
		l.state, l.alert = inFailed, AlertInternalError
	}
}

// forgetExpanded drops the expanded key, so that another layer may keep its own.
func (l *Layer) forgetExpanded() {
	if l.expanded != nil {
		l.expanded = nil
		l.budget.left.Add(1)
	}
}

// budget is the number of expanded keys that may still be kept.
type budget struct{ left atomic.Int64 }

// take reports whether another key may be kept, and counts it. A nil budget allows
// none.
func (b *budget) take() bool {
	if b == nil {
		return false
	}

	for {
		left := b.left.Load()
		if left <= 0 {
			return false
		}

		if b.left.CompareAndSwap(left, left-1) {
			return true
		}
	}
}
