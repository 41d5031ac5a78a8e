package http2conn

import "time"

// A connection's credit, and what is deducted and added. One PING per second costs
// nothing in the long run, and neither do two WINDOW_UPDATE frames for each DATA frame
// that the client receives. DATA frames that are small because of the client earn
// nothing (CVE-2019-9511).
const (
	maxCredit       = 1000
	creditPerSecond = 100

	frameCost = 1 // for a frame that transfers nothing
	resetCost = 4 // for a stream that is reset before it has a response

	wakeCost = 1 // for a call to Writable; returned if the stream sends enough

	dataCredit   = 2  // for a DATA frame in either direction that transfers enough
	headerCredit = 10 // for the header of a response
)

const (
	// usefulData is the minimum number of bytes for which a DATA frame earns
	// credit. The last one may be smaller.
	usefulData = 1 << 10

	// minRefresh is the minimum increment of a WINDOW_UPDATE frame that costs
	// nothing.
	minRefresh = 1 << 10

	// maxQueued limits the output that waits while more frames are processed. It leaves
	// room for the response headers of all streams.
	maxQueued = 64 << 10

	// maxBlockFrames limits the frames of one field block. Clients use a CONTINUATION
	// frame for each 16 KiB.
	maxBlockFrames = 64

	// maxSettings limits the parameters in one SETTINGS frame. Six are defined.
	maxSettings = 100
)

// spend deducts cost from the connection's credit.
func (c *Conn) spend(cost int32, cause Cause, reason string) error {
	c.credit -= cost
	if c.credit >= 0 {
		return nil
	}

	// The clock isn't read until now, since most connections never spend this much.
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

// spendUpdate deducts the cost of a WINDOW_UPDATE frame, unless it returns a good
// part of a window for bytes that were sent. A client may send one for each 4 KiB
// that it reads, twice: for the stream and for the connection.
func (c *Conn) spendUpdate(increment int64) error {
	if increment < minRefresh || increment > c.returnable {
		return c.spendFrame()
	}
	c.returnable -= increment

	return nil
}

// countRequest applies the request limit. Each request advances a virtual clock by
// one interval, and the clock must not be ahead by more than the burst.
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
