package http2conn_test

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/peald/peald/internal/http2conn"
)

// blockedStreams returns a client with n streams that have more to send than the
// connection's window, or than theirs if that is initial. Like an event stream, they
// don't send within Writable.
func blockedStreams(t *testing.T, n int, initial uint32) *client {
	t.Helper()
	c := connect(t, newClock().config())
	c.handler.answer = true
	c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: initial})
	c.flush()
	for i := range n {
		st := c.request(uint32(2*i + 1))
		st.Send(nil, [][]byte{make([]byte, 100_000)})
		if !st.Blocked() {
			t.Fatalf("stream %d isn't blocked", st.ID())
		}
	}
	c.replies()
	c.handler.writable = nil

	return c
}

// sendAll sends on the streams for which Writable was called.
func (c *client) sendAll() (sent int) {
	called := c.handler.writable
	c.handler.writable = nil
	for _, id := range called {
		_, n := c.handler.streams[id].Send(nil, [][]byte{make([]byte, 100_000)})
		sent += n
	}
	c.conn.Wake()

	return sent
}

// TestTinyWindows opens windows by 1 byte each (CVE-2019-9511). What is sent then
// earns no credit.
func TestTinyWindows(t *testing.T) {
	for name, test := range map[string]struct {
		initial uint32
		open    func(c *client, i int)
		limit   int
	}{
		"of the connection": {1 << 20, func(c *client, _ int) { c.WriteWindowUpdate(0, 1) }, 501},
		"of a stream":       {0, func(c *client, _ int) { c.WriteWindowUpdate(1, 1) }, 501},
		"of all streams": {0, func(c *client, i int) {
			c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i + 1)})
		}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			c := blockedStreams(t, 240, test.initial)
			i := 0
			for ; c.err == nil && i < 10*test.limit; i++ {
				test.open(c, i)
				c.flush()
				c.conn.AppendOutput(nil)
				c.sendAll()
			}
			var failure *http2conn.Error
			if !errors.As(c.err, &failure) || failure.Cause != http2conn.Frames {
				t.Errorf("Receive returned %v, want %s", c.err, http2conn.Frames)
			}
			if i > test.limit || i < test.limit/2 {
				t.Errorf("failed after %d repetitions, want %d", i, test.limit)
			}
		})
	}
}

// TestWakesWhatFits opens the window for some of the blocked streams. Writable is
// called for no more than can use it, and for others when these don't use it.
func TestWakesWhatFits(t *testing.T) {
	c := blockedStreams(t, 100, 1<<20)
	c.WriteWindowUpdate(0, 200_000)
	c.flush()
	if n := len(c.handler.writable); n != 3 {
		t.Fatalf("Writable was called for %d streams, want 3", n)
	}

	c.WriteRSTStream(c.handler.writable[1], http2.ErrCodeCancel)
	c.flush()
	if n := len(c.handler.writable); n != 4 {
		t.Errorf("after a reset, Writable was called for %d streams, want 4", n)
	}
	for _, id := range c.handler.writable {
		c.handler.streams[id].End(nil)
	}
	c.handler.writable = nil
	c.conn.Wake()
	if n := len(c.handler.writable); n != 2 {
		t.Errorf("after others ended, Writable was called for %d streams, want 2", n)
	}
	if sent := c.sendAll(); sent != 200_000 {
		t.Errorf("%d bytes are sent, want 200000", sent)
	}
}

// TestSmallWindowsProgress checks that clients with small windows that they open
// again at once get everything.
func TestSmallWindowsProgress(t *testing.T) {
	for _, window := range []uint32{1, 100, 1 << 10, 1 << 14, 1<<16 - 1} {
		now := newClock()
		c := connect(t, now.config())
		c.handler.answer = true
		c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
		c.flush()
		st := c.request(1)
		left := min(5000*int(window), 20<<20) // the credit is enough for none of these
		data := make([]byte, left)
		step := 0
		_, n := st.Send(nil, [][]byte{data})
		for left -= n; left > 0 && step < 10_000; step++ {
			if window < 1<<10 {
				now.now = now.now.Add(30 * time.Millisecond) // smaller windows are limited to 33 per second
			}
			c.WriteWindowUpdate(0, uint32(n))
			c.WriteWindowUpdate(1, uint32(n))
			c.flush()
			c.conn.AppendOutput(nil)
			if _, n = st.Send(nil, [][]byte{data[:left]}); n == 0 || c.err != nil {
				t.Fatalf("window %d: %d bytes sent in step %d, %v", window, n, step, c.err)
			}
			left -= n
		}
		if left > 0 {
			t.Errorf("window %d: %d bytes are left", window, left)
		}
	}
}
