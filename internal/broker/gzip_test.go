package broker_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/peald/peald/internal/broker"
)

// randomText returns n bytes of letters, which hardly get smaller by
// compression.
func randomText(n int) string {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	text := make([]byte, n)
	for i := range text {
		text[i] = byte('0' + random.IntN(75))
	}
	return string(text)
}

// afterRetry returns the text that a client got after the reconnection time,
// which is random.
func afterRetry(c *client) string {
	_, text, _ := strings.Cut(c.text(), "\n")
	return text
}

// TestGzipStreams compares the bodies of streams with gzip with that of a bare
// stream, for events that are stored and for compressed ones.
func TestGzipStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		cfg.QueueBytes = 16 << 20
		b := broker.New(cfg)
		defer b.Close()

		bare := connect(t, b, broker.Subscription{User: "alice"}, -1)
		others := map[string]*client{}
		for name, form := range forms() {
			others[name] = connectAs(t, b, broker.Subscription{User: "alice"}, -1, form)
			others["slow "+name] = connectAs(t, b, broker.Subscription{User: "alice"}, 0, form)
		}

		for _, size := range []int{1, 300, 370, 400, 4 << 10, 32 << 10, 1<<16 - 100, 1 << 16, 200_000, broker.MaxData} {
			publish(t, b, toAll(strings.Repeat("x", size)))
			publish(t, b, toAll(randomText(size)))
			publish(t, b, toUser("alice", strings.Repeat("a\n", size/4)+"b"))
		}

		for range 400 { // connections that accept little at a time
			for _, c := range others {
				c.drain(3001)
			}
			synctest.Wait()
		}
		for _, c := range others {
			c.drain(-1)
		}
		time.Sleep(16 * time.Second) // one heartbeat; the first is due within 15 s
		synctest.Wait()

		want := afterRetry(bare)
		for name, c := range others {
			if got := afterRetry(c); got != want {
				t.Errorf("%s: a body of %d bytes, of a bare stream %d; want the same text", name, len(got), len(want))
			}
		}
	})
}

// TestEventsAreCompressedOnce checks that all streams share an event's bytes, on
// all shards, and also after a replay.
func TestEventsAreCompressedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
		defer b.Close()
		first := publish(t, b, toAll("first"))

		open := func(id string) *lastPiece {
			sink := new(lastPiece)
			if err := b.NewStream(broker.Subscription{LastEventID: id}).Start(sink, broker.Opening{Gzip: true}); err != nil {
				t.Fatal(err)
			}
			return sink
		}

		var sinks []*lastPiece
		for range 9 {
			sinks = append(sinks, open(""))
		}
		synctest.Wait()
		const size = 2000
		publish(t, b, toAll(strings.Repeat("x", size)))
		synctest.Wait()
		sinks = append(sinks, open(first.ID))
		synctest.Wait()

		for _, sink := range sinks {
			if len(sink.piece) > size/2 || unsafe.SliceData(sink.piece) != unsafe.SliceData(sinks[0].piece) {
				t.Errorf("a stream got a piece of %d bytes at %p, the first one %d bytes at %p; want the same, compressed",
					len(sink.piece), sink.piece, len(sinks[0].piece), sinks[0].piece)
			}
		}
	})
}

// lastPiece is a sink that keeps the last piece.
type lastPiece struct{ piece []byte }

func (s *lastPiece) Write(pieces [][]byte) (n int, _ error) {
	for _, p := range pieces {
		n += len(p)
		s.piece = p
	}
	return n, nil
}

func (*lastPiece) Close(broker.Reason) {}

// TestGzipEventsAreReadAtOnce reads a stream with a decoder that keeps what it
// has decompressed until it sees an empty block. Each event must be readable
// before the next one arrives.
func TestGzipEventsAreReadAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
		defer b.Close()

		r, w := io.Pipe()
		if err := b.NewStream(broker.Subscription{}).Start(pipeSink{w}, broker.Opening{Gzip: true}); err != nil {
			t.Fatal(err)
		}
		blocks := make(chan string, 1)
		go func() {
			defer close(blocks)
			body, err := gzip.NewReader(r)
			if err != nil {
				t.Error(err)
				return
			}
			for lines := bufio.NewReader(body); ; {
				block, err := readBlock(lines)
				if err != nil {
					return
				}
				blocks <- block
			}
		}()

		next := func(want string) {
			t.Helper()
			synctest.Wait()
			select {
			case block := <-blocks:
				if !strings.Contains(block, want) {
					t.Errorf("got %.200q, want %.200q", block, want)
				}
			default:
				t.Fatalf("an event of %d bytes is delayed", len(want))
			}
		}
		next("peald.mark")
		for _, size := range []int{1, 100, 399, 400, 5000, 70_000, 1, 1 << 20} {
			text := randomText(size)
			publish(t, b, toAll(text))
			next(text)
		}
		b.Close()
		if block := <-blocks; !strings.HasPrefix(block, "retry:") {
			t.Errorf("last block %q, want a reconnection time", block)
		}
		_ = r.Close()
	})
}

