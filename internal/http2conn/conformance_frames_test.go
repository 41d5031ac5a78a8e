package http2conn_test

import (
	"golang.org/x/net/http2"
)

func headersCases() []conformanceCase {
	return []conformanceCase{
		{section: "6.2", name: "HEADERS for stream 0", want: protocolError, send: func(c *client) { c.headers(0, true, get()...) }},
		{section: "6.2", name: "padding and priority", want: answeredOne, send: func(c *client) {
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(get()...), EndStream: true, EndHeaders: true, PadLength: 9, Priority: http2.PriorityParam{StreamDep: 5, Weight: 255, Exclusive: true}})
		}},
		{section: "6.2", name: "padding longer than the frame", want: protocolError, send: func(c *client) {
			c.WriteRawFrame(http2.FrameHeaders, paddedFlag|endHeadersFlag|endStreamFlag, 1, append([]byte{0xff}, c.fields(get()...)...))
		}},
		{section: "6.2", name: "padding longer than the first frame", want: protocolError, send: func(c *client) {
			c.WriteRawFrame(http2.FrameHeaders, paddedFlag|endStreamFlag, 1, []byte{3, 0, 0})
			c.WriteContinuation(1, true, c.fields(get()...))
		}},
		{section: "4.2", name: "HEADERS without the length of its padding", want: sizeError, send: func(c *client) {
			c.WriteRawFrame(http2.FrameHeaders, paddedFlag|endHeadersFlag, 1, nil)
		}},
		{section: "4.2", name: "HEADERS with half a priority", want: sizeError, send: func(c *client) {
			c.WriteRawFrame(http2.FrameHeaders, priorityFlag|endHeadersFlag, 1, []byte{0, 0, 0})
		}},
	}
}

// smallFrameCases are for frames of a fixed size.
func smallFrameCases() []conformanceCase {
	return []conformanceCase{
		{section: "6.3", name: "PRIORITY for stream 0", want: protocolError, send: func(c *client) { c.WriteRawFrame(http2.FramePriority, 0, 0, make([]byte, 5)) }},
		{section: "6.3", name: "PRIORITY of 4 bytes", want: oneThen + "GOAWAY 1 FRAME_SIZE_ERROR", send: func(c *client) {
			c.headers(1, true, get()...)
			c.WriteRawFrame(http2.FramePriority, 0, 1, make([]byte, 4))
		}},
		{section: "6.4", name: "RST_STREAM for stream 0", want: protocolError, send: func(c *client) { c.WriteRSTStream(0, http2.ErrCodeCancel) }},
		{section: "6.4", name: "RST_STREAM of 3 bytes", want: oneThen + "GOAWAY 1 FRAME_SIZE_ERROR", send: func(c *client) {
			c.headers(1, true, get()...)
			c.WriteRawFrame(http2.FrameRSTStream, 0, 1, make([]byte, 3))
		}},
		{section: "6.6", name: "PUSH_PROMISE", want: oneThenGoAway, send: func(c *client) {
			c.headers(1, true, get()...)
			c.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 3, BlockFragment: c.fields(get()...), EndHeaders: true})
		}},
		{section: "6.7", name: "PING", want: `PING ack "12345678"`, send: func(c *client) { c.ping("12345678") }},
		{section: "6.7", name: "PING acknowledgment", want: `PING ack "x"`, send: func(c *client) {
			c.WritePing(true, [8]byte{'y'})
			c.ping("x")
		}},
		{section: "6.7", name: "PING for stream 1", want: protocolError, send: func(c *client) { c.WriteRawFrame(http2.FramePing, 0, 1, make([]byte, 8)) }},
		{section: "6.7", name: "PING of 6 bytes", want: sizeError, send: func(c *client) { c.WriteRawFrame(http2.FramePing, 0, 0, make([]byte, 6)) }},
		{section: "6.8", name: "GOAWAY", want: "GOAWAY 0 NO_ERROR", send: func(c *client) { c.WriteGoAway(0, http2.ErrCodeNo, nil) }},
		{section: "6.8", name: "GOAWAY for stream 1", want: protocolError, send: func(c *client) { c.WriteRawFrame(http2.FrameGoAway, 0, 1, make([]byte, 8)) }},
		{section: "6.8", name: "GOAWAY of 4 bytes", want: sizeError, send: func(c *client) { c.WriteRawFrame(http2.FrameGoAway, 0, 0, make([]byte, 4)) }},
		{section: "7", name: "GOAWAY with an unknown code", want: `GOAWAY 0 NO_ERROR, PING ack "x"`, send: func(c *client) {
			c.WriteGoAway(0, 0xff, nil)
			c.ping("x")
		}},
		{section: "7", name: "RST_STREAM with an unknown code", want: oneThen + `PING ack "x"`, send: func(c *client) {
			c.headers(1, true, get()...)
			c.WriteRSTStream(1, 0xff)
			c.ping("x")
		}},
	}
}

