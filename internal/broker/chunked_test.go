package broker_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
)

// TestChunkedStreams compares what a stream sends in the chunked coding with
// what another of the same user sends without.
func TestChunkedStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := logged()
		cfg.QueueBytes = 16 << 20
		b := broker.New(cfg)
		defer b.Close()

		bare := connect(t, b, broker.Subscription{User: "alice"}, -1)
		chunked := connectChunked(t, b, broker.Subscription{User: "alice"}, -1)
		slow := connectChunked(t, b, broker.Subscription{User: "alice"}, 0)

		for _, size := range []int{1, 15, 16, 255, 4 << 10, broker.MaxData} {
			publish(t, b, toAll(strings.Repeat("x", size)))
			publish(t, b, toUser("alice", strings.Repeat("a\n", size/4)+"b"))
		}

		for range 3000 { // a connection that takes little at a time
			slow.drain(3001)
			synctest.Wait()
		}

		slow.drain(-1)
		time.Sleep(16 * time.Second) // for one heartbeat, of which the first comes within 15 s
		synctest.Wait()

		// What follows the reconnection time, which is each stream's own.
		after := func(c *client) string {
			_, text, _ := strings.Cut(c.text(), "\n")
			return text
		}

		if after(chunked) != after(bare) || after(slow) != after(bare) {
			t.Errorf("chunked streams carry %d and %d bytes, a bare one %d: want the same text",
				len(after(chunked)), len(after(slow)), len(after(bare)))
		}
	})
}

// TestEndOfBody closes streams for each reason that leaves the connection
// whole, and wants the end of the body after what was published before.
func TestEndOfBody(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, b *broker.Broker){
		"disconnected": func(t *testing.T, b *broker.Broker) {
			t.Helper()
			if _, err := b.Disconnect("alice", 0); err != nil {
				t.Fatal(err)
			}
		},
		"expired": func(*testing.T, *broker.Broker) { time.Sleep(time.Minute) },
		"drained": func(t *testing.T, b *broker.Broker) {
			t.Helper()
			if err := b.Drain(t.Context(), time.Second); err != nil {
				t.Fatal(err)
			}
		},
		"shutdown": func(_ *testing.T, b *broker.Broker) { b.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := broker.New(logged())
				defer b.Close()

				sub := broker.Subscription{User: "alice", Expires: time.Now().Add(30 * time.Second)}
				c := connectChunked(t, b, sub, -1)
				full := connectChunked(t, b, sub, 50)

				synctest.Wait()
				publish(t, b, toUser("alice", "last words"))
				end(t, b)
				synctest.Wait()

				if _, err := c.body(); !errors.Is(err, errBodyEnd) {
					t.Errorf("the body ends with %v, want its last chunk: %q", err, c.text())
				}

				if got := c.data(); len(got) != 1 || got[0] != "last words" {
					t.Errorf("the stream got %q, want what was published before its end", got)
				}

				if _, err := full.body(); errors.Is(err, errBodyEnd) {
					t.Error("the body of a full connection has an end after half a block")
				}
			})
		})
	}
}

// TestEndOfSlowStreams wants no end of the body where events are missing.
func TestEndOfSlowStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()

		c := connectChunked(t, b, broker.Subscription{}, 10)
		for range 3 {
			publish(t, b, toAll(strings.Repeat("x", broker.MaxData)))
		}

		synctest.Wait()

		if ended, why := c.end(); !ended || why != broker.SlowConsumer {
			t.Fatalf("ended %v because %v, want a slow consumer", ended, why)
		}

		if _, err := c.body(); errors.Is(err, errBodyEnd) {
			t.Error("the body has an end")
		}
	})
}
