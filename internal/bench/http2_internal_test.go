package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// events records the calls of a sink.
type events []string

func (e *events) opened(stream int) { *e = append(*e, fmt.Sprintf("%d opened", stream)) }
func (e *events) body(stream int, piece []byte) {
	*e = append(*e, fmt.Sprintf("%d body %s", stream, piece))
}
func (e *events) ended(stream int, reason error) {
	*e = append(*e, fmt.Sprintf("%d ended: %v", stream, reason))
}

// server encodes the frames of a server.
type server struct {
	*http2.Framer

	out     bytes.Buffer
	fields  bytes.Buffer
	encoder *hpack.Encoder
}

func newServer() *server {
	s := &server{}
	s.Framer = http2.NewFramer(&s.out, nil)
	s.encoder = hpack.NewEncoder(&s.fields)
	return s
}

// header writes a response header without END_STREAM.
func (s *server) header(id uint32, fields ...string) {
	_ = s.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: s.block(fields...), EndHeaders: true})
}

func (s *server) block(fields ...string) []byte {
	s.fields.Reset()
	for pair := range slices.Chunk(fields, 2) {
		_ = s.encoder.WriteField(hpack.HeaderField{Name: pair[0], Value: pair[1]})
	}
	return s.fields.Bytes()
}

// open writes the response header of an event stream.
func (s *server) open(id uint32) {
	s.header(id, ":status", "200", "content-type", "text/event-stream", "x-padding", strings.Repeat("x", 300))
}

// newTestConn returns a connection with requests for this number of streams.
func newTestConn(tb testing.TB, streams int, slow bool) *http2Conn {
	tb.Helper()
	requests := make([][]hpack.HeaderField, streams)
	for i := range requests {
		requests[i] = []hpack.HeaderField{{Name: ":method", Value: "GET"}}
	}
	c, _, err := newHTTP2Conn(newFrameCodec(), requests, slow)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestHTTP2Frames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		write func(s *server)
		want  string // events, separated by semicolons, and the error
	}{
		{"streams of one connection", func(s *server) {
			s.open(3)
			s.open(1)
			_ = s.WriteData(1, false, []byte("a"))
			_ = s.WriteDataPadded(3, false, []byte("b"), make([]byte, 10))
			_ = s.WriteData(3, true, []byte("c"))
		}, "1 opened; 0 opened; 0 body a; 1 body b; 1 body c; 1 ended: end of the response"},
		{"informational response", func(s *server) {
			s.header(1, ":status", "103")
			s.open(1)
		}, "0 opened"},
		{"header block in several frames", func(s *server) {
			block := s.block(":status", "200", "content-type", "text/event-stream")
			_ = s.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:1]})
			_ = s.WriteContinuation(1, false, block[1:2])
			_ = s.WriteContinuation(1, true, block[2:])
		}, "0 opened"},
		{"another frame inside a header block", func(s *server) {
			_ = s.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}})
			_ = s.WritePing(false, [8]byte{})
		}, "error: connection error: PROTOCOL_ERROR: got PING for stream 0; expected CONTINUATION following HEADERS for stream 1"},
		{"rejection with a reason", func(s *server) {
			s.header(1, ":status", "503")
			_ = s.WriteData(1, true, []byte("try again later\nplease"))
		}, "0 ended: 503 Service Unavailable: try again later"},
		{"rejection without a reason", func(s *server) {
			_ = s.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: s.block(":status", "204"), EndHeaders: true, EndStream: true})
		}, "0 ended: 204 No Content"},
		{"wrong content type", func(s *server) { s.header(1, ":status", "200") },
			`0 ended: the response is not an event stream: Content-Type is ""; want text/event-stream`},
		{"reset", func(s *server) {
			s.open(1)
			_ = s.WriteRSTStream(1, http2.ErrCodeCancel)
			_ = s.WriteRSTStream(3, http2.ErrCodeNo)
			_ = s.WriteData(1, false, []byte("late"))
		}, "0 opened; 0 ended: the server reset the stream: CANCEL; 1 ended: end of the response"},
		{"trailers", func(s *server) {
			s.open(1)
			_ = s.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: s.block("x", "y"), EndHeaders: true, EndStream: true})
		}, "0 opened; 0 ended: end of the response"},
		{"shutdown", func(s *server) {
			s.open(1)
			_ = s.WriteGoAway(1, http2.ErrCodeNo, nil)
			_ = s.WriteData(1, false, []byte("a"))
		}, "0 opened; 1 ended: end of the response; 0 body a"},
		{"shutdown because of an error", func(s *server) { _ = s.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, nil) },
			"error: the server closed the connection: ENHANCE_YOUR_CALM"},
		{"data without a header", func(s *server) { _ = s.WriteData(1, false, []byte("a")) },
			"0 ended: malformed HTTP/2 response: stream error: stream ID 0; PROTOCOL_ERROR; data before the response header"},
		{"no status", func(s *server) { s.header(1, "content-type", "text/event-stream") },
			"0 ended: malformed HTTP/2 response: stream error: stream ID 0; PROTOCOL_ERROR; no valid status"},
		{"malformed field", func(s *server) {
			s.header(1, ":status", "200", "UPPER", "case")
			s.open(3)
		}, `0 ended: malformed HTTP/2 response: stream error: stream ID 0; PROTOCOL_ERROR; invalid header field name "UPPER"; 1 opened`},
		{"unknown stream", func(s *server) { s.open(5) }, "error: the server sent a frame on stream 5, which isn't open"},
		{"pushed stream", func(s *server) {
			_ = s.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: s.block(":method", "GET"), EndHeaders: true})
		}, "error: the server pushed a response although the client disabled that"},
		{"large frame", func(s *server) { _ = s.WriteData(1, false, make([]byte, 16<<10+1)) },
			"error: HTTP/2 frame of 16385 bytes; the limit is 16384"},
		{"too few streams", func(s *server) {
			_ = s.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
		}, "error: the server allows 1 streams per connection; want 2"},
	} {
		for _, piece := range []int{1, 7, 1 << 20} {
			t.Run(fmt.Sprintf("%s/%d", c.name, piece), func(t *testing.T) {
				t.Parallel()
				s := newServer()
				_ = s.WriteSettings()
				c.write(s)

				var got events
				conn := newTestConn(t, 2, false)
				for part := range slices.Chunk(s.out.Bytes(), piece) {
					if _, err := conn.receive(part, &got); err != nil {
						got = append(got, "error: "+err.Error())
						break
					}
				}
				if text := strings.Join(got, "; "); text != c.want {
					t.Errorf("got  %s\nwant %s", text, c.want)
				}
			})
		}
	}
}

