package engine

import (
	"errors"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/http2conn"
)

// http2Stream is the sink of a stream over HTTP/2. Its fields are guarded by
// http2Conn.mu.
type http2Stream struct {
	st     *http2conn.Stream
	stream *broker.Stream // nil until Attach
	done   func()         // called when the sink is closed
	waits  bool           // listed in http2Conn.waiting
	gone   bool           // the client has ended the stream
}

// errConnClosed is the error for streams whose connection has ended.
var errConnClosed = errors.New("the HTTP/2 connection has ended")

// conn returns the stream's connection. A field for it would add 16 bytes to each
// stream.
func (s *http2Stream) conn() *http2Conn {
	return s.st.Conn().Handler().(*http2Conn) //nolint:forcetypeassert // serveHTTP2 passes no other handler.
}

// Transport implements [Body].
func (s *http2Stream) Transport() Transport { return HTTP2 }

// Attach implements [Body].
func (s *http2Stream) Attach(st *broker.Stream, done func()) error {
	c := s.conn()
	c.mu.Lock()
	defer c.mu.Unlock()
	s.stream, s.done = st, done
	if s.gone {
		return errConnClosed
	}
	return nil
}

// Write implements [broker.Sink]. What it accepts is sent at once if the connection has
// no other event stream, and otherwise by Flush.
func (s *http2Stream) Write(pieces [][]byte) (int, error) {
	c := s.conn()
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.gone || c.closed {
		return 0, errConnClosed
	}
	if len(c.out) >= maxUnsent {
		c.flush()
	}
	if c.closed {
		return 0, errConnClosed
	}
	if len(c.left) > 0 {
		s.wait()
		return 0, nil
	}

	taken, all := limit(pieces, maxUnsent)
	var n int
	c.out, n = s.st.Send(c.buffer(), taken)
	if !all && !s.st.Blocked() {
		s.wait()
	}
	if c.streams == 1 {
		c.flushAndWake() // while the connection is in the CPU's caches
	}
	return n, nil
}

// limit returns the first pieces, up to about most bytes in total, and reports whether
// these are all of them.
func limit(pieces [][]byte, most int) (first [][]byte, all bool) {
	total := 0
	for i, piece := range pieces {
		if total >= most {
			return pieces[:i], false
		}
		total += len(piece)
	}
	return pieces, true
}

// wait makes the connection call Ready once it has sent its pending output. The caller
// holds http2Conn.mu.
func (s *http2Stream) wait() {
	if !s.waits {
		s.waits = true
		c := s.conn()
		c.waiting = append(c.waiting, s)
	}
}

// Flush implements [broker.Flusher].
func (s *http2Stream) Flush() {
	c := s.conn()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushAndWake()
}

// Unflushed implements [broker.Flusher].
func (s *http2Stream) Unflushed() bool {
	c := s.conn()
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.out) > 0
}

// Finish implements [Body].
func (s *http2Stream) Finish(rest []byte) {
	_, _ = s.Write([][]byte{rest}) // The client may be gone.
	s.Close(broker.Shutdown)
}

// Close implements [broker.Sink]. The response ends with END_STREAM even if the client
// was too slow: WebKitGTK ignores RST_STREAM, and drops an incomplete event anyway. A
// stream that has reached its maximum age asks the client to use another connection, to
// which the other streams on this one move later.
func (s *http2Stream) Close(why broker.Reason) {
	c := s.conn()
	c.mu.Lock()
	if !c.closed && !s.gone {
		c.out = s.st.End(c.buffer())
		s.end()
		if why == broker.WriteTimeout && len(c.left) > 0 {
			c.fail(errConnClosed) // The whole connection is blocked, not only this stream.
		}
	}
	if !c.closed && why == broker.MaxAge {
		c.conn.GoAway() // Otherwise, the client would open its next stream on this daemon.
	}
	if !c.closed {
		c.leave()
	}
	c.endTurn()
	s.done()
}

// resume implements [http2User].
func (s *http2Stream) resume() {
	s.waits = false
	s.stream.Ready()
}

// data implements [http2User]. It does nothing, because the body of a request for a
// stream is discarded.
func (s *http2Stream) data([]byte, bool) {}

// writable implements [http2User].
func (s *http2Stream) writable() {
	if s.stream != nil {
		s.stream.Ready()
	}
}

// closed implements [http2User].
func (s *http2Stream) closed(error) {
	s.end()
	if s.stream != nil {
		s.stream.HangUp()
	}
}

// end stops counting the stream.
func (s *http2Stream) end() {
	if !s.gone {
		s.gone = true
		s.conn().streams--
	}
}