func settingsCases() []conformanceCase {
	setting := func(id http2.SettingID, value uint32) func(*client) {
		return func(c *client) { c.WriteSettings(http2.Setting{ID: id, Val: value}) }
	}

	return []conformanceCase{
		{section: "6.5", name: "acknowledgment with a payload", want: sizeError, send: func(c *client) { c.WriteRawFrame(http2.FrameSettings, http2.FlagSettingsAck, 0, []byte("x")) }},
		{section: "6.5", name: "SETTINGS for stream 1", want: protocolError, send: func(c *client) { c.WriteRawFrame(http2.FrameSettings, 0, 1, make([]byte, 6)) }},
		{section: "6.5", name: "SETTINGS of 3 bytes", want: sizeError, send: func(c *client) { c.WriteRawFrame(http2.FrameSettings, 0, 0, make([]byte, 3)) }},
		{section: "6.5.2", name: "invalid ENABLE_PUSH", want: protocolError, send: setting(http2.SettingEnablePush, 2)},
		{section: "6.5.2", name: "INITIAL_WINDOW_SIZE too large", want: windowError, send: setting(http2.SettingInitialWindowSize, 1<<31)},
		{section: "6.5.2", name: "MAX_FRAME_SIZE too small", want: protocolError, send: setting(http2.SettingMaxFrameSize, 1<<14-1)},
		{section: "6.5.2", name: "MAX_FRAME_SIZE too large", want: protocolError, send: setting(http2.SettingMaxFrameSize, 1<<24)},
		{section: "6.5.2", name: "unknown setting", want: "SETTINGS ack", send: setting(0xff, 1)},
		{section: "6.5.3", name: "SETTINGS", want: "SETTINGS ack", send: setting(http2.SettingEnablePush, 0)},
		{section: "6.5.3", name: "unexpected acknowledgment", want: protocolError, send: func(c *client) { c.WriteSettingsAck() }},
		{section: "6.5.3", name: "several values of INITIAL_WINDOW_SIZE", want: `SETTINGS ack, HEADERS 1 200, DATA 1 "h"`, send: func(c *client) {
			c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
			c.hello()
		}},
		{section: "10.5", name: "SETTINGS with too many parameters", want: "GOAWAY 0 ENHANCE_YOUR_CALM", send: func(c *client) {
			c.WriteSettings(make([]http2.Setting, 101)...)
		}},
	}
}

