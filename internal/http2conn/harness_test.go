package http2conn_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/peald/peald/internal/http2conn"
)

// client is the client's side of a connection, in memory. It writes frames with
// its Framer, and sends them with flush.
type client struct {
	tb testing.TB
	*http2.Framer

	sent    bytes.Buffer // frames that the connection hasn't received
	encoder *hpack.Encoder
	block   bytes.Buffer

	codec   *http2conn.Codec
	conn    *http2conn.Conn
	handler *recorder
	err     error // of the last flush

	input   bytes.Buffer // frames that the client hasn't read
	decoder *hpack.Decoder
	hideIDs bool // leave the ids of HEADERS out of descriptions
}

// newClient returns a client that hasn't sent its preface.
func newClient(tb testing.TB, cfg http2conn.Config) *client {
	tb.Helper()

	c := &client{tb: tb, codec: http2conn.NewCodec(), handler: &recorder{}}
	c.conn = http2conn.NewServer(cfg).NewConn(c.handler)
	c.handler.codec = c.codec
	c.Framer = http2.NewFramer(&c.sent, &c.input)
	c.AllowIllegalWrites = true
	c.encoder = hpack.NewEncoder(&c.block)
	c.decoder = hpack.NewDecoder(4096, nil)
	c.ReadMetaHeaders = c.decoder

	return c
}

// connect returns a client after the exchange of settings.
func connect(tb testing.TB, cfg http2conn.Config) *client {
	tb.Helper()

	c := newClient(tb, cfg)
	c.preface()
	c.WriteSettings()
	c.WriteSettingsAck()
	c.flush()
	if got := strings.Join(c.replies(), ", "); c.err != nil || !strings.HasPrefix(got, "SETTINGS, SETTINGS ack") {
		tb.Fatalf("connecting: %v, %s", c.err, got)
	}

	return c
}

func (c *client) preface() { c.sent.WriteString(http2.ClientPreface) }

// flush passes what was written to the connection.
func (c *client) flush() {
	c.err = c.conn.Receive(c.codec, c.sent.Bytes())
	c.sent.Reset()
}

// deliver passes what was written in pieces of the given size.
func (c *client) deliver(size int) {
	sent := bytes.Clone(c.sent.Bytes())
	c.sent.Reset()
	for len(sent) > 0 && c.err == nil {
		n := min(size, len(sent))
		piece := bytes.Clone(sent[:n])
		c.err = c.conn.Receive(c.codec, piece)
		clear(piece) // the connection mustn't keep it
		sent = sent[n:]
	}
}

func (c *client) ping(data string) {
	var payload [8]byte
	copy(payload[:], data)
	c.WritePing(false, payload)
}

// startHeaders writes HEADERS without END_HEADERS.
func (c *client) startHeaders(id uint32) {
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.fields(get()...), EndStream: true})
}

// block1 writes HEADERS for stream 1 with a field block.
func (c *client) block1(block string) {
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block), EndStream: true, EndHeaders: true})
}

// hello opens stream 1 and sends "hello" on it, whenever it is writable.
func (c *client) hello() {
	c.headers(1, true, get()...)
	c.handler.toSend = "hello"
	c.handler.out = &c.input
}

// fields encodes name-value pairs as a field block. Like browsers, it adds all but
// paths to the dynamic table.
func (c *client) fields(pairs ...string) []byte {
	c.block.Reset()
	for i := 0; i < len(pairs); i += 2 {
		c.encoder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1], Sensitive: pairs[i] == ":path"})
	}

	return bytes.Clone(c.block.Bytes())
}

func get(more ...string) []string {
	return append([]string{":method", "GET", ":scheme", "https", ":authority", "example.com", ":path", "/events"}, more...)
}

func post(more ...string) []string {
	return append([]string{":method", "POST", ":scheme", "https", ":authority", "example.com", ":path", "/"}, more...)
}

// headers writes HEADERS that end the stream if end is set.
func (c *client) headers(id uint32, end bool, pairs ...string) {
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.fields(pairs...), EndStream: end, EndHeaders: true})
}

