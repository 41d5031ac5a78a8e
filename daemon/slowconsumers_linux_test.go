package daemon_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// TestSlowConsumers stops reading a stream until its queue is full. With HTTP/2,
// either the stream's window is closed, and other streams go on, or the whole
// connection is blocked.
func TestSlowConsumers(t *testing.T) {
	for _, policy := range []string{daemon.SlowDisconnect, daemon.SlowDropOldest, daemon.SlowConflate} {
		change := func(cfg *daemon.Config) {
			cfg.Broker.SlowConsumer = policy
			cfg.Broker.QueueBytes = 256 << 10
			cfg.SSE.Heartbeat = time.Minute // doesn't take part in the test
		}
		t.Run(policy, func(t *testing.T) {
			onEachTransport(t, change, func(t *testing.T, d reachable) { testSlowConsumer(t, d, policy, false) })
			t.Run("window", func(t *testing.T) { testSlowConsumer(t, startVia(t, transports()[2], change), policy, true) })
		})
	}
}

func testSlowConsumer(t *testing.T, d reachable, policy string, window bool) {
	t.Helper()
	slow, fast := d.browser(t), d.browser(t)
	if window {
		slow.limitWindow()
		fast = slow
	} else {
		slow.dialer.Control = limitSegments
	}
	stuck := stream(t, &slow.Client, d.url)
	lines := stream(t, &fast.Client, d.url)
	resume := func() {}
	if !window {
		resume = slow.pause(t)
	}

	published := publishUntil(t, d, lines, func(closed, dropped int) bool {
		return closed == 1 || policy != daemon.SlowDisconnect && dropped > 10
	})
	if n := slow.dialed.Load(); d.http2 && n != 1 {
		t.Errorf("%d connections, want 1", n)
	}

	resume()
	got, resets := readNumbers(stuck)
	isComplete := len(got) > 0 && got[len(got)-1] == published
	switch {
	case policy == daemon.SlowDisconnect && (isComplete || resets > 0):
		t.Errorf("the closed stream got the events %v and %d resets", got, resets)
	case policy == daemon.SlowDropOldest && (!isComplete || resets == 0):
		t.Errorf("got the events %v and %d resets, want the last of %d and a reset", got, resets, published)
	case policy == daemon.SlowConflate && (!isComplete || resets > 0 || len(got) >= published):
		t.Errorf("got the events %v and %d resets, want some of %d with the last", got, resets, published)
	}
}

// limitSegments gives a connection segments as on an Ethernet. With those of the
// loopback interface, which have 64 KiB, the kernel buffers megabytes.
func limitSegments(_, _ string, raw syscall.RawConn) error {
	const size = 1400
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, size)
	})
	return errors.Join(err, failed)
}

// publishUntil publishes numbered events until slow consumers have lost as many
// streams and events as wanted, and then the event "end". It returns the last
// number. The stream must receive each event.
func publishUntil(t *testing.T, d reachable, lines *bufio.Reader, good func(closed, dropped int) bool) (last int) {
	t.Helper()
	const most, reason = 1000, "slow_consumer"
	rpc, _ := controlClient(t, d.GRPC)
	padding := strings.Repeat("x", 64<<10)
	publish := func(data string) {
		t.Helper()
		if _, err := rpc.Broadcast(t.Context(), &pealv1.BroadcastRequest{Data: data, ConflateKey: "number"}); err != nil {
			t.Fatal(err)
		}
		awaitLine(t, lines, "data: "+data)
	}
	for n := 1; n < most; n++ {
		publish(fmt.Sprint(n, " ", padding))
		stats, err := rpc.Stats(t.Context(), &pealv1.StatsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if total := stats.GetTotal(); good(int(total.GetDisconnected()[reason]), int(total.GetDropped()[reason])) {
			publish("end")
			return n
		}
	}
	t.Fatalf("no stream is slow after %d events", most)
	return 0
}

// readNumbers reads numbered events up to the event "end", or the end of the
// stream. It returns the numbers, and counts resets.
func readNumbers(r io.Reader) (numbers []int, resets int) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() && lines.Text() != "data: end" {
		var n int
		if lines.Text() == "event: peald.reset" {
			resets++
		} else if _, err := fmt.Sscanf(lines.Text(), "data: %d ", &n); err == nil {
			numbers = append(numbers, n)
		}
	}
	return numbers, resets
}
