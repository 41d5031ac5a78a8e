package http2conn_test

import (
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/peald/peald/internal/http2conn"
)

// conformanceCase holds frames that a client sends after the exchange of settings,
// and the expected replies. Requests are answered with status 200 and stay open, or end if
// finish is set.
type conformanceCase struct {
	section string // of RFC 9113, or RFC 7541 where that is stated
	name    string
	finish  bool
	send    func(*client)
	want    string
}

// Replies to most cases.
const (
	answeredOne    = "HEADERS 1 200"
	protocolError  = "GOAWAY 0 PROTOCOL_ERROR"
	sizeError      = "GOAWAY 0 FRAME_SIZE_ERROR"
	windowError    = "GOAWAY 0 FLOW_CONTROL_ERROR"
	decodingError  = "GOAWAY 0 COMPRESSION_ERROR"
	malformedOne   = "RST_STREAM 1 PROTOCOL_ERROR"
	closedOne      = "RST_STREAM 1 STREAM_CLOSED"
	oneThen        = answeredOne + ", "
	oneThenGoAway  = oneThen + "GOAWAY 1 PROTOCOL_ERROR"
	priorityFlag   = http2.FlagHeadersPriority
	endHeadersFlag = http2.FlagHeadersEndHeaders
	endStreamFlag  = http2.FlagHeadersEndStream
	paddedFlag     = http2.FlagHeadersPadded
)

// TestConformance has the cases of h2spec 2.2.1 (generic, http2 and hpack) as
// scripts, and more. Where RFC 9113 differs from RFC 7540, it counts.
func TestConformance(t *testing.T) {
	for _, test := range conformanceCases() {
		t.Run(test.section+" "+test.name, func(t *testing.T) {
			for size := range 3 { // all at once, in pieces, and by byte
				c := connect(t, http2conn.Config{})
				c.handler.answer, c.handler.finish, c.handler.consume = true, test.finish, true
				test.send(c)
				c.deliver([]int{1 << 20, 7, 1}[size])
				if got := strings.Join(c.replies(), ", "); got != test.want {
					t.Errorf("got\n\t%s\nwant\n\t%s", got, test.want)
				}
				fails := strings.Contains(test.want, "GOAWAY") && !strings.Contains(test.want, "GOAWAY 0 NO_ERROR")
				if fails != (c.err != nil) {
					t.Errorf("Receive returned %v", c.err)
				}
			}
		})
	}
}

func conformanceCases() []conformanceCase {
	var cases []conformanceCase
	for _, part := range [][]conformanceCase{
		framingCases(), streamCases(), idCases(), dataCases(), headersCases(), smallFrameCases(),
		settingsCases(), windowCases(), continuationCases(), fieldCases(), pseudoFieldCases(), messageCases(), hpackCases(),
	} {
		cases = append(cases, part...)
	}

	return cases
}

func framingCases() []conformanceCase {
	return []conformanceCase{
		{section: "4.1", name: "unknown frame type", want: `PING ack "x"`, send: func(c *client) {
			c.WriteRawFrame(0x16, 0, 0, make([]byte, 8))
			c.ping("x")
		}},
		{section: "4.1", name: "undefined flags", want: `PING ack "x"`, send: func(c *client) { c.WriteRawFrame(http2.FramePing, 0x16, 0, []byte("x\x00\x00\x00\x00\x00\x00\x00")) }},
		{section: "4.1", name: "reserved bit", want: `PING ack "x"`, send: func(c *client) {
			c.WriteRawFrame(http2.FramePing, 0, 1<<31, []byte("x\x00\x00\x00\x00\x00\x00\x00"))
		}},
		{section: "4.2", name: "DATA of 2^14 bytes", want: answeredOne, send: func(c *client) {
			c.headers(1, false, post()...)
			c.WriteData(1, true, make([]byte, 1<<14))
		}},
		{section: "4.2", name: "DATA too large", want: oneThen + "GOAWAY 1 FRAME_SIZE_ERROR", send: func(c *client) {
			c.headers(1, false, post()...)
			c.WriteData(1, true, make([]byte, 1<<14+1))
		}},
		{section: "4.2", name: "HEADERS too large", want: sizeError, send: func(c *client) {
			c.headers(1, true, get("x", strings.Repeat("\x01", 1<<14))...)
		}},
		{section: "4.3", name: "invalid field block", want: decodingError, send: func(c *client) { c.block1("\x80") }},
		{section: "4.3", name: "truncated field block", want: decodingError, send: func(c *client) { c.block1(string(c.fields(get()...)) + "\x40") }},
		{section: "4.3", name: "PRIORITY in a field block", want: protocolError, send: func(c *client) {
			c.startHeaders(1)
			c.WritePriority(1, http2.PriorityParam{StreamDep: 3})
		}},
		{section: "4.3", name: "HEADERS of another stream in a field block", want: protocolError, send: func(c *client) {
			c.startHeaders(1)
			c.headers(3, true, get()...)
		}},
		{section: "5.4.1", name: "invalid PING", want: sizeError, send: func(c *client) { c.WriteRawFrame(http2.FramePing, 0, 0, make([]byte, 7)) }},
		{section: "5.5", name: "unknown frame in a field block", want: protocolError, send: func(c *client) {
			c.startHeaders(1)
			c.WriteRawFrame(0xff, 0, 1, nil)
		}},
	}
}

