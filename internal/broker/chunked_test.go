package broker_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
)

// TestChunkedStreams compares the body of a chunked stream with that of a bare
// stream for the same user.
func TestChunkedStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
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

		for range 3000 { // a connection that accepts little at a time
			slow.drain(3001)
			synctest.Wait()
		}

		slow.drain(-1)
		time.Sleep(16 * time.Second) // one heartbeat; the first is due within 15 s
		synctest.Wait()

		// after skips the reconnection time, which is random.
		after := func(c *client) string {
			_, text, _ := strings.Cut(c.text(), "\n")
			return text
		}

		if after(chunked) != after(bare) || after(slow) != after(bare) {
			t.Errorf("the bodies of chunked streams have %d and %d bytes, that of a bare stream has %d; want the same text",
				len(after(chunked)), len(after(slow)), len(after(bare)))
		}
	})
}

// TestGracefulEndOfBody closes streams for each reason that leaves the connection
// intact. The body must be complete, with everything that had been published by
// then.
func TestGracefulEndOfBody(t *testing.T) {
	for name, closeStreams := range map[string]func(t *testing.T, b *broker.Broker){
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
		for form, opening := range forms() {
			if form == "bare" {
				continue // its end looks like a broken connection
			}
			t.Run(name+", "+form, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testGracefulEnd(t, opening, closeStreams) })
			})
		}
	}
}

func testGracefulEnd(t *testing.T, form broker.Opening, closeStreams func(*testing.T, *broker.Broker)) {
	t.Helper()
	b := broker.New(withHistory())
	defer b.Close()

	sub := broker.Subscription{User: "alice", Expires: time.Now().Add(30 * time.Second)}
	c := connectAs(t, b, sub, -1, form)
	full := connectAs(t, b, sub, 50, form)

	synctest.Wait()
	publish(t, b, toUser("alice", "last message"))
	closeStreams(t, b)
	synctest.Wait()

	if _, err := c.body(); !errors.Is(err, errBodyEnd) {
		t.Errorf("reading the body: %v, want its end: %q", err, c.text())
	}

	if got := c.data(); len(got) != 1 || got[0] != "last message" {
		t.Errorf("the stream got %q, want the last message", got)
	}

	if _, err := full.body(); errors.Is(err, errBodyEnd) {
		t.Error("the body of a full connection is complete after half a block")
	}
}

// TestSlowConsumerHasNoEndOfBody checks that a body with missing events isn't
// completed.
func TestSlowConsumerHasNoEndOfBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()

		c := connectChunked(t, b, broker.Subscription{}, 10)
		zipped := connectAs(t, b, broker.Subscription{}, 10, broker.Opening{Chunked: true, Gzip: true})
		for range 3 {
			publish(t, b, toAll(randomText(broker.MaxData)))
		}

		synctest.Wait()

		for _, c := range []*client{c, zipped} {
			if closed, why := c.closed(); !closed || why != broker.SlowConsumer {
				t.Fatalf("closed %v, reason %v, want a slow consumer", closed, why)
			}

			if _, err := c.body(); errors.Is(err, errBodyEnd) {
				t.Error("the body is complete")
			}
		}
	})
}