func windowCases() []conformanceCase {
	window := func(c *client, size uint32) {
		c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: size})
	}

	return []conformanceCase{
		{section: "6.9", name: "increment of 0", want: protocolError, send: func(c *client) { c.WriteWindowUpdate(0, 0) }},
		{section: "6.9", name: "increment of 0 for a stream", want: oneThen + malformedOne, send: func(c *client) {
			c.headers(1, true, get()...)
			c.WriteWindowUpdate(1, 0)
		}},
		{section: "6.9", name: "increment of 0 for an idle stream", want: protocolError, send: func(c *client) { c.WriteWindowUpdate(1, 0) }},
		{section: "6.9", name: "WINDOW_UPDATE of 3 bytes", want: sizeError, send: func(c *client) { c.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, make([]byte, 3)) }},
		{section: "6.9.1", name: "window of 1 byte", want: `SETTINGS ack, HEADERS 1 200, DATA 1 "h"`, send: func(c *client) {
			window(c, 1)
			c.hello()
		}},
		{section: "6.9.1", name: "window above 2^31-1", want: windowError, send: func(c *client) {
			c.WriteWindowUpdate(0, 1<<31-1)
			c.WriteWindowUpdate(0, 1<<31-1)
		}},
		{section: "6.9.1", name: "window of a stream above 2^31-1", want: oneThen + "RST_STREAM 1 FLOW_CONTROL_ERROR", send: func(c *client) {
			c.headers(1, true, get()...)
			c.WriteWindowUpdate(1, 1<<31-1)
			c.WriteWindowUpdate(1, 1<<31-1)
		}},
		{section: "6.9.2", name: "larger window for an open stream", want: `SETTINGS ack, HEADERS 1 200, SETTINGS ack, DATA 1 "h"`, send: func(c *client) {
			window(c, 0)
			c.hello()
			window(c, 1)
		}},
		{section: "6.9.2", name: "negative window", want: `SETTINGS ack, HEADERS 1 200, DATA 1 "hel", SETTINGS ack, DATA 1 "l"`, send: func(c *client) {
			window(c, 3)
			c.hello()
			window(c, 2)
			c.WriteWindowUpdate(1, 2)
		}},
		{section: "6.9.2", name: "window of an open stream above 2^31-1", want: oneThen + "GOAWAY 1 FLOW_CONTROL_ERROR", send: func(c *client) {
			c.headers(1, true, get()...)
			c.WriteWindowUpdate(1, 1)
			window(c, 1<<31-1)
		}},
	}
}

func continuationCases() []conformanceCase {
	return []conformanceCase{
		{section: "6.10", name: "several CONTINUATION frames", want: answeredOne, send: func(c *client) {
			c.startHeaders(1)
			c.WriteContinuation(1, false, c.fields("x-dummy", "0"))
			c.WriteContinuation(1, false, nil)
			c.WriteContinuation(1, true, c.fields("x-dummy", "0"))
		}},
		{section: "6.10", name: "after HEADERS with padding", want: answeredOne, send: func(c *client) {
			block := c.fields(get()...)
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:5], EndStream: true, PadLength: 20, Priority: http2.PriorityParam{Weight: 3}})
			c.WriteContinuation(1, true, block[5:])
		}},
		{section: "4.2", name: "HEADERS with half a priority, and CONTINUATION", want: sizeError, send: func(c *client) {
			c.WriteRawFrame(http2.FrameHeaders, priorityFlag, 1, []byte{0, 0, 0})
			c.WriteContinuation(1, true, append([]byte{0, 0}, c.fields(get()...)...))
		}},
		{section: "6.10", name: "DATA in a field block", want: protocolError, send: func(c *client) {
			c.startHeaders(1)
			c.WriteContinuation(1, false, c.fields("x-dummy", "0"))
			c.WriteData(1, true, []byte("test"))
		}},
		{section: "6.10", name: "CONTINUATION for stream 0", want: protocolError, send: func(c *client) {
			c.startHeaders(1)
			c.WriteContinuation(0, true, c.fields("x-dummy", "0"))
		}},
		{section: "6.10", name: "after HEADERS with END_HEADERS", want: oneThenGoAway, send: func(c *client) {
			c.headers(1, true, get()...)
			c.WriteContinuation(1, true, c.fields("x-dummy", "0"))
		}},
		{section: "6.10", name: "after CONTINUATION with END_HEADERS", want: oneThenGoAway, send: func(c *client) {
			c.startHeaders(1)
			c.WriteContinuation(1, true, c.fields("x-dummy", "0"))
			c.WriteContinuation(1, true, c.fields("x-dummy", "0"))
		}},
		{section: "6.10", name: "after DATA", want: oneThenGoAway, send: func(c *client) {
			c.headers(1, false, post()...)
			c.WriteData(1, false, []byte("test"))
			c.WriteContinuation(1, true, c.fields("x-dummy", "0"))
		}},
	}
}
