package http2conn

import (
	"errors"

	"golang.org/x/net/http2"
)

// process handles one complete frame.
func (c *Conn) process(codec *Codec, frame []byte) error {
	if len(c.queue) > maxQueued {
		return flood(Unread, "too much unread output")
	}

	_, typ, _, id := frameHeader(frame)
	f, err := c.read(codec, frame, typ)
	if err != nil {
		return c.readFailed(typ, id, err)
	}

	switch f := f.(type) {
	case *http2.DataFrame:
		return c.onData(f)
	case *http2.MetaHeadersFrame:
		return c.onHeaders(codec, f)
	case *http2.RSTStreamFrame:
		return c.onReset(f)
	case *http2.SettingsFrame:
		return c.onSettings(f)
	case *http2.PingFrame:
		return c.onPing(f)
	case *http2.WindowUpdateFrame:
		return c.onWindowUpdate(f)
	case *http2.PriorityFrame:
		// RFC 7540 §5.3.1 forbids this, and RFC 9113 no longer defines dependencies.
		if f.StreamDep == id {
			return violation(http2.ErrCodeProtocol, "stream depends on itself")
		}
	case *http2.GoAwayFrame:
		c.flags |= announced // The client already knows.
		c.finishGoAway()
	case *http2.PushPromiseFrame:
		return violation(http2.ErrCodeProtocol, "client sent PUSH_PROMISE")
	}

	return c.spendFrame()
}

// read parses a frame. If it is a HEADERS frame, read decodes the fields with the
// connection's dynamic table.
func (c *Conn) read(codec *Codec, frame []byte, typ http2.FrameType) (http2.Frame, error) {
	if typ == http2.FrameHeaders {
		if err := codec.restore(c.table); err != nil {
			codec.reset()
			return nil, http2.ConnectionError(http2.ErrCodeInternal)
		}
	}

	f, err := codec.read(frame, c.server.maxHeaderList())
	switch {
	case err != nil && !invalidFields(err):
		codec.reset()
	case typ == http2.FrameHeaders:
		size := tableSize(c.table, defaultTableSize)
		c.table = codec.save(c.table, tableSize(fieldBlock(frame), size))
	}

	return f, err
}

// invalidFields reports whether err is about decoded fields. Other errors in HEADERS
// frames occur before decoding, and have no cause.
func invalidFields(err error) bool {
	var streamErr http2.StreamError
	return errors.As(err, &streamErr) && streamErr.Cause != nil
}

// readFailed handles a frame that the codec rejects.
func (c *Conn) readFailed(typ http2.FrameType, id uint32, err error) error {
	var (
		connErr   http2.ConnectionError
		streamErr http2.StreamError
	)

	switch {
	case errors.As(err, &connErr):
		return violation(http2.ErrCode(connErr), "invalid "+typ.String()+" frame")

	case !errors.As(err, &streamErr):
		return violation(http2.ErrCodeFrameSize, "truncated "+typ.String()+" frame")

	case invalidFields(err):
		return c.onInvalidFields(id, streamErr)

	case typ == http2.FrameHeaders: // RFC 9113 §6.2
		return violation(http2.ErrCodeProtocol, "invalid padding")

	case c.idle(id):
		return violation(http2.ErrCodeProtocol, "invalid "+typ.String()+" frame for an idle stream")

	default:
		return c.streamError(id, streamErr.Code, "invalid "+typ.String()+" frame")
	}
}

// streamError resets a stream because of an error that is the client's fault (RFC 9113
// §5.4.2).
func (c *Conn) streamError(id uint32, code http2.ErrCode, reason string) error {
	if !c.flags.has(trusted) {
		if err := c.spend(resetCost, RapidReset, "too many stream errors, the last one "+code.String()); err != nil {
			return err
		}
	}

	st := c.find(id)
	c.queueReset(id, code)
	if st != nil {
		c.remove(st)
		c.handler.Closed(st, http2.StreamError{StreamID: id, Code: code, Cause: errors.New(reason)})
	}

	return nil
}

// queueReset queues RST_STREAM for a stream, which must not be idle.
func (c *Conn) queueReset(id uint32, code http2.ErrCode) {
	c.queue = appendReset(c.queue, id, code)
	c.reset |= c.history(id)
}

func (c *Conn) onReset(f *http2.RSTStreamFrame) error {
	if c.idle(f.StreamID) {
		return violation(http2.ErrCodeProtocol, "RST_STREAM for an idle stream")
	}
	st := c.find(f.StreamID)
	if st == nil {
		return c.spendFrame()
	}

	hadResponse := st.flags.has(answered)
	c.remove(st)
	c.handler.Closed(st, http2.StreamError{StreamID: f.StreamID, Code: f.ErrCode, Cause: resetError{}})
	switch {
	case c.flags.has(trusted):
		return nil
	case hadResponse:
		return c.spendFrame()
	default:
		return c.spend(resetCost, RapidReset, "too many resets")
	}
}

func (c *Conn) onPing(f *http2.PingFrame) error {
	if f.IsAck() {
		c.flags &^= pinging
		if c.flags.has(announced) {
			c.finishGoAway()
		}
	} else {
		c.queue = appendPing(c.queue, http2.FlagPingAck, f.Data)
	}

	return c.spendFrame()
}
