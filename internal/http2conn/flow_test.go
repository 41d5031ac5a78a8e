package http2conn_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"golang.org/x/net/http2"
	"pgregory.net/rapid"

	"github.com/peald/peald/internal/http2conn"
)

// sender sends on several streams, and knows the windows that its client granted.
type sender struct {
	*client
	t *rapid.T

	conn    int64 // window of the connection
	initial int64 // of new streams
	streams []*sentStream
}

type sentStream struct {
	*http2conn.Stream
	window  int64
	pending [][]byte // to be sent
	want    []byte   // everything that was or will be sent
	got     []byte
}

// pump sends what it can.
func (s *sender) pump(st *sentStream) {
	out, n := st.Send(nil, st.pending)
	s.input.Write(out)
	for n > 0 && n >= len(st.pending[0]) {
		n -= len(st.pending[0])
		st.pending = st.pending[1:]
	}
	if n > 0 {
		st.pending[0] = st.pending[0][n:]
	}
}

// receive checks that the frames in the output fit into the windows.
func (s *sender) receive() {
	s.input.Write(s.client.conn.AppendOutput(nil))
	for s.input.Len() > 0 {
		f, err := s.ReadFrame()
		if err != nil {
			s.t.Fatal(err)
		}
		data, ok := f.(*http2.DataFrame)
		if !ok {
			continue
		}
		st := s.streams[slices.IndexFunc(s.streams, func(st *sentStream) bool { return st.ID() == data.StreamID })]
		n := int64(data.Length)
		if n == 0 || n > st.window || n > s.conn || n > 1<<14 {
			s.t.Fatalf("DATA of %d bytes exceeds the window, %d, or that of the connection, %d", n, st.window, s.conn)
		}
		st.window -= n
		s.conn -= n
		st.got = append(st.got, data.Data()...)
	}
	for _, st := range s.streams {
		waiting := len(st.want) > len(st.got)
		if !bytes.HasPrefix(st.want, st.got) {
			s.t.Fatalf("stream %d has the wrong bytes", st.ID())
		}
		if waiting && (st.window > 0 && s.conn > 0 || !st.Blocked()) {
			s.t.Fatalf("stream %d isn't sent, with a window of %d, and %d for the connection", st.ID(), st.window, s.conn)
		}
		if int64(st.Window()) != min(st.window, s.conn) {
			s.t.Fatalf("the window is %d, want %d and %d", st.Window(), st.window, s.conn)
		}
	}
}

// step sends frames to the connection and reads its output.
func (s *sender) step() {
	s.flush()
	if s.err != nil {
		s.t.Fatal(s.err)
	}
	s.receive()
}

// TestSendWindows changes windows at random. What is sent never exceeds them, and
// everything arrives in order in the end.
func TestSendWindows(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := &sender{client: connect(t, http2conn.Config{}), t: rt, conn: 1<<16 - 1, initial: 1<<16 - 1}
		s.handler.answer = true
		s.handler.onWritable = func(st *http2conn.Stream) { s.pump(st.Value.(*sentStream)) }
		open := func(*rapid.T) {
			if len(s.streams) >= 10 {
				return
			}
			st := &sentStream{Stream: s.request(uint32(2*len(s.streams) + 1)), window: s.initial}
			st.Value = st
			s.streams = append(s.streams, st)
			s.step()
		}
		stream := func(t *rapid.T) *sentStream { return rapid.SampledFrom(s.streams).Draw(t, "stream") }
		open(rt)

		rt.Repeat(map[string]func(*rapid.T){
			"open": open,
			"send": func(t *rapid.T) {
				st := stream(t)
				for range rapid.IntRange(1, 3).Draw(t, "pieces") {
					piece := pattern(rapid.SampledFrom([]int{0, 1, 100, 16384, 40000}).Draw(t, "size"))
					st.pending = append(st.pending, piece)
					st.want = append(st.want, piece...)
				}
				s.pump(st)
				s.step()
			},
			"settings": func(t *rapid.T) {
				size := rapid.SampledFrom([]int64{0, 1, 5, 1000, 65535, 100_000}).Draw(t, "size")
				for _, st := range s.streams {
					st.window += size - s.initial
				}
				s.initial = size
				s.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(size)})
				s.step()
			},
			"update stream": func(t *rapid.T) { s.update(stream(t), rapid.Int64Range(1, 50_000).Draw(t, "increment")) },
			"update":        func(t *rapid.T) { s.update(nil, rapid.Int64Range(1, 50_000).Draw(t, "increment")) },
		})

		s.update(nil, 1<<30)
		for _, st := range s.streams {
			s.update(st, 1<<30)
			if !bytes.Equal(st.got, st.want) {
				rt.Fatalf("stream %d got %d bytes, want %d", st.ID(), len(st.got), len(st.want))
			}
		}
	})
}