func streamCases() []conformanceCase {
	return []conformanceCase{
		{section: "5.1", name: "idle: DATA", want: protocolError, send: func(c *client) { c.WriteData(1, true, []byte("x")) }},
		{section: "5.1", name: "idle: DATA with an even id", want: protocolError, send: func(c *client) { c.WriteData(2, true, []byte("x")) }},
		{section: "5.1", name: "idle: RST_STREAM", want: protocolError, send: func(c *client) { c.WriteRSTStream(1, http2.ErrCodeCancel) }},
		{section: "5.1", name: "idle: WINDOW_UPDATE", want: protocolError, send: func(c *client) { c.WriteWindowUpdate(1, 100) }},
		{section: "5.1", name: "idle: CONTINUATION", want: protocolError, send: func(c *client) { c.WriteContinuation(1, true, c.fields(get()...)) }},
		{section: "5.1", name: "idle: PRIORITY", want: answeredOne, send: func(c *client) {
			c.WritePriority(1, http2.PriorityParam{Weight: 255})
			c.headers(1, true, get()...)
		}},
		{section: "5.1", name: "half-closed: DATA", want: oneThen + closedOne, send: func(c *client) {
			c.headers(1, true, get()...)
			c.WriteData(1, true, []byte("x"))
		}},
		{section: "5.1", name: "half-closed: HEADERS", want: oneThen + closedOne, send: func(c *client) {
			c.headers(1, true, get()...)
			c.headers(1, true, get()...)
		}},
		{section: "5.1", name: "half-closed: CONTINUATION", want: oneThenGoAway, send: func(c *client) {
			c.headers(1, true, get()...)
			c.WriteContinuation(1, true, c.fields("x", "y"))
		}},
		{section: "5.1", name: "half-closed: WINDOW_UPDATE, PRIORITY and RST_STREAM", want: oneThen + `PING ack "x"`, send: func(c *client) {
			c.headers(1, true, get()...)
			c.WriteWindowUpdate(1, 1)
			c.WritePriority(1, http2.PriorityParam{StreamDep: 3})
			c.WriteRSTStream(1, http2.ErrCodeCancel)
			c.ping("x")
		}},
		{section: "5.1", name: "reset: DATA", want: oneThen + closedOne, send: func(c *client) {
			c.headers(1, false, post()...)
			c.WriteRSTStream(1, http2.ErrCodeCancel)
			c.WriteData(1, true, []byte("x"))
		}},
		{section: "5.1", name: "reset: HEADERS", want: oneThen + "GOAWAY 1 STREAM_CLOSED", send: func(c *client) {
			c.headers(1, false, post()...)
			c.WriteRSTStream(1, http2.ErrCodeCancel)
			c.headers(1, true, get()...)
		}},
		{section: "5.1", name: "reset: CONTINUATION", want: oneThenGoAway, send: func(c *client) {
			c.headers(1, false, post()...)
			c.WriteRSTStream(1, http2.ErrCodeCancel)
			c.WriteContinuation(1, true, c.fields("x", "y"))
		}},
		{section: "5.1", name: "closed: DATA", finish: true, want: "HEADERS 1 200 end, " + closedOne, send: func(c *client) {
			c.headers(1, true, get()...)
			c.WriteData(1, true, []byte("x"))
		}},
		{section: "5.1", name: "closed: HEADERS", finish: true, want: "HEADERS 1 200 end, GOAWAY 1 STREAM_CLOSED", send: func(c *client) {
			c.headers(1, true, get()...)
			c.headers(1, true, get()...)
		}},
		{section: "5.1", name: "closed: CONTINUATION", finish: true, want: "HEADERS 1 200 end, GOAWAY 1 PROTOCOL_ERROR", send: func(c *client) {
			c.headers(1, true, get()...)
			c.WriteContinuation(1, true, c.fields("x", "y"))
		}},
		{section: "5.1", name: "closed: PRIORITY, WINDOW_UPDATE and RST_STREAM", finish: true, want: `HEADERS 1 200 end, PING ack "x"`, send: func(c *client) {
			c.headers(1, true, get()...)
			c.WritePriority(1, http2.PriorityParam{StreamDep: 3})
			c.WriteWindowUpdate(1, 1)
			c.WriteRSTStream(1, http2.ErrCodeCancel)
			c.ping("x")
		}},
		{section: "5.1", name: "reset by the server: all frames", finish: true, want: `HEADERS 1 200 end, RST_STREAM 1 NO_ERROR, PING ack "x"`, send: func(c *client) {
			c.headers(1, false, post()...)
			c.WriteData(1, false, []byte("x"))
			c.WriteWindowUpdate(1, 1)
			c.headers(1, true, "trailer", "x")
			c.WriteRSTStream(1, http2.ErrCodeCancel)
			c.ping("x")
		}},
	}
}