// TestHTTP2Replies checks what a connection sends by itself.
func TestHTTP2Replies(t *testing.T) {
	t.Parallel()
	s := newServer()
	_ = s.WriteSettings()
	_ = s.WriteSettingsAck()
	_ = s.WritePing(false, [8]byte{1, 2})
	_ = s.WritePing(true, [8]byte{3})
	s.open(1)
	for range streamWindow/2/maxFrame + 1 {
		_ = s.WriteData(1, false, make([]byte, maxFrame))
	}
	s.header(3, ":status", "200")

	var got events
	reply, err := newTestConn(t, 2, false).receive(s.out.Bytes(), &got)
	if err != nil {
		t.Fatal(err)
	}

	var frames []string
	for reader := http2.NewFramer(nil, bytes.NewReader(reply)); ; {
		frame, err := reader.ReadFrame()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			frames = append(frames, fmt.Sprintf("SETTINGS ack=%t", f.IsAck()))
		case *http2.PingFrame:
			frames = append(frames, fmt.Sprintf("PING ack=%t %d", f.IsAck(), f.Data[:2]))
		case *http2.WindowUpdateFrame:
			frames = append(frames, fmt.Sprintf("WINDOW_UPDATE %d +%d", f.StreamID, f.Increment))
		case *http2.RSTStreamFrame:
			frames = append(frames, fmt.Sprintf("RST_STREAM %d %s", f.StreamID, f.ErrCode))
		}
	}

	want := []string{
		"SETTINGS ack=true", "PING ack=true [1 2]",
		fmt.Sprintf("WINDOW_UPDATE 1 +%d", streamWindow/2+maxFrame), "RST_STREAM 3 CANCEL",
	}
	if !slices.Equal(frames, want) {
		t.Errorf("replies %q, want %q", frames, want)
	}
}

// TestHTTP2Windows checks that a server must not send more than the windows
// allow, and that those of slow streams stay closed.
func TestHTTP2Windows(t *testing.T) {
	t.Parallel()
	s := newServer()
	_ = s.WriteSettings()
	s.open(1)
	_ = s.WriteData(1, false, make([]byte, slowWindow))

	var got events
	c := newTestConn(t, 1, true)
	if reply, err := c.receive(s.out.Bytes(), &got); err != nil || len(reply) != frameHeader { // the settings' acknowledgement
		t.Fatalf("reply %x, error %v; want one frame", reply, err)
	}

	s.out.Reset()
	_ = s.WriteData(1, false, []byte("x"))
	if _, err := c.receive(s.out.Bytes(), &got); err == nil || !strings.Contains(err.Error(), "FLOW_CONTROL_ERROR") {
		t.Errorf("error %v, want FLOW_CONTROL_ERROR", err)
	}
}

func FuzzHTTP2(f *testing.F) {
	s := newServer()
	_ = s.WriteSettings()
	s.open(1)
	_ = s.WriteData(1, false, []byte("data: x\n\n"))
	_ = s.WritePing(false, [8]byte{})
	_ = s.WriteRSTStream(3, http2.ErrCodeCancel)
	_ = s.WriteGoAway(1, http2.ErrCodeNo, nil)
	f.Add(s.out.Bytes(), 7)
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), 1)

	f.Fuzz(func(t *testing.T, received []byte, piece int) {
		var whole, parts events
		_, wholeErr := newTestConn(t, 2, false).receive(received, &whole)

		c := newTestConn(t, 2, false)
		var partErr error
		for part := range slices.Chunk(received, max(1, piece&0xff)) {
			if _, partErr = c.receive(part, &parts); partErr != nil {
				break
			}
		}

		if fmt.Sprint(wholeErr) != fmt.Sprint(partErr) || !slices.Equal(whole, parts) {
			t.Errorf("in one piece: %q, %v\nin several:   %q, %v", whole, wholeErr, parts, partErr)
		}
	})
}

// discard is a sink that ignores everything.
type discard struct{}

func (discard) opened(int)       {}
func (discard) body(int, []byte) {}
func (discard) ended(int, error) {}

// BenchmarkHTTP2Data decodes a DATA frame with a message of 100 bytes.
func BenchmarkHTTP2Data(b *testing.B) {
	s := newServer()
	_ = s.WriteSettings()
	s.open(1)
	c := newTestConn(b, 1, false)
	if _, err := c.receive(s.out.Bytes(), discard{}); err != nil {
		b.Fatal(err)
	}

	s.out.Reset()
	_ = s.WriteData(1, false, []byte("id: k3f9-1042\nevent: broadcast\ndata: "+strings.Repeat("x", 100)+"\n\n"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.receive(s.out.Bytes(), discard{}); err != nil {
			b.Fatal(err)
		}
	}
}
