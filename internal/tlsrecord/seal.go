package tlsrecord

import (
	"crypto/cipher"
	"slices"
)

// Seal encrypts the pieces as application data, appends the records to dst, and
// returns the extended slice. The pieces are coalesced into records of up to
// [MaxPlaintext] bytes; they aren't modified. If there is nothing to encrypt, nothing
// is appended.
//
// Seal puts a KeyUpdate before the data if the peer has asked for one (RFC 8446
// §4.6.3). It also updates the key before the key reaches its record limit (§5.5).
//
// Everything appended must be sent to the peer, in this order. After SealAlert or
// Wipe, Seal appends nothing.
func (l *Layer) Seal(dst []byte, pieces [][]byte) []byte {
	total := 0
	for _, piece := range pieces {
		total += len(piece)
	}

	if l.closed || total == 0 {
		return dst
	}

	aead, ok := l.sealer()
	if !ok {
		return dst
	}

	records := (total + MaxPlaintext - 1) / MaxPlaintext
	dst = slices.Grow(dst, total+records*Overhead)

	if l.updateRequested.Swap(false) {
		if dst, aead, ok = l.updateKey(dst, aead); !ok {
			return dst
		}
	}

	for rest := (cursor{pieces: pieces}); total > 0; {
		if l.out.seq >= maxRecords {
			if dst, aead, ok = l.updateKey(dst, aead); !ok {
				return dst
			}
		}

		n := min(total, MaxPlaintext)
		total -= n

		start := len(dst)
		dst = appendHeader(dst, n)
		dst = rest.append(dst, n)
		dst = appendTrailer(dst, typeApplicationData)
		l.out.seal(aead, dst[start:])
	}

	return dst
}

// SealAlert appends a record with an alert to dst and returns the extended slice.
// Afterwards, nothing can be sealed, because no data may follow close_notify or an
// error alert (RFC 8446 §6).
func (l *Layer) SealAlert(dst []byte, alert Alert) []byte {
	const warning, fatal = 1, 2

	if l.closed {
		return dst
	}

	aead, ok := l.sealer()
	if !ok {
		return dst
	}
	l.closed = true

	level := byte(fatal)
	if alert == AlertCloseNotify || alert == AlertUserCanceled {
		level = warning
	}

	dst = l.sealMessage(dst, aead, typeAlert, level, byte(alert))
	l.forgetExpanded() // This was the last record.

	return dst
}

// updateKey appends a KeyUpdate that doesn't ask for one in return, and replaces the
// key.
func (l *Layer) updateKey(dst []byte, aead cipher.AEAD) ([]byte, cipher.AEAD, bool) {
	const notRequested = 0

	dst = l.sealMessage(dst, aead, typeHandshake, messageKeyUpdate, 0, 0, 1, notRequested)

	l.forgetExpanded()

	if err := l.out.update(l.suite); err != nil {
		l.closed = true
		return dst, nil, false
	}

	aead, ok := l.sealer()

	return dst, aead, ok
}

// sealMessage appends a record with content of the given type.
func (l *Layer) sealMessage(dst []byte, aead cipher.AEAD, contentType byte, content ...byte) []byte {
	start := len(dst)
	dst = appendHeader(dst, len(content))
	dst = append(dst, content...)
	dst = appendTrailer(dst, contentType)
	l.out.seal(aead, dst[start:])

	return dst
}

// sealer returns the expanded key. There are no layers in FIPS 140 mode, and otherwise
// the ciphers accept any key of the right size. If one didn't, nothing more could be
// sealed.
func (l *Layer) sealer() (cipher.AEAD, bool) {
	if l.expanded != nil {
		return l.expanded, true
	}

	aead, err := l.out.newAEAD(l.suite)
	if err != nil {
		l.closed = true
		return nil, false
	}

	if l.budget.take() {
		l.expanded = aead
	}

	return aead, true
}

// appendHeader appends the header of a record with the given number of plaintext bytes.
func appendHeader(dst []byte, plaintext int) []byte {
	size := plaintext + 1 + tagSize

	return append(dst, typeApplicationData, 3, 3, byte(size>>8), byte(size))
}

// appendTrailer appends the content type of a record and room for its tag.
func appendTrailer(dst []byte, contentType byte) []byte {
	var tag [tagSize]byte

	return append(append(dst, contentType), tag[:]...)
}

// cursor is a position in several pieces.
type cursor struct {
	pieces [][]byte
	offset int // in the first piece
}

// append appends the next n bytes of the pieces to dst.
func (c *cursor) append(dst []byte, n int) []byte {
	for n > 0 {
		piece := c.pieces[0][c.offset:]
		if len(piece) > n {
			c.offset += n
			return append(dst, piece[:n]...)
		}

		dst = append(dst, piece...)
		n -= len(piece)
		c.pieces, c.offset = c.pieces[1:], 0
	}

	return dst
}
