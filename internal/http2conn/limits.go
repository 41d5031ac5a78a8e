package http2conn

import "time"

// A connection's credit, and the amounts that are deducted from it and added to it. In
// the long run, one PING per second costs nothing, and neither do two WINDOW_UPDATE
// frames for each DATA frame that the client receives. DATA frames earn nothing if the
// client makes them small (CVE-2019-9511).
const (
	maxCredit       = 1000
	creditPerSecond = 100

	frameCost = 1 // for a frame that transfers nothing
	resetCost = 4 // for a stream that is reset before it has a response

	wakeCost = 1 // for a call to Writable; refunded if the stream sends enough

	dataCredit   = 2  // for a DATA frame in either direction that transfers enough
	headerCredit = 10 // for a response header
)

const (
	// usefulData is the minimum number of bytes that a DATA frame must have to earn
	// credit. The last frame may be smaller.
	usefulData = 1 << 10

	// minRefresh is the minimum increment of a WINDOW_UPDATE frame that costs
	// nothing.
	minRefresh = 1 << 10

	// maxQueued limits the output that may be waiting when a frame is processed, in
	// bytes. It leaves room for the response headers of all streams.
	maxQueued = 64 << 10

	// maxBlockFrames limits the number of frames in one field block. Clients send a
	// CONTINUATION frame for each 16 KiB.
	maxBlockFrames = 64

	// maxSettings limits the number of parameters in one SETTINGS frame. RFC 9113
	// defines six.
	maxSettings = 100
)

// spend deducts cost from the connection's credit.
func (c *Conn) spend(cost int32, cause Cause, reason string) error {
	c.credit -= cost
	if c.credit >= 0 {
		return nil
	}

	// The clock isn't read until this point, since most connections never spend this
	// much.
	now := c.server.elapsed()
	earned := int64(now-c.refilled) * creditPerSecond / int64(time.Second)
	c.refilled = now
	c.earn(int32(min(max(earned, 0), maxCredit)))
	if c.credit >= 0 {
		return nil
	}

	return flood(cause, reason)
}

func (c *Conn) earn(credit int32) { c.credit = min(c.credit+credit, maxCredit) }

// spendFrame deducts the cost of a frame that transfers nothing.
func (c *Conn) spendFrame() error {
	return c.spend(frameCost, Frames, "too many control or empty frames")
}

// spendUpdate deducts the cost of a WINDOW_UPDATE frame, unless the frame returns a
// sizable number of bytes that have been sent. For each 4 KiB that it reads, a client
// may send two of them: one for the stream and one for the connection.
func (c *Conn) spendUpdate(increment int64) error {
	if increment < minRefresh || increment > c.returnable {
		return c.spendFrame()
	}
	c.returnable -= increment

	return nil
}

// countRequest applies the request limit. Each request advances a virtual clock by one
// interval. The clock must not get ahead of real time by more than the burst.
func (c *Conn) countRequest() error {
	if c.flags.has(trusted) {
		return nil
	}

	now := c.server.elapsed()
	c.requests = max(c.requests, now) + c.server.interval
	ahead := c.requests - now
	if ahead > c.server.burst {
		return flood(Requests, "too many requests")
	}
	if ahead > c.server.burst/2 {
		c.GoAway()
	}

	return nil
}
