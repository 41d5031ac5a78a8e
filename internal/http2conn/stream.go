package http2conn

import (
	"net/http"

	"golang.org/x/net/http2"
)

// Stream is one request and its response. Its methods have no effect once it is
// closed.
type Stream struct {
	// Value is for use by the caller.
	Value any

	conn *Conn
	body *body // nil if the request has none
	id   uint32

	sendWindow int32 // may be negative

	// unserved is the number of bytes that the last Send didn't send, if the stream is
	// blocked, or that are reserved for the next Send, if it is woken.
	unserved int32

	flags streamFlags
}

// body is the state of a request's body. Streams without a body, such as browsers'
// event streams, take less memory.
type body struct {
	missing int64 // bytes missing from the announced length, or -1 if none was announced
	window  int32 // bytes that the client may still send
	held    int32 // bytes that the caller hasn't consumed
}

type streamFlags uint8

const (
	closed       streamFlags = 1 << iota // the stream isn't in Conn.streams
	remoteClosed                         // the client has sent END_STREAM
	localClosed                          // we have sent END_STREAM
	answered                             // the response's header has been sent
	blocked                              // the last Send didn't fit into the window
	expects                              // the client is waiting for status 100
	woken                                // Writable has been called, and Send hasn't been called since
	discards                             // nobody reads the request's body
)

func (f streamFlags) has(flag streamFlags) bool { return f&flag != 0 }

// ID returns the stream's identifier.
func (st *Stream) ID() uint32 { return st.id }

// Conn returns the stream's connection.
func (st *Stream) Conn() *Conn { return st.conn }

// Window returns how many bytes Send would take. It may be negative.
func (st *Stream) Window() int { return int(min(st.sendWindow, st.conn.sendWindow)) }

// Blocked reports whether the last Send didn't fit into the window.
func (st *Stream) Blocked() bool { return st.flags.has(blocked) }

// Continue sends status 100 if the client is waiting for it before sending the body.
func (st *Stream) Continue(codec *Codec) {
	if st.flags.has(expects) && !st.flags.has(remoteClosed) {
		st.SendHeaders(codec, http.StatusContinue, nil, false)
	}
}

// SendHeaders queues a response's header, and ends the stream if end is set.
// Informational responses (1xx) may be sent first. Names may have any case. SendHeaders
// omits connection-specific fields, but calls [Conn.GoAway] for "Connection: close". It
// adds a date if there is none.
func (st *Stream) SendHeaders(codec *Codec, status int, h http.Header, end bool) {
	c := st.conn
	if st.flags.has(closed) || st.flags.has(answered) {
		return
	}

	final := status >= http.StatusOK
	st.flags &^= expects
	end = end && final
	c.queue = appendFieldBlock(c.queue, st.id, c.encode(codec, status, h), end)
	if !final {
		return
	}

	st.flags |= answered
	c.earn(headerCredit)
	if h.Get("Connection") == "close" {
		c.GoAway()
	}
	if end {
		c.queue = st.finish(c.queue)
	}
}

// Send appends as many bytes of pieces as the windows allow to dst, as DATA frames, and
// returns how many. If any are left, [Handler.Writable] is called later. Any output of
// the connection is appended first. Call SendHeaders before Send.
func (st *Stream) Send(dst []byte, pieces [][]byte) (out []byte, n int) {
	c := st.conn
	if st.flags.has(closed) || st.flags.has(localClosed) || !st.flags.has(answered) {
		return dst, 0
	}
	if len(c.queue) > 0 {
		dst = c.AppendOutput(dst)
	}

	total := 0
	for _, piece := range pieces {
		total += len(piece)
	}
	n = min(total, max(st.Window(), 0))
	st.earnFor(n, n == total)
	st.settle()
	if n < total {
		st.flags |= blocked
		st.unserved = int32(min(total-n, maxWindow))
	}
	st.sendWindow -= int32(n)
	c.sendWindow -= int32(n)
	c.returnable += 2 * int64(n)

	return st.appendData(dst, pieces, n), n
}

