package http2conn

import (
	"slices"
	"time"

	"golang.org/x/net/http2"
)

// Conn is the state of one connection. The caller must serialize all calls.
type Conn struct {
	server  *Server
	handler Handler
	streams []*Stream // the open streams, sorted by id
	queue   []byte    // output that hasn't been taken yet
	table   []byte    // the dynamic table for requests; see table.go
	err     error     // why the connection ended

	// partial holds an incomplete frame. If a field block is incomplete, the first
	// blockLen bytes hold the part that has arrived, joined into one HEADERS frame.
	partial     []byte
	blockLen    int
	blockID     uint32 // the stream of that block, or 0
	blockFrames int

	// Flow control. A window is the number of bytes that one side may still send.
	sendWindow   int32
	streamWindow int32 // the initial window of streams, set by the client
	recvWindow   int32
	unsent       int32 // consumed bytes that haven't been announced to the client yet
	claimed      int64 // bytes reserved for woken streams; see Wake

	// returnable is the number of bytes that have been sent, but not yet returned by
	// WINDOW_UPDATE frames. Each byte counts twice, since it uses up two windows.
	returnable int64

	lastID   uint32 // highest stream id so far
	goAwayID uint32 // last stream id in GOAWAY, if flags has goingAway
	turn     uint32 // id of the stream for which Writable was last called

	// History of the last 64 stream ids; bit 0 stands for lastID. RFC 9113 §5.1
	// distinguishes between frames for closed streams, for skipped streams, and for
	// streams that the server has reset.
	opened uint64
	reset  uint64

	credit   int32
	refilled time.Duration // when elapsed time was last added to credit
	requests time.Duration // the virtual clock of countRequest

	preface uint8 // bytes of the client's preface that have arrived
	flags   connFlags
}

type connFlags uint8

const (
	settled     connFlags = 1 << iota // the client's SETTINGS have arrived
	unacked                           // our SETTINGS haven't been acknowledged
	goingAway                         // GOAWAY with a last stream has been sent
	pinging                           // our PING hasn't been acknowledged
	tableUpdate                       // the next response must announce its table size
	noTableSent                       // a response has announced its table size
	trusted                           // the rates of requests and resets aren't limited
	announced                         // the first GOAWAY has been sent
)

func (f connFlags) has(flag connFlags) bool { return f&flag != 0 }

// NewConn returns a new connection that calls h. Its output already contains the
// server's preface.
func (s *Server) NewConn(h Handler) *Conn {
	return &Conn{
		server:       s,
		handler:      h,
		queue:        s.settings,
		sendWindow:   defaultWindow,
		streamWindow: defaultWindow,
		recvWindow:   defaultWindow,
		credit:       maxCredit,
		refilled:     s.elapsed(),
		flags:        unacked,
	}
}

// SkipPreface makes c start after the client's preface, [http2.ClientPreface]. Call it
// if the caller has already consumed the preface.
func (c *Conn) SkipPreface() { c.preface = uint8(len(http2.ClientPreface)) }

// Trust exempts c from the limits on the rates of requests and of resets: a
// trusted proxy shares one connection among many clients.
func (c *Conn) Trust() { c.flags |= trusted }

// Receive processes bytes from the client and calls the handler. It copies only
// incomplete frames. If the client has violated the protocol or exceeded a limit,
// Receive returns an [*Error]. All streams are then closed, and GOAWAY is in the
// output. The caller must send the output and close the connection.
func (c *Conn) Receive(codec *Codec, p []byte) error {
	err := c.receive(codec, p)
	if err != nil {
		c.Close(err) // no effect if c is already closed
	}

	return err
}

func (c *Conn) receive(codec *Codec, p []byte) error {
	if c.err != nil {
		return c.err
	}
	p, err := c.readPreface(p)
	if err != nil {
		return err
	}

	for len(p) > 0 && c.err == nil { // the handler may have closed c
		var frame []byte
		frame, p, err = c.next(p)
		if err != nil {
			return err
		}
		if frame == nil {
			continue
		}
		if err := c.process(codec, frame); err != nil {
			return err
		}
	}

	c.Wake()

	return c.err
}

