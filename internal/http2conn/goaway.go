package http2conn

import "golang.org/x/net/http2"

// GoAway asks the client to send further requests on another connection. Open streams
// continue, and requests that the client sends before it receives GOAWAY are still
// served. For that reason, the first GOAWAY names no last stream, and a PING follows it
// (RFC 9113 §6.8). Once the client has answered the PING, a second GOAWAY names the
// last stream. Later streams are refused, and the client may retry them.
func (c *Conn) GoAway() {
	if c.flags.has(announced) || c.err != nil {
		return
	}
	c.flags |= announced
	c.queue = appendGoAway(c.queue, maxStreamID, http2.ErrCodeNo)
	c.Ping()
}

// finishGoAway sends the second GOAWAY.
func (c *Conn) finishGoAway() {
	if c.flags.has(goingAway) {
		return
	}
	c.flags |= goingAway
	c.goAwayID = c.lastID
	c.queue = appendGoAway(c.queue, c.goAwayID, http2.ErrCodeNo)
}

// Draining reports whether the client knows that it must use another connection. The
// caller should close a draining connection once it has neither streams nor output.
func (c *Conn) Draining() bool { return c.flags.has(goingAway) }

// Ping sends a PING frame, unless the client still has to answer the previous one.
func (c *Conn) Ping() {
	if c.flags.has(pinging) || c.err != nil {
		return
	}
	c.flags |= pinging
	c.queue = appendPing(c.queue, 0, [pingLen]byte{})
}

// Pinging reports whether the client still has to answer a PING frame.
func (c *Conn) Pinging() bool { return c.flags.has(pinging) }
