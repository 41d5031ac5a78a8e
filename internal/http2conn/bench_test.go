package http2conn_test

import (
	"net/http"
	"runtime"
	"testing"

	"golang.org/x/net/http2"

	"github.com/peald/peald/internal/http2conn"
)

// chrome returns the header that Chrome 140 sends for an EventSource.
func chrome() []string {
	return []string{
		":method", "GET",
		":authority", "events.example.com",
		":scheme", "https",
		":path", "/events?topics=orders.created,orders.paid",
		"sec-ch-ua-platform", `"Windows"`,
		"cache-control", "no-cache",
		"sec-ch-ua", `"Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140"`,
		"user-agent", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
		"accept", "text/event-stream",
		"sec-ch-ua-mobile", "?0",
		"origin", "https://www.example.com",
		"sec-fetch-site", "same-site",
		"sec-fetch-mode", "cors",
		"sec-fetch-dest", "empty",
		"referer", "https://www.example.com/orders",
		"accept-encoding", "gzip, deflate, br, zstd",
		"accept-language", "en-US,en;q=0.9,de;q=0.8",
		"cookie", "session=eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSJ9.DdM4LZ1cJh3mWfBzJ8pGqg",
		"priority", "u=1, i",
	}
}

// opening writes what Chrome sends on a new connection up to its first request.
func (c *client) opening() {
	c.preface()
	c.WriteSettings(
		http2.Setting{ID: http2.SettingHeaderTableSize, Val: 65536},
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: 6291456},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 262144})
	c.WriteWindowUpdate(0, 15663105)
	c.headers(1, true, chrome()...)
	c.WriteSettingsAck()
}

// discard is a handler that answers requests and keeps nothing but one stream.
type discard struct {
	codec  *http2conn.Codec
	stream *http2conn.Stream
}

func (d *discard) Request(st *http2conn.Stream, _ *http.Request) {
	st.SendHeaders(d.codec, http.StatusOK, http.Header{"Content-Type": {"text/event-stream"}, "Cache-Control": {"no-store, no-transform"}}, false)
	d.stream = st
}

func (*discard) Data(*http2conn.Stream, []byte, bool) {}
func (*discard) Writable(*http2conn.Stream)           {}
func (*discard) Closed(*http2conn.Stream, error)      {}

// BenchmarkConnect opens a connection with one request, and answers that.
func BenchmarkConnect(b *testing.B) {
	script := newClient(b, http2conn.Config{})
	script.opening()
	sent := script.sent.Bytes()
	server := http2conn.NewServer(http2conn.Config{})
	d := &discard{codec: http2conn.NewCodec()}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		c := server.NewConn(d)
		if err := c.Receive(d.codec, sent); err != nil {
			b.Fatal(err)
		}
		out = c.AppendOutput(out[:0])
	}
}

// BenchmarkReceive receives a further request on a connection, and resets its stream.
func BenchmarkReceive(b *testing.B) {
	c := connect(b, http2conn.Config{})
	c.conn.Trust()
	c.headers(1, true, chrome()...)
	c.flush()
	c.headers(1, true, chrome()...) // now by references to the table
	frame := c.sent.Bytes()
	id := uint32(1)
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		id += 2
		frame[5], frame[6], frame[7], frame[8] = byte(id>>24), byte(id>>16), byte(id>>8), byte(id)
		if err := c.conn.Receive(c.codec, frame); err != nil {
			b.Fatal(err)
		}
		c.handler.streams[id].Reset(http2.ErrCodeCancel)
		delete(c.handler.streams, id)
		c.handler.requests = c.handler.requests[:0]
		out = c.conn.AppendOutput(out[:0])
	}
}

// BenchmarkSend sends an event on one of ten streams.
func BenchmarkSend(b *testing.B) {
	for name, size := range map[string]int{"100B": 100, "16KB": 16 << 10} {
		b.Run(name, func(b *testing.B) {
			c := connect(b, http2conn.Config{})
			c.handler.answer = true
			for id := uint32(1); id < 20; id += 2 {
				c.request(id)
			}
			st := c.handler.streams[11]
			update := func() {
				c.WriteWindowUpdate(0, 1<<30)
				c.WriteWindowUpdate(11, 1<<30)
				c.flush()
			}
			update()
			pieces := [][]byte{pattern(size)}
			out := c.conn.AppendOutput(nil)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				var n int
				if out, n = st.Send(out[:0], pieces); n != size {
					update()
				}
			}
		})
	}
}

// BenchmarkWindowUpdate sends a byte, and receives WINDOW_UPDATE for the stream and the
// connection.
func BenchmarkWindowUpdate(b *testing.B) {
	c := connect(b, http2conn.Config{})
	st := c.request(1)
	st.SendHeaders(c.codec, http.StatusOK, nil, false)
	c.WriteWindowUpdate(0, 1)
	c.WriteWindowUpdate(1, 1)
	pieces := [][]byte{{'x'}}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out, _ = st.Send(out[:0], pieces)
		if err := c.conn.Receive(c.codec, c.sent.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}

// memoryPerConn returns the heap bytes of an idle connection with the given number
// of streams, all with the header that Chrome sends.
func memoryPerConn(tb testing.TB, streams int) int {
	tb.Helper()

	// All clients send the same.
	script := newClient(tb, http2conn.Config{})
	script.opening()
	for id := uint32(3); id < 2*uint32(streams); id += 2 {
		script.headers(id, true, chrome()...)
	}

	const n = 1000
	server := http2conn.NewServer(http2conn.Config{})
	codec := http2conn.NewCodec()
	conns := make([]*http2conn.Conn, n)
	out := make([]byte, 0, 16<<10)
	handler := &discard{codec: codec}
	before := heap()
	for i := range conns {
		conns[i] = server.NewConn(handler)
		if err := conns[i].Receive(codec, script.sent.Bytes()); err != nil {
			tb.Fatal(err)
		}
		out = conns[i].AppendOutput(out[:0])
		if conns[i].Streams() != streams {
			tb.Fatalf("%d streams, want %d", conns[i].Streams(), streams)
		}
	}
	used := heap() - before
	runtime.KeepAlive(conns)

	return int(used) / n
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)

	return m.HeapAlloc
}

// TestMemory checks the memory of idle connections.
func TestMemory(t *testing.T) {
	for streams, limit := range map[int]int{1: 1500, 10: 2200} {
		if got := memoryPerConn(t, streams); got > limit {
			t.Errorf("an idle connection with %d streams takes %d bytes, want at most %d", streams, got, limit)
		} else {
			t.Logf("an idle connection with %d streams takes %d bytes", streams, got)
		}
	}
}