// readPreface checks the client's preface (RFC 9113 §3.4), and returns what follows.
func (c *Conn) readPreface(p []byte) ([]byte, error) {
	missing := http2.ClientPreface[c.preface:]
	n := min(len(missing), len(p))
	if string(p[:n]) != missing[:n] {
		return nil, violation(http2.ErrCodeProtocol, "invalid connection preface")
	}
	c.preface += uint8(n)

	return p[n:], nil
}

// next returns the first complete frame in the bytes that c has kept, followed by p,
// and the rest of p. A field block that spans several frames counts as one HEADERS
// frame. If no frame is complete, next keeps p and returns nil.
func (c *Conn) next(p []byte) (frame, rest []byte, err error) {
	if len(c.partial) == 0 && len(p) >= headerLen {
		size, err := c.frameSize(p)
		if err != nil {
			return nil, nil, err
		}
		if size <= len(p) && endsFieldBlock(p) {
			return p[:size], p[size:], nil
		}
	}

	p, complete := c.keep(p, headerLen)
	if !complete {
		return nil, p, nil
	}
	size, err := c.frameSize(c.partial[c.blockLen:])
	if err != nil {
		return nil, nil, err
	}
	p, complete = c.keep(p, size)
	if !complete {
		return nil, p, nil
	}

	if frame, err := c.join(); frame == nil {
		return nil, p, err
	}
	frame = c.partial
	c.dropPartial()

	return frame, p, nil
}

// join appends the frame that has just been completed to the field block before it, if
// any. It returns nil while the block is incomplete.
func (c *Conn) join() ([]byte, error) {
	frame := c.partial[c.blockLen:]
	ends := endsFieldBlock(frame)

	switch {
	case c.blockID == 0 && ends:
		return frame, nil

	case c.blockID == 0:
		block, ok := unpad(frame)
		if !ok {
			return nil, violation(http2.ErrCodeProtocol, "invalid padding")
		}
		if block[flagsAt]&byte(http2.FlagHeadersPriority) != 0 && len(block) < headerLen+priorityLen {
			return nil, violation(http2.ErrCodeFrameSize, "truncated HEADERS frame")
		}
		_, _, _, c.blockID = frameHeader(frame)
		c.partial = block

	default:
		c.partial = append(c.partial[:c.blockLen], frame[headerLen:]...)
		setFrameLength(c.partial)
	}

	c.blockFrames++
	c.blockLen = len(c.partial)
	if !ends {
		return nil, nil
	}
	c.partial[flagsAt] |= byte(http2.FlagHeadersEndHeaders)

	return c.partial, nil
}

// keep moves bytes from the beginning of p to the incomplete frame until the frame has
// size bytes. It returns the rest of p, and reports whether the frame has reached that
// size.
func (c *Conn) keep(p []byte, size int) (rest []byte, complete bool) {
	missing := size - (len(c.partial) - c.blockLen)
	if missing <= 0 {
		return p, true
	}
	n := min(missing, len(p))
	c.partial = append(c.partial, p[:n]...)

	return p[n:], n == missing
}

func (c *Conn) dropPartial() {
	c.partial, c.blockLen, c.blockID, c.blockFrames = nil, 0, 0, 0
}

// frameSize returns the length of the frame that begins with header. It returns an
// error if the frame is too long or not allowed at this point, so c never keeps part of
// such a frame.
func (c *Conn) frameSize(header []byte) (int, error) {
	length, typ, flags, id := frameHeader(header)
	if length > maxFrameSize {
		return 0, violation(http2.ErrCodeFrameSize, "frame too large")
	}
	if !c.flags.has(settled) && (typ != http2.FrameSettings || flags.Has(http2.FlagSettingsAck)) {
		return 0, violation(http2.ErrCodeProtocol, "the first frame isn't SETTINGS")
	}

	if err := c.checkFieldBlock(length, typ, id); err != nil {
		return 0, err
	}

	return headerLen + length, nil
}