// request sends a request without a body, and returns its stream.
func (c *client) request(id uint32) *http2conn.Stream {
	c.tb.Helper()
	c.headers(id, true, get()...)
	c.flush()
	if c.err != nil {
		c.tb.Fatal(c.err)
	}

	return c.handler.streams[id]
}

// replies returns descriptions of the frames in the connection's output.
func (c *client) replies() []string {
	c.tb.Helper()
	c.input.Write(c.conn.AppendOutput(nil))

	return c.describe()
}

// describe describes the frames that the client hasn't read.
func (c *client) describe() []string {
	c.tb.Helper()

	var frames []string
	for {
		f, err := c.ReadFrame()
		if errors.Is(err, io.EOF) {
			return frames
		}
		if err != nil {
			c.tb.Fatalf("reading a frame: %v (%v)", err, c.ErrorDetail())
		}
		description := describe(f)
		if f, ok := f.(*http2.MetaHeadersFrame); ok && c.hideIDs {
			description = "HEADERS " + f.PseudoValue("status")
		}
		frames = append(frames, description)
	}
}

func describe(f http2.Frame) string {
	id, flags := f.Header().StreamID, ""
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return "SETTINGS ack"
		}
		return "SETTINGS"
	case *http2.PingFrame:
		if f.IsAck() {
			return fmt.Sprintf("PING ack %q", strings.Trim(string(f.Data[:]), "\x00"))
		}
		return "PING"
	case *http2.GoAwayFrame:
		return fmt.Sprintf("GOAWAY %d %s", f.LastStreamID, f.ErrCode)
	case *http2.RSTStreamFrame:
		return fmt.Sprintf("RST_STREAM %d %s", id, f.ErrCode)
	case *http2.WindowUpdateFrame:
		return fmt.Sprintf("WINDOW_UPDATE %d %d", id, f.Increment)
	case *http2.MetaHeadersFrame:
		if f.StreamEnded() {
			flags = " end"
		}
		return fmt.Sprintf("HEADERS %d %s%s", id, f.PseudoValue("status"), flags)
	case *http2.DataFrame:
		if f.StreamEnded() {
			flags = " end"
		}
		return fmt.Sprintf("DATA %d %q%s", id, f.Data(), flags)
	default:
		return f.Header().String()
	}
}

// recorder is a handler that records its calls. It can answer requests and consume
// bodies.
type recorder struct {
	codec *http2conn.Codec

	answer  bool   // send status 200
	finish  bool   // with it, end the stream
	consume bool   // drop bodies
	more    string // a field of answers
	toSend  string
	out     *bytes.Buffer // gets toSend

	onWritable func(*http2conn.Stream)

	streams  map[uint32]*http2conn.Stream
	requests []*http.Request
	bodies   map[uint32]string
	ended    map[uint32]bool // the body is complete
	writable []uint32
	closed   map[uint32]error
}

func (r *recorder) Request(st *http2conn.Stream, req *http.Request) {
	if r.streams == nil {
		r.streams = map[uint32]*http2conn.Stream{}
		r.bodies = map[uint32]string{}
		r.ended = map[uint32]bool{}
		r.closed = map[uint32]error{}
	}
	r.streams[st.ID()] = st
	r.requests = append(r.requests, req)
	if r.answer {
		st.SendHeaders(r.codec, http.StatusOK, http.Header{"Content-Type": {"text/event-stream"}, "X-More": {r.more}}, r.finish)
	}
	r.send(st)
}

func (r *recorder) Data(st *http2conn.Stream, p []byte, end bool) {
	r.bodies[st.ID()] += string(p)
	r.ended[st.ID()] = end
	if r.consume {
		st.Consumed(len(p))
	}
}

func (r *recorder) Writable(st *http2conn.Stream) {
	r.writable = append(r.writable, st.ID())
	r.send(st)
	if r.onWritable != nil {
		r.onWritable(st)
	}
}

func (r *recorder) Closed(st *http2conn.Stream, err error) { r.closed[st.ID()] = err }

func (r *recorder) send(st *http2conn.Stream) {
	if r.toSend == "" {
		return
	}
	out, n := st.Send(nil, [][]byte{[]byte(r.toSend)})
	r.out.Write(out)
	r.toSend = r.toSend[n:]
}