func idCases() []conformanceCase {
	return []conformanceCase{
		{section: "5.1.1", name: "even id", want: protocolError, send: func(c *client) { c.headers(2, true, get()...) }},
		{section: "5.1.1", name: "lower id", want: "HEADERS 5 200, GOAWAY 5 PROTOCOL_ERROR", send: func(c *client) {
			c.headers(5, true, get()...)
			c.headers(3, true, get()...)
		}},
		{section: "5.1.1", name: "id lower by more than the history", want: "HEADERS 1 200, HEADERS 1001 200, HEADERS 1003 200, GOAWAY 1003 PROTOCOL_ERROR", send: func(c *client) {
			for _, id := range []uint32{1, 1001, 1003, 3} {
				c.headers(id, true, get()...)
			}
		}},
		{section: "5.1.2", name: "too many streams", want: strings.Repeat("HEADERS 200, ", 250) + "RST_STREAM 501 REFUSED_STREAM", send: func(c *client) {
			c.hideIDs = true
			c.conn.Trust()
			for id := uint32(1); id <= 501; id += 2 {
				c.headers(id, true, get()...)
			}
		}},
		{section: "5.3.2", name: "PRIORITY for an idle stream, and HEADERS with a lower id", want: answeredOne, send: func(c *client) {
			c.WritePriority(3, http2.PriorityParam{Exclusive: true})
			c.headers(1, true, get()...)
		}},
		{section: "5.3.1 of RFC 7540", name: "HEADERS that depends on itself", want: malformedOne, send: func(c *client) {
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(get()...), EndStream: true, EndHeaders: true, Priority: http2.PriorityParam{StreamDep: 1, Weight: 255}})
		}},
		{section: "5.3.1 of RFC 7540", name: "PRIORITY that depends on itself", want: protocolError, send: func(c *client) { c.WritePriority(1, http2.PriorityParam{StreamDep: 1}) }},
		{section: "7.1 of RFC 9218", name: "PRIORITY_UPDATE", want: answeredOne, send: func(c *client) {
			c.WritePriorityUpdate(1, "u=1")
			c.headers(1, true, get()...)
		}},
	}
}

func dataCases() []conformanceCase {
	return []conformanceCase{
		{section: "6.1", name: "DATA for stream 0", want: protocolError, send: func(c *client) { c.WriteRawFrame(http2.FrameData, 0, 0, []byte("x")) }},
		{section: "6.1", name: "several DATA frames with padding", want: answeredOne, send: func(c *client) {
			c.headers(1, false, post("content-length", "8")...)
			c.WriteData(1, false, []byte("test"))
			c.WriteDataPadded(1, true, []byte("test"), make([]byte, 6))
		}},
		{section: "6.1", name: "padding longer than the frame", want: oneThenGoAway, send: func(c *client) {
			c.headers(1, false, post()...)
			c.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, []byte("\x06test"))
		}},
		{section: "4.2", name: "DATA without the length of its padding", want: oneThen + "GOAWAY 1 FRAME_SIZE_ERROR", send: func(c *client) {
			c.headers(1, false, post()...)
			c.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, nil)
		}},
		{section: "6.9", name: "DATA exceeds the connection's window", want: "HEADERS 1 200, HEADERS 3 200, GOAWAY 3 FLOW_CONTROL_ERROR", send: func(c *client) {
			c.handler.consume = false
			c.headers(1, false, post()...)
			c.headers(3, false, post()...)
			for i := range uint32(5) {
				c.WriteData(1+i%2*2, false, make([]byte, 1<<14))
			}
		}},
	}
}

// TestPreface checks the client's preface (RFC 9113 §3.4).
func TestPreface(t *testing.T) {
	for name, test := range map[string]struct {
		send func(*client)
		want string
	}{
		"valid":                          {func(c *client) { c.preface(); c.WriteSettings() }, "SETTINGS, SETTINGS ack"},
		"invalid":                        {func(c *client) { c.sent.WriteString("INVALID CONNECTION PREFACE\r\n\r\n") }, "SETTINGS, " + protocolError},
		"another protocol":               {func(c *client) { c.sent.WriteString("GET / HTTP/1.1\r\n\r\n") }, "SETTINGS, " + protocolError},
		"incomplete":                     {func(c *client) { c.sent.WriteString("PRI * HTT") }, "SETTINGS"},
		"no SETTINGS":                    {func(c *client) { c.preface(); c.ping("x") }, "SETTINGS, " + protocolError},
		"acknowledgment before SETTINGS": {func(c *client) { c.preface(); c.WriteSettingsAck() }, "SETTINGS, " + protocolError},
		"consumed by the caller":         {func(c *client) { c.conn.SkipPreface(); c.WriteSettings() }, "SETTINGS, SETTINGS ack"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1 << 20, 1} {
				c := newClient(t, http2conn.Config{})
				test.send(c)
				c.deliver(size)
				expect(t, []string{strings.Join(c.replies(), ", ")}, test.want)
				if incomplete := c.conn.Incomplete(); incomplete != (test.want != "SETTINGS, SETTINGS ack") {
					t.Errorf("Incomplete returned %t", incomplete)
				}
			}
		})
	}
}
