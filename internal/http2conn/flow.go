package http2conn

import "golang.org/x/net/http2"

// refresh reports whether to extend the client's window by n bytes with WINDOW_UPDATE,
// if avail bytes are left: when half of the window has been used, or when the client
// might be waiting.
func refresh(n, avail int32) bool { return n > 0 && (n >= defaultWindow/2 || n >= avail) }

// consumed returns n bytes to the connection's receive window.
func (c *Conn) consumed(n int32) {
	c.unsent += n
	if c.err == nil && refresh(c.unsent, c.recvWindow) {
		c.queue = appendWindowUpdate(c.queue, 0, c.unsent)
		c.recvWindow += c.unsent
		c.unsent = 0
	}
}

func (c *Conn) onData(f *http2.DataFrame) error {
	size, id := int32(f.Length), f.StreamID
	if c.idle(id) {
		return violation(http2.ErrCodeProtocol, "DATA for an idle stream")
	}
	if size > c.recvWindow {
		return violation(http2.ErrCodeFlowControl, "DATA exceeds the connection's window")
	}
	c.recvWindow -= size

	st := c.find(id)
	switch {
	case st == nil && c.reset&c.history(id) != 0:
		// The client sent this frame before it received our RST_STREAM.
		c.consumed(size)
		return c.spendFrame()

	case st == nil, st.flags.has(remoteClosed):
		c.consumed(size)
		return c.streamError(id, http2.ErrCodeStreamClosed, "DATA after the end of the stream")

	case size > st.body.window:
		c.consumed(size)
		return c.streamError(id, http2.ErrCodeFlowControl, "DATA exceeds the stream's window")
	}

	return c.receiveBody(st, size, f.Data(), f.StreamEnded())
}

// receiveBody processes a payload of size bytes; data is the payload without padding.
func (c *Conn) receiveBody(st *Stream, size int32, data []byte, end bool) error {
	b := st.body
	if b.missing >= 0 {
		b.missing -= int64(len(data))
		if b.missing < 0 || end && b.missing > 0 {
			c.consumed(size)
			return c.streamError(st.id, http2.ErrCodeProtocol, "body differs from content-length")
		}
	}

	b.window -= size
	b.held += size
	if end {
		st.flags |= remoteClosed
	}
	if padding := int(size) - len(data); padding > 0 {
		st.Consumed(padding)
	}

	switch {
	case st.flags.has(discards):
		st.Discard()
		return c.spendFrame()

	case len(data) >= usefulData:
		c.earn(dataCredit)

	case !end:
		if err := c.spendFrame(); err != nil || len(data) == 0 {
			return err
		}
	}
	c.handler.Data(st, data, end)

	return nil
}

func (c *Conn) onWindowUpdate(f *http2.WindowUpdateFrame) error {
	if f.StreamID == 0 {
		if int64(c.sendWindow)+int64(f.Increment) > maxWindow {
			return violation(http2.ErrCodeFlowControl, "the connection's window is too large")
		}
		c.sendWindow += int32(f.Increment)
		c.wakeOne()
		c.Wake()

		return c.spendUpdate(int64(f.Increment))
	}

	if c.idle(f.StreamID) {
		return violation(http2.ErrCodeProtocol, "WINDOW_UPDATE for an idle stream")
	}
	st := c.find(f.StreamID)
	if st == nil {
		return c.spendUpdate(int64(f.Increment))
	}
	if int64(st.sendWindow)+int64(f.Increment) > maxWindow {
		return c.streamError(f.StreamID, http2.ErrCodeFlowControl, "the stream's window is too large")
	}
	st.sendWindow += int32(f.Increment)
	if st.flags.has(blocked) && st.Window() > 0 {
		c.writable(st)
	}

	return c.spendUpdate(int64(f.Increment))
}

// setStreamWindow changes the initial window of streams. The windows of open
// streams change by the difference, so they may become negative (RFC 9113 §6.9.2).
func (c *Conn) setStreamWindow(window int32) error {
	change := int64(window) - int64(c.streamWindow)
	c.streamWindow = window
	for _, st := range c.streams {
		if int64(st.sendWindow)+change > maxWindow {
			return violation(http2.ErrCodeFlowControl, "a stream's window is too large")
		}
		st.sendWindow += int32(change)
	}

	return nil
}

// Wake calls [Handler.Writable] for streams that can send again, until these streams
// would use up the connection's window. It continues after the stream that was last
// called, so each stream gets its turn. Receive calls Wake. The caller must also call
// it after sending on streams or closing them, since a woken stream may leave part of
// the window for others.
func (c *Conn) Wake() {
	for range len(c.streams) {
		if c.claimed >= int64(c.sendWindow) || !c.wakeOne() {
			return
		}
	}
}

// wakeOne calls Writable for the next stream that can send again, even if the streams
// woken earlier may need the whole window. It reports whether there was such a stream.
func (c *Conn) wakeOne() bool {
	st := c.nextBlocked()
	if st == nil {
		return false
	}
	c.turn = st.id
	c.writable(st)

	return true
}

// writable calls Writable for a blocked stream, and reserves the bytes that it can send
// now. It deducts the cost, but the credit isn't checked until the client's next frame.
func (c *Conn) writable(st *Stream) {
	st.flags = st.flags&^blocked | woken
	st.unserved = min(st.unserved, st.sendWindow)
	c.claimed += int64(st.unserved)
	c.credit -= wakeCost
	c.handler.Writable(st)
}

// nextBlocked returns the next stream after c.turn that is blocked and can send, or nil
// if there is none.
func (c *Conn) nextBlocked() *Stream {
	if c.sendWindow <= 0 {
		return nil
	}

	from, _ := c.search(c.turn + 1)
	for i := range c.streams {
		st := c.streams[(from+i)%len(c.streams)]
		if st.flags.has(blocked) && st.sendWindow > 0 {
			return st
		}
	}

	return nil
}
