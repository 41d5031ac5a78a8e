package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"iter"
	"time"
)

// socket is the connection of one or more streams.
type socket struct {
	link      link
	tls       *tls.Conn  // nil without TLS
	handshake *handshake // set while it is in progress

	phase    phase
	slow     bool   // its streams don't read
	unread   bool   // the socket is open but not read, since its stream is slow
	interest uint32 // epoll events that the reader waits for
	protocol protocol
	streams  []nativeStream
	ended    int // number of streams that have ended
	start    time.Duration
	position string // of a client that polls; "" until its first response
}

// nativeStream is a stream of a socket. The reader owns its fields, apart from
// those of stream.
type nativeStream struct {
	stream

	opened, ended bool
}

// phase is the phase of a socket. Phases follow one another in this order, but
// any phase may change to closed.
type phase uint8

const (
	waiting     phase = iota // not opened yet
	connecting               // until the socket is connected
	handshaking              // until the TLS handshake is complete
	established              // requests are written
	closed
)

// handshake is a TLS handshake in progress. It runs as a coroutine that the
// reader resumes when the socket is ready.
type handshake struct {
	resume func() (struct{}, bool)
	stop   func()
	err    error
}

// beginHandshake prepares a TLS handshake. The first resume starts it.
func (s *socket) beginHandshake(config *tls.Config) {
	h := &handshake{}
	s.tls, s.handshake, s.phase = tls.Client(&s.link, config), h, handshaking
	h.resume, h.stop = iter.Pull(func(yield func(struct{}) bool) {
		s.link.wait = func() bool { return yield(struct{}{}) }
		h.err = s.tls.HandshakeContext(context.Background())
		s.link.wait = nil
	})
}

// continueHandshake resumes the handshake and reports whether it is complete.
func (s *socket) continueHandshake() (done bool, err error) {
	if _, more := s.handshake.resume(); more {
		return false, nil
	}
	err = s.handshake.err
	s.handshake = nil
	return true, err
}

// receive reads what has arrived into buf, decodes it and writes the replies,
// until the socket has no more data or its turn is over.
func (s *socket) receive(buf []byte, to sink) error {
	s.link.ready()
	for {
		n, err := s.read(buf)
		if n > 0 {
			reply, err := s.protocol.receive(buf[:n], to)
			if err != nil {
				return err
			}
			if s.phase == closed { // all streams have ended
				return nil
			}
			if err := s.send(reply); err != nil {
				return err
			}
			if s.unread {
				return nil
			}
		}

		switch {
		case err == nil:
		case errors.Is(err, notReadyError{}):
			return nil
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return errEnd
		default:
			return err
		}
	}
}

func (s *socket) read(buf []byte) (int, error) {
	if s.tls != nil {
		return s.tls.Read(buf)
	}
	return s.link.Read(buf)
}

func (s *socket) send(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	var err error
	if s.tls != nil {
		_, err = s.tls.Write(p)
	} else {
		_, err = s.link.Write(p)
	}
	return err
}

// close closes the socket, which may still have a handshake in progress.
func (s *socket) close() {
	if s.handshake != nil {
		s.handshake.stop()
		s.handshake = nil
	}
	if s.tls != nil && s.phase == established {
		_ = s.tls.Close() // writes an alert, and closes the link
	}
	_ = s.link.Close()
	s.phase, s.tls, s.protocol, s.link.pending = closed, nil, nil, nil
}
