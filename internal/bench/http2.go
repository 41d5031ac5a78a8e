package bench

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// http2Conn is the client's side of an HTTP/2 connection (RFC 9113). It does no
// I/O. All its requests are sent at the beginning.
type http2Conn struct {
	codec   *frameCodec
	headers *hpack.Decoder // nil until the first response
	partial []byte         // the beginning of a frame
	agreed  bool           // the server's settings have arrived
	slow    bool           // never opens a window again
	window  int32          // bytes that the server may still send on the connection
	streams []http2Stream
}

// http2Stream is a stream of an http2Conn. Its ID is twice its number plus one.
type http2Stream struct {
	window int32 // bytes that the server may still send
	status int   // of a response that isn't an event stream
	phase  http2Phase
}

// http2Phase is the phase of a stream. Phases follow one another in this order.
type http2Phase uint8

const (
	http2Requested http2Phase = iota
	http2Rejected             // until the reason arrives
	http2Open
	http2Ended
)

// Flow-control windows in bytes (RFC 9113 §5.2). For streams that are read, they
// are as large as Chromium's.
const (
	defaultWindow    = 1<<16 - 1
	connectionWindow = 15 << 20
	streamWindow     = 6 << 20
	slowWindow       = 4 << 10 // as the kernel's buffer of a slow stream over HTTP/1.1
)

// newHTTP2Conn returns a connection with these requests, and what to send first.
// That is valid until the next use of codec. A slow connection doesn't open its
// windows again after it has received data.
func newHTTP2Conn(codec *frameCodec, requests [][]hpack.HeaderField, slow bool) (c *http2Conn, preface []byte, err error) {
	c = &http2Conn{codec: codec, slow: slow, window: connectionWindow, streams: make([]http2Stream, len(requests))}
	window := int32(streamWindow)
	if slow {
		c.window, window = defaultWindow, slowWindow
	}

	codec.out.Reset()
	codec.out.WriteString(http2.ClientPreface)
	err = codec.framer.WriteSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(window)},
	)
	if more := c.window - defaultWindow; more > 0 && err == nil {
		err = codec.framer.WriteWindowUpdate(0, uint32(more))
	}

	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i, fields := range requests {
		block.Reset()
		for _, field := range fields {
			err = errors.Join(err, encoder.WriteField(field))
		}
		c.streams[i].window = window
		err = errors.Join(err, codec.writeRequest(streamID(i), block.Bytes()))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("encode the requests: %w", err)
	}

	return c, codec.out.Bytes(), nil
}

func streamID(number int) uint32 { return uint32(2*number + 1) }

// writeRequest encodes a request without a body.
func (c *frameCodec) writeRequest(id uint32, block []byte) error {
	first := block[:min(len(block), maxFrame)]
	block = block[len(first):]
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: true, EndHeaders: len(block) == 0})

	for len(block) > 0 && err == nil {
		next := block[:min(len(block), maxFrame)]
		block = block[len(next):]
		err = c.framer.WriteContinuation(id, len(block) == 0, next)
	}
	return err
}

// errNotHTTP2 is the error of a server that replies with something else.
var errNotHTTP2 = errors.New("the server doesn't speak HTTP/2")

// receive implements protocol.
func (c *http2Conn) receive(received []byte, to sink) (reply []byte, err error) {
	c.codec.out.Reset()
	if len(c.partial) > 0 {
		received = append(c.partial, received...)
		c.partial = nil
	}

	// A server begins with its settings (RFC 9113 §3.4).
	if !c.agreed && len(received) >= frameHeader && http2.FrameType(received[3]) != http2.FrameSettings {
		return nil, errNotHTTP2
	}

	for {
		n, err := frameLen(received)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		if err := c.receiveFrame(received[:n], to); err != nil {
			return nil, err
		}
		received = received[n:]
	}

	if len(received) > 0 {
		c.partial = bytes.Clone(received)
	}
	return c.codec.out.Bytes(), nil
}

// receiveFrame decodes and handles a frame. An error concerns the connection.
func (c *http2Conn) receiveFrame(encoded []byte, to sink) error {
	if c.headers == nil && http2.FrameType(encoded[3]) == http2.FrameHeaders {
		const table = 4 << 10 // bytes, the default (RFC 9113 §6.5.2)
		c.headers = hpack.NewDecoder(table, nil)
	}

	frame, err := c.codec.decode(encoded, c.headers)
	if err == nil {
		err = c.handle(frame, to)
	}
	if malformed, ok := errors.AsType[http2.StreamError](err); ok {
		err = c.abort(malformed, to)
	}
	return err
}

// handle handles a frame. A [http2.StreamError] concerns only its stream.
func (c *http2Conn) handle(frame http2.Frame, to sink) error {
	switch f := frame.(type) {
	case *http2.DataFrame:
		return c.handleData(f, to)
	case *http2.MetaHeadersFrame:
		return c.handleHeaders(f, to)
	case *http2.RSTStreamFrame:
		number, s, err := c.stream(f.StreamID)
		if err == nil {
			c.end(number, s, resetReason(f.ErrCode), to)
		}
		return err
	case *http2.SettingsFrame:
		return c.handleSettings(f)
	case *http2.PingFrame:
		if f.IsAck() {
			return nil
		}
		return c.codec.framer.WritePing(true, f.Data)
	case *http2.GoAwayFrame:
		return c.handleGoAway(f, to)
	case *http2.PushPromiseFrame:
		return errors.New("the server pushed a response although the client disabled that")
	}
	return nil // WINDOW_UPDATE, since the client sends no data, and unknown frames
}

