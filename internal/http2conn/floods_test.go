package http2conn_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/peald/peald/internal/http2conn"
)

// clock is a time that only tests change.
type clock struct{ now time.Time }

func newClock() *clock { return &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) config() http2conn.Config {
	return http2conn.Config{Now: func() time.Time { return c.now }}
}

// TestFloods repeats what costs the server more than the client, until the
// connection fails.
func TestFloods(t *testing.T) {
	for name, test := range map[string]struct {
		repeat func(c *client, i int)
		cause  http2conn.Cause
		limit  int // the most repetitions before the connection fails
	}{
		"PING":           {func(c *client, _ int) { c.ping("x") }, http2conn.Frames, 1001},
		"SETTINGS":       {func(c *client, _ int) { c.WriteSettings() }, http2conn.Frames, 1001},
		"PRIORITY":       {func(c *client, _ int) { c.WritePriority(1, http2.PriorityParam{}) }, http2conn.Frames, 1001},
		"WINDOW_UPDATE":  {func(c *client, _ int) { c.WriteWindowUpdate(0, 1) }, http2conn.Frames, 1001},
		"unknown frames": {func(c *client, _ int) { c.WriteRawFrame(0x77, 0, 0, make([]byte, 100)) }, http2conn.Frames, 1001},
		"GOAWAY":         {func(c *client, _ int) { c.WriteGoAway(0, 0, nil) }, http2conn.Frames, 1001},
		"RST_STREAM for a closed stream": {func(c *client, i int) {
			if i == 0 {
				c.headers(1, true, get()...)
			}
			c.WriteRSTStream(1, http2.ErrCodeCancel)
		}, http2conn.Frames, 1001},
		"empty DATA": {func(c *client, i int) {
			if i == 0 {
				c.headers(1, false, post()...)
			}
			c.WriteData(1, false, nil)
		}, http2conn.Frames, 1001},
		"small DATA": {func(c *client, i int) {
			if i == 0 {
				c.handler.consume = true
				c.headers(1, false, post()...)
			}
			c.WriteData(1, false, []byte("x"))
		}, http2conn.Frames, 1001},
		"small DATA that is discarded": {func(c *client, i int) {
			if i == 0 {
				c.headers(1, false, post()...)
				c.flush()
				c.handler.streams[1].Discard()
			}
			c.WriteData(1, false, []byte("x"))
		}, http2conn.Frames, 1001},
		"PING and small DATA": {func(c *client, i int) {
			if i == 0 {
				c.handler.consume = true
				c.headers(1, false, post()...)
			}
			c.ping("x")
			c.WriteData(1, false, []byte("x"))
		}, http2conn.Frames, 501},
		"padding": {func(c *client, i int) {
			if i == 0 {
				c.headers(1, false, post()...)
			}
			c.WriteDataPadded(1, false, nil, make([]byte, 255))
		}, http2conn.Frames, 1001},
		"rapid reset": {func(c *client, i int) {
			c.headers(uint32(2*i+1), true, get()...)
			c.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel)
		}, http2conn.RapidReset, 251},
		"malformed requests": {func(c *client, i int) { c.headers(uint32(2*i+1), true, get("connection", "close")...) }, http2conn.RapidReset, 251},
		"resets by the server": {func(c *client, i int) {
			c.headers(uint32(2*i+1), true, get()...)
			c.WriteWindowUpdate(uint32(2*i+1), 0)
		}, http2conn.RapidReset, 251},
		"requests that are answered": {func(c *client, i int) {
			c.handler.answer, c.handler.finish = true, true
			c.headers(uint32(2*i+1), true, get()...)
		}, http2conn.Requests, 501},
		"CONTINUATION": {func(c *client, i int) {
			if i == 0 {
				c.startHeaders(1)
			}
			c.WriteContinuation(1, false, []byte(strings.Repeat("x", 1<<14)))
		}, http2conn.FieldBlock, 5},
		"empty CONTINUATION": {func(c *client, i int) {
			if i == 0 {
				c.startHeaders(1)
			}
			c.WriteContinuation(1, false, nil)
		}, http2conn.FieldBlock, 64},
		"answers that the client doesn't read": {func(c *client, i int) {
			c.handler.answer, c.handler.finish = true, true
			c.handler.more = strings.Repeat("x", 1000)
			c.headers(uint32(2*i+1), true, get()...)
		}, http2conn.Unread, 80},
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, newClock().config())
			i, output := 0, 0
			for ; c.err == nil && i < 10*test.limit; i++ {
				test.repeat(c, i)
				c.flush()
				if test.cause != http2conn.Unread {
					output += len(c.conn.AppendOutput(nil))
				}
			}
			output += len(c.conn.AppendOutput(nil))

			var failure *http2conn.Error
			if !errors.As(c.err, &failure) || failure.Cause != test.cause || failure.Code != http2.ErrCodeEnhanceYourCalm || !failure.Flood() {
				t.Errorf("Receive returned %v, want %s", c.err, test.cause)
			}
			if i > test.limit || i < test.limit/2 {
				t.Errorf("failed after %d repetitions, want %d", i, test.limit)
			}
			if output > 100<<10 {
				t.Errorf("%d bytes of output", output)
			}
			if err := c.conn.Receive(c.codec, make([]byte, 10)); !errors.Is(err, c.err) {
				t.Errorf("later calls return %v", err)
			}
		})
	}
}

