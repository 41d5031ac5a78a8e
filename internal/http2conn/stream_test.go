package http2conn_test

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/peald/peald/internal/http2conn"
)

// TestResponseHeader checks which fields are sent, and in which form.
func TestResponseHeader(t *testing.T) {
	c := connect(t, newClock().config())
	st := c.request(1)
	st.SendHeaders(c.codec, http.StatusOK, http.Header{
		"Content-Type":      {"text/event-stream"},
		"X-UPPER":           {"  spaces around\t"},
		"Set-Cookie":        {"a=1", "b=2"},
		"Connection":        {"close"},
		"Transfer-Encoding": {"chunked"},
		"Keep-Alive":        {"x"},
		"Invalid Name":      {"x"},
		"Invalid-Value":     {"x\r\ny: z"},
	}, false)

	c.input.Write(c.conn.AppendOutput(nil))
	f, err := c.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, field := range f.(*http2.MetaHeadersFrame).Fields {
		got = append(got, field.Name+": "+field.Value)
	}
	expect(t, got, ":status: 200", "content-type: text/event-stream", "set-cookie: a=1", "set-cookie: b=2", "x-upper: spaces around", "date: Fri, 02 Jan 2026 03:04:05 GMT")
	expect(t, c.describe(), "GOAWAY 2147483647 NO_ERROR", "PING") // because of "Connection: close"
}

// TestLargeResponseHeader sends a header in several frames.
func TestLargeResponseHeader(t *testing.T) {
	c := connect(t, http2conn.Config{})
	st := c.request(1)
	value := strings.Repeat("\xff", 50_000)
	st.SendHeaders(c.codec, http.StatusOK, http.Header{"X": {value}}, true)
	c.input.Write(c.conn.AppendOutput(nil))
	f, err := c.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	if fields := f.(*http2.MetaHeadersFrame); len(fields.Fields) != 3 || fields.Fields[1].Value != value || !fields.StreamEnded() {
		t.Errorf("got %d fields", len(fields.Fields))
	}
}

// TestResponseTableSize checks that the first response after the client limits its
// dynamic table begins with an update (RFC 9113 §4.3.1).
func TestResponseTableSize(t *testing.T) {
	c := connect(t, http2conn.Config{})
	c.ReadMetaHeaders = nil
	respond := func(id uint32) []byte {
		c.request(id).SendHeaders(c.codec, http.StatusOK, nil, true)
		c.input.Write(c.conn.AppendOutput(nil))
		for {
			f, err := c.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if f, ok := f.(*http2.HeadersFrame); ok {
				return bytes.Clone(f.HeaderBlockFragment())
			}
		}
	}

	size := func(size uint32) { c.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: size}) }
	for i, test := range []struct {
		change func()
		update bool
	}{
		{func() {}, false}, {func() { size(65536) }, false}, {func() { size(100) }, true}, {func() {}, false}, {func() { size(4096); size(0) }, false},
	} {
		test.change()
		if block := respond(uint32(2*i + 1)); (block[0] == 0x20) != test.update {
			t.Errorf("response %d begins with %#x", i, block[0])
		}
	}
}

// TestInformational sends status 100 and 103 before the response.
func TestInformational(t *testing.T) {
	c := connect(t, http2conn.Config{})
	c.headers(1, false, post("expect", "100-continue")...)
	c.flush()
	st := c.handler.streams[1]
	st.Continue(c.codec)
	st.Continue(c.codec)
	st.SendHeaders(c.codec, http.StatusEarlyHints, http.Header{"Link": {"</x.css>"}}, false)
	st.SendHeaders(c.codec, http.StatusOK, nil, false)
	st.SendHeaders(c.codec, http.StatusNotFound, nil, true) // too late
	st.Continue(c.codec)
	expect(t, c.replies(), "HEADERS 1 100", "HEADERS 1 103", "HEADERS 1 200")

	c.request(3).Continue(c.codec) // which expects nothing
	expect(t, c.replies())
}

