package broker

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// discard is a sink that accepts everything and counts the bytes.
type discard struct{ bytes atomic.Int64 }

func (d *discard) Write(pieces [][]byte) (n int, _ error) {
	for _, p := range pieces {
		n += len(p)
	}
	d.bytes.Add(int64(n))
	return n, nil
}

func (*discard) Close(Reason) {}

// TestEnvelopesOfRetainedValuesAreBounded checks that envelopes of retained values that the
// history no longer holds are limited, that streams get all of them anyway, and that
// nothing is counted for values that are replaced or cleared.
func TestEnvelopesOfRetainedValuesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const values, size = 10, 2000
		b := New(Config{
			Shards: 2, QueueBytes: 1 << 20, SlowConsumer: Disconnect, Heartbeat: time.Minute, Retry: time.Second, WriteTimeout: time.Minute,
			History: History{MaxEvents: 1, MaxBytes: 1 << 20}, Retain: Retain{MaxEvents: values, MaxBytes: values * (size + 1000)},
		})
		defer b.Close()
		retain := func(i int, data string) {
			t.Helper()
			m := Message{Audience: Everyone(), ConflateKey: fmt.Sprint(i), Data: data, Retain: true}
			if _, err := b.Publish(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		}
		open := func(o Opening) int64 {
			t.Helper()
			sink := new(discard)
			st := b.NewStream(Subscription{})
			if err := st.Start(sink, o); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			st.HangUp()
			synctest.Wait()
			return sink.bytes.Load()
		}
		copies := func() (kept int, bytes int) {
			b.mu.Lock()
			defer b.mu.Unlock()
			for _, v := range b.retained.byKey {
				if v.event.envelope.Load() != nil {
					kept++
				}
			}
			return kept, b.retained.copies
		}

		for i := range values {
			retain(i, strings.Repeat("\x01", size)) // becomes six times as large
		}
		for range 2 {
			if got := open(Opening{Envelope: true}); got < 6*values*size {
				t.Errorf("a stream got %d bytes, want all envelopes", got)
			}
			if kept, bytes := copies(); kept != 2 || bytes < 2*6*size || bytes > values*(size+1000) {
				t.Errorf("%d envelopes are kept, with %d bytes", kept, bytes)
			}
		}
		open(Opening{Envelope: true, Gzip: true})
		if kept, bytes := copies(); kept != 2 || bytes > values*(size+1000) {
			t.Errorf("%d envelopes are kept and compressed, with %d bytes", kept, bytes)
		}

		for i := range values {
			retain(i, "short")
		}
		open(Opening{Envelope: true})
		if kept, bytes := copies(); kept != values || bytes > values*500 {
			t.Errorf("%d short envelopes are kept, with %d bytes", kept, bytes)
		}
		if _, err := b.ClearRetained(t.Context(), Clear{Audience: Everyone()}); err != nil {
			t.Fatal(err)
		}
		if _, bytes := copies(); bytes != 0 {
			t.Errorf("%d bytes are counted without values", bytes)
		}
	})
}

// BenchmarkEnvelopeFrame encodes an envelope, as a shard does once per event.
func BenchmarkEnvelopeFrame(b *testing.B) {
	for _, n := range []int{100, 2000, 16_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := Message{Audience: ToTopic("orders.7"), Data: strings.Repeat(`{"order":123456,"status":"shipped"},`, n/36+1)[:n]}
			ids := newIDFormat("k3f9")
			e := &event{audience: m.Audience, at: time.Now().UnixNano()}
			e.frame, _ = seal(encodeFields(&m, ids.room), ids.room, ids.epoch, 1042)
			s := new(shard)
			b.ReportAllocs()
			for b.Loop() {
				s.envelopeFrame(e, nil)
			}
		})
	}
}