// update sends WINDOW_UPDATE for a stream, or for the connection if st is nil.
func (s *sender) update(st *sentStream, n int64) {
	if st == nil {
		s.conn += n
		s.WriteWindowUpdate(0, uint32(n))
	} else {
		st.window += n
		s.WriteWindowUpdate(st.ID(), uint32(n))
	}
	s.step()
}

// TestReceiveWindows sends bodies of which a part is consumed at random. A client
// that respects the windows never fails, and it can always go on once everything
// is consumed.
func TestReceiveWindows(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := connect(t, http2conn.Config{})
		c.conn.Trust()
		window := map[uint32]int{0: 1<<16 - 1}
		held := map[uint32]int{} // bytes that aren't consumed
		open := []uint32{}
		next := uint32(1)

		step := func() {
			c.flush()
			if c.err != nil {
				rt.Fatal(c.err)
			}
			for _, frame := range c.replies() {
				var id uint32
				var n int
				if _, err := fmt.Sscanf(frame, "WINDOW_UPDATE %d %d", &id, &n); err == nil {
					window[id] += n
				} else if _, err := fmt.Sscanf(frame, "RST_STREAM %d", &id); err != nil {
					rt.Fatalf("unexpected %s", frame)
				}
				if window[id] > 1<<16-1 {
					rt.Fatalf("the window of stream %d is %d", id, window[id])
				}
			}
		}
		consume := func(id uint32, n int) {
			held[id] -= n
			c.handler.streams[id].Consumed(n)
			step()
		}

		rt.Repeat(map[string]func(*rapid.T){
			"open": func(*rapid.T) {
				c.headers(next, false, post()...)
				open, window[next] = append(open, next), 1<<16-1
				next += 2
				step()
			},
			"send": func(t *rapid.T) {
				if len(open) == 0 {
					t.Skip("no stream")
				}
				id := rapid.SampledFrom(open).Draw(t, "stream")
				padding := rapid.IntRange(0, 50).Draw(t, "padding")
				n := rapid.IntRange(0, 16000).Draw(t, "size")
				if n+padding+1 > min(window[id], window[0]) {
					t.Skip("no window")
				}
				window[id] -= n + padding + 1
				window[0] -= n + padding + 1
				held[id] += n
				c.WriteDataPadded(id, false, make([]byte, n), make([]byte, padding))
				step()
			},
			"consume": func(t *rapid.T) {
				if len(open) == 0 {
					t.Skip("no stream")
				}
				id := rapid.SampledFrom(open).Draw(t, "stream")
				consume(id, rapid.IntRange(0, held[id]).Draw(t, "size"))
			},
			"reset": func(t *rapid.T) {
				if len(open) == 0 {
					t.Skip("no stream")
				}
				i := rapid.IntRange(0, len(open)-1).Draw(t, "stream")
				if rapid.Bool().Draw(t, "by the client") {
					c.WriteRSTStream(open[i], http2.ErrCodeCancel)
				} else {
					c.handler.streams[open[i]].Reset(http2.ErrCodeCancel)
				}
				open = slices.Delete(open, i, i+1)
				step()
			},
		})

		for _, id := range open {
			consume(id, held[id])
		}
		for _, id := range append(open, 0) {
			if window[id] < 1<<15 {
				rt.Fatalf("everything is consumed, and the window of stream %d is %d", id, window[id])
			}
		}
	})
}