// stream returns the stream with this ID.
func (c *http2Conn) stream(id uint32) (number int, s *http2Stream, err error) {
	number = int(id-1) / 2
	if id%2 == 0 || number >= len(c.streams) {
		return 0, nil, fmt.Errorf("the server sent a frame on stream %d, which isn't open", id)
	}
	return number, &c.streams[number], nil
}

// end ends a stream, unless it has ended.
func (c *http2Conn) end(number int, s *http2Stream, reason error, to sink) {
	if s.phase != http2Ended {
		s.phase = http2Ended
		to.ended(number, reason)
	}
}

// abort resets a stream because of an error of the server.
func (c *http2Conn) abort(because http2.StreamError, to sink) error {
	number, s, err := c.stream(because.StreamID)
	if err != nil {
		return err
	}
	because.StreamID = 0 // so that the reasons of several streams are equal
	c.end(number, s, fmt.Errorf("malformed HTTP/2 response: %w", because), to)
	return c.codec.framer.WriteRSTStream(streamID(number), because.Code)
}

// resetReason returns the reason for which a server reset a stream.
func resetReason(code http2.ErrCode) error {
	if code == http2.ErrCodeNo {
		return errEnd
	}
	return fmt.Errorf("the server reset the stream: %s", code)
}

func (c *http2Conn) handleSettings(f *http2.SettingsFrame) error {
	c.agreed = true
	if f.IsAck() {
		return nil
	}
	if limit, ok := f.Value(http2.SettingMaxConcurrentStreams); ok && int64(limit) < int64(len(c.streams)) {
		return fmt.Errorf("the server allows %d streams per connection; want %d", limit, len(c.streams))
	}
	return c.codec.framer.WriteSettingsAck()
}

// handleGoAway ends the streams that the server hasn't processed. The others
// continue, unless the server reports an error.
func (c *http2Conn) handleGoAway(f *http2.GoAwayFrame, to sink) error {
	if f.ErrCode != http2.ErrCodeNo {
		return fmt.Errorf("the server closed the connection: %s", f.ErrCode)
	}
	for number := range c.streams {
		if streamID(number) > f.LastStreamID {
			c.end(number, &c.streams[number], errEnd, to)
		}
	}
	return nil
}

// handleHeaders handles a response header or trailers.
func (c *http2Conn) handleHeaders(f *http2.MetaHeadersFrame, to sink) error {
	number, s, err := c.stream(f.StreamID)
	if err != nil || s.phase == http2Ended {
		return err
	}

	if s.phase == http2Requested {
		status, err := strconv.Atoi(f.PseudoValue("status"))
		if err != nil || status < 100 || status > 999 {
			return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeProtocol, Cause: errors.New("no valid status")}
		}
		if status < 200 { // informational
			return nil
		}

		switch reason := checkFields(status, f, nil); {
		case reason == nil:
			s.phase = http2Open
			to.opened(number)
		case status == http.StatusOK || f.StreamEnded():
			c.end(number, s, reason, to)
			return c.cancel(f.StreamID, f.StreamEnded())
		default:
			s.phase, s.status = http2Rejected, status
		}
	}

	if f.StreamEnded() {
		c.end(number, s, c.endReason(s, nil), to)
	}
	return nil
}

// checkFields returns an error if a response isn't an event stream.
func checkFields(status int, f *http2.MetaHeadersFrame, body []byte) error {
	header := http.Header{}
	if f != nil {
		for _, field := range f.RegularFields() {
			header.Add(field.Name, field.Value)
		}
	}
	return checkResponse(status, fmt.Sprintf("%d %s", status, http.StatusText(status)), header, body)
}

// endReason returns the reason for the end of a stream whose last data is body.
func (c *http2Conn) endReason(s *http2Stream, body []byte) error {
	if s.phase == http2Rejected {
		return checkFields(s.status, nil, body)
	}
	return errEnd
}

// cancel asks the server to send no more on a stream, unless it has ended.
func (c *http2Conn) cancel(id uint32, ended bool) error {
	if ended {
		return nil
	}
	return c.codec.framer.WriteRSTStream(id, http2.ErrCodeCancel)
}

func (c *http2Conn) handleData(f *http2.DataFrame, to sink) error {
	number, s, err := c.stream(f.StreamID)
	if err != nil {
		return err
	}
	if err := c.account(f, s); err != nil {
		return err
	}

	data := f.Data()
	switch s.phase {
	case http2Requested:
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeProtocol, Cause: errors.New("data before the response header")}
	case http2Rejected:
		if len(data) > 0 || f.StreamEnded() {
			c.end(number, s, c.endReason(s, data), to)
			return c.cancel(f.StreamID, f.StreamEnded())
		}
	case http2Open:
		if len(data) > 0 {
			to.body(number, data)
		}
		if f.StreamEnded() {
			c.end(number, s, errEnd, to)
		}
	case http2Ended: // sent before the cancellation arrived
	}
	return nil
}

// account takes the length of a frame from the windows, and opens windows that
// are half closed again.
func (c *http2Conn) account(f *http2.DataFrame, s *http2Stream) error {
	c.window -= int32(f.Length)
	s.window -= int32(f.Length)
	if c.window < 0 || s.window < 0 {
		return fmt.Errorf("the server sent more than the flow-control window: %s", http2.ErrCodeFlowControl)
	}
	if c.slow {
		return nil
	}

	var err error
	if c.window < connectionWindow/2 {
		err = c.codec.framer.WriteWindowUpdate(0, uint32(connectionWindow-c.window))
		c.window = connectionWindow
	}
	if s.window < streamWindow/2 && s.phase != http2Ended {
		err = errors.Join(err, c.codec.framer.WriteWindowUpdate(f.StreamID, uint32(streamWindow-s.window)))
		s.window = streamWindow
	}
	return err
}