// TestFloodsInOneCall checks that output is limited within a call of Receive, too.
func TestFloodsInOneCall(t *testing.T) {
	c := connect(t, http2conn.Config{})
	for range 100_000 {
		c.ping("x")
	}
	c.flush()
	if output := len(c.conn.AppendOutput(nil)); c.err == nil || output > 64<<10 {
		t.Errorf("%d bytes of output, and %v", output, c.err)
	}
}

// TestFieldBlockOutOfPlace sends frames that only belong into a field block, or to a
// stream, elsewhere. They fail before the connection keeps anything, as the limits
// of field blocks don't apply to them.
func TestFieldBlockOutOfPlace(t *testing.T) {
	for name, write := range map[string]func(*client){
		"HEADERS on stream 0":        func(c *client) { c.WriteRawFrame(http2.FrameHeaders, 0, 0, nil) },
		"large HEADERS on stream 0":  func(c *client) { c.WriteRawFrame(http2.FrameHeaders, 0, 0, make([]byte, 1<<14)) },
		"CONTINUATION on stream 0":   func(c *client) { c.WriteContinuation(0, false, nil) },
		"CONTINUATION without block": func(c *client) { c.WriteContinuation(1, false, nil) },
		"large CONTINUATION":         func(c *client) { c.WriteContinuation(1, false, make([]byte, 1<<14)) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{9, 1 << 20} { // the frame's header only, and all of it
				c := connect(t, http2conn.Config{})
				write(c)
				c.sent.Truncate(min(size, c.sent.Len()))
				c.flush()
				var failure *http2conn.Error
				if !errors.As(c.err, &failure) || failure.Code != http2.ErrCodeProtocol {
					t.Errorf("Receive returned %v, want PROTOCOL_ERROR", c.err)
				}
				expect(t, c.replies(), "GOAWAY 0 PROTOCOL_ERROR")
			}
		})
	}
}

// TestUsefulWork checks that limits don't concern clients that behave.
func TestUsefulWork(t *testing.T) {
	for name, work := range map[string]func(c *client, now *clock, i int){
		"PING each second": func(c *client, now *clock, _ int) {
			now.now = now.now.Add(time.Second)
			c.ping("x")
		},
		"two WINDOW_UPDATE frames for each DATA frame": func(c *client, _ *clock, _ int) {
			c.handler.streams[1].Send(nil, [][]byte{{'x'}})
			c.WriteWindowUpdate(0, 1)
			c.WriteWindowUpdate(1, 1)
		},
		"answered requests that are canceled": func(c *client, now *clock, i int) {
			now.now = now.now.Add(20 * time.Millisecond)
			c.headers(uint32(2*i+3), true, get()...)
			c.WriteRSTStream(uint32(2*i+3), http2.ErrCodeCancel)
		},
		"DATA frames of 1 KiB and a PING for each": func(c *client, _ *clock, i int) {
			if i == 0 {
				c.headers(3, false, post()...)
			}
			c.handler.bodies[3] = "" // would take quadratic time
			c.WriteData(3, false, make([]byte, 1<<10))
			c.ping("x")
		},
		"small DATA frames as long as a client types": func(c *client, now *clock, i int) {
			now.now = now.now.Add(20 * time.Millisecond)
			if i == 0 {
				c.headers(3, false, post()...)
			}
			c.WriteData(3, false, []byte("x"))
		},
		"small bodies": func(c *client, now *clock, i int) {
			now.now = now.now.Add(20 * time.Millisecond)
			c.headers(uint32(2*i+3), false, post()...)
			c.WriteData(uint32(2*i+3), true, []byte("x"))
			c.WriteRSTStream(uint32(2*i+3), http2.ErrCodeCancel)
		},
	} {
		t.Run(name, func(t *testing.T) {
			now := newClock()
			c := connect(t, now.config())
			c.handler.answer, c.handler.consume = true, true
			c.request(1)
			for i := range 10_000 {
				work(c, now, i)
				c.flush()
				c.conn.AppendOutput(nil)
				if c.err != nil {
					t.Fatalf("failed after %d repetitions: %v", i, c.err)
				}
			}
			if c.conn.Draining() {
				t.Error("the client was asked to open another connection")
			}
		})
	}
}

// TestManyRequests checks that a client is asked to open another connection before
// this one fails, and that refused requests may be retried.
func TestManyRequests(t *testing.T) {
	c := connect(t, newClock().config())
	c.handler.answer, c.handler.finish = true, true
	for id := uint32(1); !c.conn.Pinging(); id += 2 {
		c.request(id)
	}
	expect(t, c.replies()[250:], "GOAWAY 2147483647 NO_ERROR", "PING", "HEADERS 501 200 end")
	c.WritePing(true, [8]byte{})
	c.flush()
	expect(t, c.replies(), "GOAWAY 501 NO_ERROR")

	c.headers(503, false, post()...)
	c.WriteData(503, true, []byte("x"))
	c.flush()
	expect(t, c.replies(), "RST_STREAM 503 REFUSED_STREAM")
}

// TestTrust checks that a trusted proxy may open and reset any number of streams,
// but not flood otherwise.
func TestTrust(t *testing.T) {
	c := connect(t, newClock().config())
	c.conn.Trust()
	for id := uint32(1); id < 10_000; id += 2 {
		c.headers(id, true, get()...)
		c.WriteRSTStream(id, http2.ErrCodeCancel)
		c.flush()
		if c.err != nil {
			t.Fatal(c.err)
		}
	}
	for range 1001 {
		c.ping("x")
	}
	c.flush()
	if c.err == nil {
		t.Error("1001 PING frames at once are accepted")
	}
}
