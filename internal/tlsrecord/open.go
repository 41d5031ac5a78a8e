package tlsrecord

import (
	"fmt"
	"io"
)

// Open decrypts the first record of in, in place. It returns the application data,
// which is part of in, and the size of the record. If in doesn't contain a whole
// record, plain is nil and n is 0. The data is empty for records that the layer
// consumes itself, such as KeyUpdate messages.
//
// The error is [io.EOF] if the peer has sent close_notify, an [*AlertError] if it
// has sent something invalid, and a [*PeerAlertError] if it has sent an error alert.
// All errors are permanent.
func (l *Layer) Open(in []byte) (plain []byte, n int, err error) {
	if l.state != inOpen {
		return nil, 0, l.inError("")
	}

	size, err := l.recordSize(in)
	if err != nil || size == 0 {
		return nil, 0, err
	}

	inner, err := l.decrypt(in[:size])
	if err != nil {
		return nil, 0, err
	}

	plain, err = l.handle(inner)
	if err != nil {
		return nil, 0, err
	}

	if len(plain) > 0 {
		l.useless = 0
		return plain, size, nil
	}

	l.useless++
	if l.useless > maxUseless {
		return nil, 0, l.fail(AlertUnexpectedMessage, "too many records without application data")
	}

	return nil, size, nil
}

// recordSize returns the size of the first record, including its header, or 0 if the
// record isn't complete. Unprotected records, such as change_cipher_spec, are errors
// after the handshake (RFC 8446 §5). So is any version that crypto/tls doesn't accept
// (§5.2).
func (l *Layer) recordSize(in []byte) (int, error) {
	if len(in) < headerSize {
		return 0, nil
	}

	if in[0] != typeApplicationData {
		return 0, l.fail(AlertUnexpectedMessage, fmt.Sprintf("unprotected record of type %d", in[0]))
	}

	if in[1] != 3 || in[2] != 3 {
		return 0, l.fail(AlertProtocolVersion, fmt.Sprintf("record with version %x; want 0303", in[1:3]))
	}

	length := int(in[3])<<8 | int(in[4])
	if length > maxCiphertext {
		return 0, l.fail(AlertRecordOverflow, fmt.Sprintf("record of %d bytes; want at most %d", length, maxCiphertext))
	}

	if len(in) < headerSize+length {
		return 0, nil
	}

	return headerSize + length, nil
}

// decrypt returns the plaintext of a record with its type and padding.
func (l *Layer) decrypt(record []byte) ([]byte, error) {
	aead, err := l.in.newAEAD(l.suite)
	if err != nil {
		return nil, l.fail(AlertInternalError, err.Error())
	}

	inner, err := l.in.open(aead, record)
	if err != nil {
		return nil, l.fail(AlertBadRecordMAC, "")
	}

	if len(inner) > MaxPlaintext+1 {
		return nil, l.fail(AlertRecordOverflow, fmt.Sprintf("plaintext of %d bytes; want at most %d", len(inner), MaxPlaintext+1))
	}

	return inner, nil
}

// handle processes the plaintext of a record, and returns it if it is application
// data.
func (l *Layer) handle(inner []byte) ([]byte, error) {
	// The type is the last byte that isn't padding (RFC 8446 §5.4).
	end := len(inner) - 1
	for end >= 0 && inner[end] == 0 {
		end--
	}

	if end < 0 {
		return nil, l.fail(AlertUnexpectedMessage, "record without a type")
	}

	content, contentType := inner[:end], inner[end]

	if l.pendingLen > 0 && contentType != typeHandshake {
		return nil, l.fail(AlertUnexpectedMessage, "record inside a handshake message")
	}

	switch contentType {
	case typeApplicationData:
		return content, nil
	case typeAlert:
		return nil, l.handleAlert(content)
	case typeHandshake:
		return nil, l.handleHandshake(content)
	default:
		return nil, l.fail(AlertUnexpectedMessage, fmt.Sprintf("protected record of type %d", contentType))
	}
}

// handleAlert processes an alert (RFC 8446 §6) and ignores its level. Alerts are never
// fragmented or coalesced (§5.1).
func (l *Layer) handleAlert(content []byte) error {
	switch {
	case len(content) == 0:
		return l.fail(AlertUnexpectedMessage, "empty alert")
	case len(content) != 2:
		return l.fail(AlertDecodeError, fmt.Sprintf("alert of %d bytes; want 2", len(content)))
	}

	l.alert = Alert(content[1])

	switch l.alert {
	case AlertUserCanceled:
		return nil // A close_notify follows.
	case AlertCloseNotify:
		l.state = inClosed
	default:
		l.state = inPeerAlert
	}

	return l.inError("")
}

// handleHandshake processes a KeyUpdate message, or a part of one (RFC 8446
// §4.6.3). Clients send no other handshake messages after the handshake, because
// peald doesn't request certificates at that point. Nothing may follow the message
// in its record (§5.1).
func (l *Layer) handleHandshake(content []byte) error {
	const requested = 1

	switch {
	case len(content) == 0:
		return l.fail(AlertUnexpectedMessage, "empty handshake record")
	case len(content) > keyUpdateSize-int(l.pendingLen):
		return l.fail(AlertUnexpectedMessage, "handshake message other than a single KeyUpdate")
	}

	l.pendingLen += uint8(copy(l.pending[l.pendingLen:], content))
	message := l.pending[:l.pendingLen]

	if message[0] != messageKeyUpdate {
		return l.fail(AlertUnexpectedMessage, fmt.Sprintf("handshake message of type %d after the handshake", message[0]))
	}

	if len(message) < keyUpdateSize {
		return nil
	}

	request := message[4]
	l.pendingLen = 0

	switch {
	case message[1] != 0 || message[2] != 0 || message[3] != 1:
		return l.fail(AlertDecodeError, "KeyUpdate message with the wrong length")
	case request > requested:
		return l.fail(AlertIllegalParameter, fmt.Sprintf("KeyUpdate request %d; want 0 or 1", request))
	}

	if err := l.in.update(l.suite); err != nil {
		return l.fail(AlertInternalError, err.Error())
	}

	if request == requested {
		l.updateRequested.Store(true)
	}

	return nil
}

// fail makes the error permanent and returns it.
func (l *Layer) fail(alert Alert, reason string) error {
	l.state, l.alert = inFailed, alert

	return l.inError(reason)
}

// inError returns the error for the current state.
func (l *Layer) inError(reason string) error {
	switch l.state {
	case inClosed:
		return io.EOF
	case inPeerAlert:
		return &PeerAlertError{l.alert}
	default:
		return &AlertError{l.alert, reason}
	}
}