// TestReset checks that a stream has no effect once it is reset.
func TestReset(t *testing.T) {
	c := connect(t, http2conn.Config{})
	st := c.request(1)
	st.Reset(http2.ErrCodeCancel)
	st.Reset(http2.ErrCodeCancel)
	st.SendHeaders(c.codec, http.StatusOK, nil, false)
	st.Consumed(10)
	out, n := st.Send(nil, [][]byte{[]byte("x")})
	if n != 0 || len(st.End(out)) != 0 || c.conn.Streams() != 0 || len(c.handler.closed) != 0 {
		t.Errorf("sent %d bytes on a stream that is reset, %d are open, closed: %v", n, c.conn.Streams(), c.handler.closed)
	}
	expect(t, c.replies(), "RST_STREAM 1 CANCEL")

	// Without a header, a response can't end.
	out, n = c.request(3).Send(nil, [][]byte{[]byte("x")})
	if n != 0 || len(out) != 0 {
		t.Errorf("sent %d bytes before the header", n)
	}
	c.input.Write(c.handler.streams[3].End(nil))
	expect(t, c.describe(), "RST_STREAM 3 INTERNAL_ERROR")
}

// TestClosedByClient checks what Closed gets.
func TestClosedByClient(t *testing.T) {
	c := connect(t, http2conn.Config{})
	for id := uint32(1); id <= 7; id += 2 {
		c.request(id)
	}
	c.WriteRSTStream(1, http2.ErrCodeCancel)
	c.WriteData(3, false, []byte("x"))
	c.flush()
	for id, code := range map[uint32]http2.ErrCode{1: http2.ErrCodeCancel, 3: http2.ErrCodeStreamClosed} {
		var err http2.StreamError
		if !errors.As(c.handler.closed[id], &err) || err.Code != code || err.StreamID != id {
			t.Errorf("stream %d was closed with %v, want %s", id, c.handler.closed[id], code)
		}
	}
	if c.conn.Streams() != 2 {
		t.Errorf("%d streams are open, want 2", c.conn.Streams())
	}

	c.conn.Close(errTest)
	c.conn.Close(errors.New("again"))
	if c.conn.Streams() != 0 || !errors.Is(c.handler.closed[5], errTest) || !errors.Is(c.handler.closed[7], errTest) {
		t.Errorf("%d streams are open; closed: %v", c.conn.Streams(), c.handler.closed)
	}
	expect(t, c.replies(), "RST_STREAM 3 STREAM_CLOSED", "GOAWAY 7 NO_ERROR")
	c.ping("x")
	if c.flush(); !errors.Is(c.err, errTest) {
		t.Errorf("Receive returned %v", c.err)
	}
}

// TestGoAway checks that open streams continue, and so do those that the client
// opens before it has seen GOAWAY. Later ones are refused.
func TestGoAway(t *testing.T) {
	c := connect(t, http2conn.Config{})
	c.handler.answer = true
	st := c.request(1)
	c.replies()
	c.conn.GoAway()
	c.conn.GoAway()
	if c.conn.Draining() {
		t.Error("the connection is draining before the client knows")
	}
	c.headers(3, true, get()...)
	c.WritePing(true, [8]byte{})
	c.headers(5, true, get()...)
	c.flush()
	expect(t, c.replies(), "GOAWAY 2147483647 NO_ERROR", "PING", "HEADERS 3 200", "GOAWAY 3 NO_ERROR", "RST_STREAM 5 REFUSED_STREAM")
	if !c.conn.Draining() || c.conn.Streams() != 2 {
		t.Error("the connection isn't draining")
	}
	out, _ := st.Send(nil, [][]byte{[]byte("x")})
	c.input.Write(st.End(out))
	expect(t, c.describe(), `DATA 1 "x"`, `DATA 1 "" end`)
	if c.conn.Streams() != 1 {
		t.Error("the stream is open")
	}
}

// TestPing checks that one PING at a time is sent.
func TestPing(t *testing.T) {
	c := connect(t, http2conn.Config{})
	c.conn.Ping()
	c.conn.Ping()
	expect(t, c.replies(), "PING")
	if !c.conn.Pinging() {
		t.Error("the connection doesn't wait for an answer")
	}
	c.WritePing(true, [8]byte{})
	c.flush()
	if c.conn.Pinging() || c.conn.HasOutput() {
		t.Error("the connection waits for an answer")
	}
}