// earnFor adds the credit for sending n bytes. all reports that no bytes are left;
// otherwise the client's windows have determined the size of the last frame.
func (st *Stream) earnFor(n int, all bool) {
	frames := int32(n / maxFrameSize)
	if rest := n % maxFrameSize; rest >= usefulData || rest > 0 && all {
		frames++
	}
	if frames == 0 {
		return
	}

	st.conn.earn(frames * dataCredit)
	if st.flags.has(woken) {
		st.conn.earn(wakeCost)
	}
}

// settle ends the stream's claim to part of the connection's window.
func (st *Stream) settle() {
	if st.flags.has(woken) {
		st.conn.claimed -= int64(st.unserved)
	}
	st.flags &^= blocked | woken
	st.unserved = 0
}

// appendData appends the first n bytes of pieces as DATA frames.
func (st *Stream) appendData(dst []byte, pieces [][]byte, n int) []byte {
	var piece []byte
	for n > 0 {
		size := min(n, maxFrameSize)
		n -= size
		dst = appendFrameHeader(dst, size, http2.FrameData, 0, st.id)

		for size > 0 {
			if len(piece) == 0 {
				piece, pieces = pieces[0], pieces[1:]
			}
			part := piece[:min(size, len(piece))]
			dst = append(dst, part...)
			piece = piece[len(part):]
			size -= len(part)
		}
	}

	return dst
}

// End appends the end of the response's body, which isn't subject to flow control, to
// dst. If the client is still sending the request's body, it is asked to stop.
func (st *Stream) End(dst []byte) []byte {
	c := st.conn
	if st.flags.has(closed) {
		return dst
	}
	if !st.flags.has(answered) {
		st.Reset(http2.ErrCodeInternal)
	}
	if len(c.queue) > 0 {
		dst = c.AppendOutput(dst)
	}
	if st.flags.has(closed) {
		return dst
	}
	dst = appendFrameHeader(dst, 0, http2.FrameData, http2.FlagDataEndStream, st.id)

	return st.finish(dst)
}

// finish closes a stream on which END_STREAM has been sent. It appends RST_STREAM to
// dst if the request isn't complete (RFC 9113 §8.1).
func (st *Stream) finish(dst []byte) []byte {
	c := st.conn
	st.flags |= localClosed
	if !st.flags.has(remoteClosed) {
		dst = appendReset(dst, st.id, http2.ErrCodeNo)
		c.reset |= c.history(st.id)
	}
	c.remove(st)

	return dst
}

// Reset aborts the stream with RST_STREAM.
func (st *Stream) Reset(code http2.ErrCode) {
	if st.flags.has(closed) {
		return
	}
	st.conn.queueReset(st.id, code)
	st.conn.remove(st)
}

// Discard drops the request's body: the bytes that the caller hasn't consumed, and
// those that arrive later. Data is no longer called. The stream's window isn't extended
// any more, so the client can send at most another 64 KiB. If it must send more than
// that before it reads the response, call Reset or End.
func (st *Stream) Discard() {
	if st.flags.has(closed) {
		return
	}
	st.flags |= discards
	st.release()
}

// release returns the body's unconsumed bytes to the connection's window.
func (st *Stream) release() {
	if st.body != nil {
		st.conn.consumed(st.body.held)
		st.body.held = 0
	}
}

// Consumed lets the client send n more bytes of the request's body. The caller must
// have read or dropped that many of the bytes passed to [Handler.Data].
func (st *Stream) Consumed(n int) {
	b := st.body
	if b == nil || st.flags.has(closed) {
		return // everything was returned when the stream closed
	}
	count := int32(min(max(n, 0), int(b.held)))
	b.held -= count
	st.conn.consumed(count)
	if st.flags.has(discards) {
		return
	}

	unsent := defaultWindow - b.window - b.held
	if !st.flags.has(remoteClosed) && refresh(unsent, b.window) {
		st.conn.queue = appendWindowUpdate(st.conn.queue, st.id, unsent)
		b.window += unsent
	}
}