func readBlock(r *bufio.Reader) (string, error) {
	var block strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil || line == "\n" {
			return block.String(), err
		}
		block.WriteString(line)
	}
}

// pipeSink writes to a pipe whose other end is always read.
type pipeSink struct{ w *io.PipeWriter }

func (s pipeSink) Write(pieces [][]byte) (n int, err error) {
	for _, p := range pieces {
		m, err := s.w.Write(p)
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (s pipeSink) Close(broker.Reason) { _ = s.w.Close() }

// TestHistoryCountsCompressedCopies checks that the history counts what its
// compressed copies use, within its limit, and nothing once it is empty.
func TestHistoryCountsCompressedCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		cfg.History.MaxBytes = 100_000
		cfg.History.MaxAge = time.Minute
		b := broker.New(cfg)
		defer b.Close()

		publish(t, b, toAll(randomText(1000)))
		synctest.Wait()
		bare := b.Stats().LogBytes

		connectAs(t, b, broker.Subscription{}, -1, broker.Opening{Gzip: true})
		publish(t, b, toAll(randomText(1000)))
		synctest.Wait()
		if both := b.Stats().LogBytes - bare; both < bare+500 || both > 2*bare {
			t.Errorf("an event with a compressed copy uses %d bytes, one without %d", both, bare)
		}

		for range 200 {
			publish(t, b, toAll(randomText(1000)))
			synctest.Wait()
			if n := b.Stats().LogBytes; n > cfg.History.MaxBytes {
				t.Fatalf("the history uses %d bytes, want at most %d", n, cfg.History.MaxBytes)
			}
		}

		time.Sleep(2 * time.Minute)
		if st := b.Stats(); st.LogEvents != 0 || st.LogBytes > 400 /* of an empty lane */ {
			t.Errorf("%d events, %d bytes in the history after they expired", st.LogEvents, st.LogBytes)
		}
	})
}

// TestSlowGzipConsumers fills the queues of streams with gzip. A gap must be
// reported with each policy that drops events, and the body stays valid.
func TestSlowGzipConsumers(t *testing.T) {
	for _, policy := range []broker.SlowPolicy{broker.DropOldest, broker.Conflate} {
		t.Run(string(policy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := withHistory()
				cfg.QueueBytes = 5000
				cfg.SlowConsumer = policy
				b := broker.New(cfg)
				defer b.Close()

				c := connectAs(t, b, broker.Subscription{}, 100, broker.Opening{Chunked: true, Gzip: true})
				for i := range 40 {
					m := toAll(fmt.Sprintf("%02d", i) + randomText(1000))
					m.ConflateKey = fmt.Sprint(i % 3)
					publish(t, b, m)
				}
				synctest.Wait()
				if n := b.Stats().Total.QueuedBytes; n <= 1000 || n > 6000 {
					t.Errorf("%d bytes are queued, want about %d", n, cfg.QueueBytes)
				}

				c.drain(-1)
				synctest.Wait()
				b.Close()
				if _, err := c.body(); !errors.Is(err, errBodyEnd) {
					t.Errorf("reading the body: %v, want its end", err)
				}
				events := c.events()
				last := events[len(events)-1]
				reset := slices.ContainsFunc(events, func(e received) bool { return e.typ == "peald.reset" })
				if !strings.HasPrefix(last.data, "39") || reset != (policy == broker.DropOldest) {
					t.Errorf("the last event is %.10q; there is a reset: %t", last.data, reset)
				}
				if n := b.Stats().Total.QueuedBytes; n != 0 {
					t.Errorf("%d bytes are queued on closed streams", n)
				}
			})
		})
	}
}

// FuzzGzip checks that any sequence of events is the same in a gzip body, over a
// connection that accepts few bytes at a time.
func FuzzGzip(f *testing.F) {
	f.Add([]byte("hello"), uint16(1), uint8(10))
	f.Add(bytes.Repeat([]byte("abc\n"), 300), uint16(7), uint8(200))
	f.Add([]byte(randomText(70_000)), uint16(65_535), uint8(255))
	f.Fuzz(func(t *testing.T, data []byte, size uint16, room uint8) {
		data = bytes.ToValidUTF8(data, nil)
		if len(data)/(int(size)+1) > 100 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			b := broker.New(config())
			defer b.Close()
			bare := connect(t, b, broker.Subscription{}, -1)
			zipped := connectAs(t, b, broker.Subscription{}, int(room), broker.Opening{Gzip: true})
			for len(data) > 0 {
				n := min(len(data), int(size)+1)
				for n < len(data) && !utf8.RuneStart(data[n]) {
					n++
				}
				publish(t, b, toAll(string(data[:n])))
				data = data[n:]
			}
			synctest.Wait()
			zipped.drain(int(room))
			synctest.Wait()
			zipped.drain(-1)
			synctest.Wait()
			if err := b.Drain(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()

			if _, err := zipped.body(); !errors.Is(err, errBodyEnd) {
				t.Errorf("reading the body: %v, want its end", err)
			}
			if got, want := zipped.data(), bare.data(); !slices.Equal(got, want) {
				t.Errorf("got %.200q, want %.200q", got, want)
			}
		})
	})
}
