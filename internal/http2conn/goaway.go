package http2conn

import "golang.org/x/net/http2"

// GoAway asks the client to send further requests on another connection. Open
// streams continue, and so do requests that the client sends before it knows of
// this. So the first GOAWAY names no last stream, and a PING follows it (RFC 9113
// §6.8). Once the client has replied, a second GOAWAY names the last stream. Later
// streams are refused, so that the client may retry them.
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

// Draining reports whether the client knows that it must use another connection.
// Once such a connection has neither streams nor output, the caller should close it.
func (c *Conn) Draining() bool { return c.flags.has(goingAway) }

// Ping sends a PING frame, unless the client hasn't answered the previous one.
func (c *Conn) Ping() {
	if c.flags.has(pinging) || c.err != nil {
		return
	}
	c.flags |= pinging
	c.queue = appendPing(c.queue, 0, [pingLen]byte{})
}

// Pinging reports whether the client hasn't answered a Ping.
func (c *Conn) Pinging() bool { return c.flags.has(pinging) }