// TestTurns checks that streams take turns when the connection's window opens bit
// by bit.
func TestTurns(t *testing.T) {
	c := connect(t, http2conn.Config{})
	c.handler.answer = true
	sent := map[uint32]int{}
	pieces := [][]byte{make([]byte, 100_000)}
	c.handler.onWritable = func(st *http2conn.Stream) {
		_, n := st.Send(nil, pieces)
		sent[st.ID()] += n
	}
	for id := uint32(1); id <= 9; id += 2 {
		c.WriteWindowUpdate(0, 1)
		st := c.request(id)
		c.WriteWindowUpdate(id, 1<<20)
		c.flush()
		st.Send(nil, pieces)
	}
	clear(sent)

	for range 100 {
		c.WriteWindowUpdate(0, 1000)
		c.flush()
	}
	for id := uint32(1); id <= 9; id += 2 {
		if sent[id] != 20_000 {
			t.Errorf("stream %d sent %d bytes, want 20000", id, sent[id])
		}
	}
}

// TestStreamWindowExceeded sends more than a stream's window, but not more than the
// connection's, which was enlarged because of another stream.
func TestStreamWindowExceeded(t *testing.T) {
	c := connect(t, http2conn.Config{})
	c.handler.consume = true
	c.headers(1, false, post()...)
	c.headers(3, false, post()...)
	for _, id := range []uint32{1, 3, 3} {
		c.WriteData(id, false, make([]byte, 16_000))
	}
	c.flush()
	expect(t, c.replies(), "WINDOW_UPDATE 0 48000")

	c.handler.consume = false
	for range 3 {
		c.WriteData(1, false, make([]byte, 16_000))
	}
	c.WriteData(1, false, make([]byte, 2000))
	c.flush()
	expect(t, c.replies(), "RST_STREAM 1 FLOW_CONTROL_ERROR", "WINDOW_UPDATE 0 50000")
}

// TestDiscard sends a body that nobody reads. The client can send what the stream's
// window allows, which is never opened again, and other streams aren't affected.
func TestDiscard(t *testing.T) {
	c := connect(t, http2conn.Config{})
	c.handler.answer, c.handler.consume = true, true
	c.headers(1, false, post()...)
	c.WriteData(1, false, make([]byte, 10_000)) // consumed, but too little to announce
	c.flush()
	c.replies()

	c.handler.streams[1].Discard()
	for range 5 {
		c.WriteDataPadded(1, false, make([]byte, 10_899), make([]byte, 100))
		c.flush()
	}
	expect(t, c.replies(), "WINDOW_UPDATE 0 32101", "WINDOW_UPDATE 0 32899")
	if got := len(c.handler.bodies[1]); got != 10_000 {
		t.Errorf("%d bytes of the body are passed on, want 10000", got)
	}

	c.headers(3, false, post()...)
	c.WriteData(3, true, make([]byte, 10_000))
	c.WriteData(1, false, make([]byte, 1000))
	c.flush()
	expect(t, c.replies(), "HEADERS 3 200", "RST_STREAM 1 FLOW_CONTROL_ERROR")
}

// TestDiscardHeld checks that discarding a body returns what was held to the
// connection's window, and that its end and length are still checked.
func TestDiscardHeld(t *testing.T) {
	c := connect(t, http2conn.Config{})
	c.handler.answer = true
	c.headers(1, false, post("content-length", "33000")...)
	for range 3 {
		c.WriteData(1, false, make([]byte, 11_000))
	}
	c.flush()
	c.replies()
	c.handler.streams[1].Discard()
	expect(t, c.replies(), "WINDOW_UPDATE 0 33000")
	c.handler.streams[1].Consumed(33_000)
	expect(t, c.replies())

	c.WriteData(1, true, []byte("x"))
	c.flush()
	expect(t, c.replies(), "RST_STREAM 1 PROTOCOL_ERROR")
}