// checkFieldBlock returns an error if a frame isn't allowed before, inside or after
// a field block (RFC 9113 §6.2, §6.10), or if the block becomes too large.
func (c *Conn) checkFieldBlock(length int, typ http2.FrameType, id uint32) error {
	switch {
	case c.blockID == 0 && typ == http2.FrameContinuation:
		return violation(http2.ErrCodeProtocol, "CONTINUATION outside a field block")
	case c.blockID == 0 && typ == http2.FrameHeaders && id == 0:
		return violation(http2.ErrCodeProtocol, "HEADERS on stream 0")
	case c.blockID == 0:
		return nil
	case typ != http2.FrameContinuation || id != c.blockID:
		return violation(http2.ErrCodeProtocol, "frame within a field block")
	case c.blockFrames >= maxBlockFrames:
		return flood(FieldBlock, "field block of too many frames")
	case c.blockLen+length > c.server.maxFieldBlock():
		return flood(FieldBlock, "field block too large")
	default:
		return nil
	}
}

// AppendOutput appends all pending frames to dst, other than DATA frames, and removes
// them from c. Call it whenever the client accepts data, since c limits the output that
// it holds. On a new connection, the output begins with the server's preface.
func (c *Conn) AppendOutput(dst []byte) []byte {
	dst = append(dst, c.queue...)
	c.queue = nil

	return dst
}

// HasOutput reports whether AppendOutput has anything to append.
func (c *Conn) HasOutput() bool { return len(c.queue) > 0 }

// Incomplete reports whether the client's preface, a frame or a header is
// incomplete. The caller should limit how long that may last.
func (c *Conn) Incomplete() bool { return !c.flags.has(settled) || len(c.partial) > 0 }

// Streams returns the number of open streams.
func (c *Conn) Streams() int { return len(c.streams) }

// Close ends the connection and all its streams. It adds GOAWAY to the output, with the
// code of err if err is an [*Error], and with NO_ERROR otherwise. Later calls to
// Receive return err, which must not be nil.
func (c *Conn) Close(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	c.dropPartial()
	c.table = nil

	code := http2.ErrCodeNo
	if e, ok := err.(*Error); ok { //nolint:errorlint // A wrapped error isn't the client's doing.
		code = e.Code
	}
	if !c.flags.has(goingAway) {
		c.goAwayID = c.lastID
	}
	c.flags |= goingAway
	c.queue = appendGoAway(c.queue, c.goAwayID, code)

	streams := c.streams
	c.streams = nil
	for _, st := range streams {
		st.flags |= closed
	}
	for _, st := range streams {
		c.handler.Closed(st, err)
	}
}

// find returns the open stream with the given id, or nil if there is none.
func (c *Conn) find(id uint32) *Stream {
	if at, ok := c.search(id); ok {
		return c.streams[at]
	}

	return nil
}

// Handler returns the handler that was passed to NewConn.
func (c *Conn) Handler() Handler { return c.handler }

// search returns the index in c.streams of the first stream whose id is at least id,
// and reports whether it is an exact match.
func (c *Conn) search(id uint32) (int, bool) {
	return slices.BinarySearchFunc(c.streams, id, func(st *Stream, id uint32) int { return int(st.id) - int(id) })
}

// remove removes a stream, and returns its unread bytes to the connection's window.
func (c *Conn) remove(st *Stream) {
	at, _ := c.search(st.id)
	c.streams = slices.Delete(c.streams, at, at+1)
	if len(c.streams) == 0 {
		c.streams = nil
	}

	st.settle()
	st.flags |= closed
	st.release()
}

// idle reports whether the stream with the given id hasn't been opened yet (RFC 9113
// §5.1.1).
func (c *Conn) idle(id uint32) bool { return id > c.lastID || id%2 == 0 }

// history returns a stream's bit in c.opened and c.reset, or 0 if the stream is too
// old.
func (c *Conn) history(id uint32) uint64 { return 1 << ((c.lastID - id) / 2) }

// advance records a new stream. That closes all idle streams with lower ids.
func (c *Conn) advance(id uint32) {
	by := (id - c.lastID) / 2
	c.lastID = id
	c.opened = c.opened<<by | 1
	c.reset <<= by
}
