package tlsrecord

import (
	"bytes"
	"encoding/hex"
	"io"
)

// Labels of the application traffic secrets in key logs.
const (
	labelClient = "CLIENT_TRAFFIC_SECRET_0"
	labelServer = "SERVER_TRAFFIC_SECRET_0"
)

// secret holds a traffic secret.
type secret struct {
	data [maxSecretSize]byte
	size int
}

func (s *secret) bytes() []byte { return s.data[:s.size] }

// keyLog is the KeyLogWriter of one handshake. It stores the application traffic
// secrets, and writes all lines to next, which may be nil.
type keyLog struct {
	client, server *secret
	next           io.Writer
}

// Write processes one line: label, client random and secret, the latter two in
// hexadecimal. Without a valid secret, no layer takes over.
func (k keyLog) Write(line []byte) (int, error) {
	label, rest, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	_, encoded, _ := bytes.Cut(rest, []byte(" "))

	switch string(label) {
	case labelClient:
		k.client.decode(encoded)
	case labelServer:
		k.server.decode(encoded)
	}

	if k.next == nil {
		return len(line), nil
	}

	return k.next.Write(line)
}

// decode sets the secret from its hexadecimal encoding. If the encoding isn't valid,
// the secret becomes empty.
func (s *secret) decode(encoded []byte) {
	*s = secret{}

	if len(encoded) > hex.EncodedLen(maxSecretSize) {
		return
	}

	if n, err := hex.Decode(s.data[:], encoded); err == nil {
		s.size = n
	}
}
