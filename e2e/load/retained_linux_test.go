package load_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/eventstream"
	"github.com/peald/peald/internal/pealdtest"
)

// startWithValues starts a daemon with retained values of the given size, in bytes, for
// topics with names from room.0.news.
func startWithValues(tb testing.TB, topics, size int) (*pealdtest.Daemon, pealv1.ControlServiceClient) {
	tb.Helper()

	d := pealdtest.Start(tb, func(cfg *daemon.Config) { cfg.Auth.AnonymousTopics = []string{"room.>"} })
	control := d.Control(tb)
	publishEach(tb, control, topics, func(i int) *pealv1.PublishStreamRequest {
		return &pealv1.PublishStreamRequest{
			Audience: &pealv1.PublishStreamRequest_Topic{Topic: topicName(i)}, Data: strings.Repeat("x", size), Retain: true,
		}
	})

	return d, control
}

// publishEach publishes n messages on one stream, and returns once all are acknowledged.
func publishEach(tb testing.TB, control pealv1.ControlServiceClient, n int, message func(i int) *pealv1.PublishStreamRequest) {
	tb.Helper()

	stream, err := control.PublishStream(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}

	sent := make(chan error, 1)

	go func() {
		for i := range n {
			if err := stream.Send(message(i)); err != nil {
				break // Recv returns the reason
			}
		}

		sent <- stream.CloseSend()
	}()

	for acknowledged := 0; acknowledged < n; {
		reply, err := stream.Recv()
		if err != nil {
			tb.Fatal(err)
		}

		for _, ack := range reply.GetAcks() {
			if ack.GetError() != nil {
				tb.Fatalf("rejected: %v", ack.GetError())
			}

			acknowledged++
		}
	}

	if err := <-sent; err != nil {
		tb.Fatal(err)
	}
}

// openAnonymous opens an anonymous stream, and returns its body. It must be closed.
func openAnonymous(tb testing.TB, addr, query string) (net.Conn, io.Reader) {
	tb.Helper()

	conn, err := new(net.Dialer).DialContext(tb.Context(), "tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}

	if _, err := fmt.Fprintf(conn, "GET /events?%s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", query, addr); err != nil {
		tb.Fatal(err)
	}

	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != http.StatusOK {
		tb.Fatal(response, err)
	}

	return conn, response.Body
}

// untilMark reads a body up to its first position mark, and returns the number of events
// before it. It calls between after each read.
func untilMark(tb testing.TB, body io.Reader, buf []byte, between func()) (events int) {
	tb.Helper()

	marked := false
	last := uint64(0)
	decoder := eventstream.Decoder{OnEvent: func(e eventstream.Event) {
		if string(e.Type) == eventstream.MarkType {
			marked = true

			return
		}

		if seq := sequenceOf(string(e.ID)); seq <= last {
			tb.Errorf("value %d came after %d", seq, last)
		} else {
			last = seq
		}

		events++
	}}

	for !marked {
		n, err := body.Read(buf)
		if err != nil {
			tb.Fatal(err)
		}

		_, _ = decoder.Write(buf[:n])

		between()
	}

	return events
}

// TestQueueOfRetainedValues opens a stream with a pattern that matches 3,000 retained
// values, 6 MB altogether. The client reads slowly, but gets all of them, and the
// daemon never queues more than broker.queue_bytes.
func TestQueueOfRetainedValues(t *testing.T) {
	t.Parallel()

	const topics = 3000

	d, control := startWithValues(t, topics, 2000)

	conn, body := openAnonymous(t, d.SSE, "topic=room.>")
	defer conn.Close()

	most, limit := int64(0), int64(daemon.Defaults().Broker.QueueBytes)

	got := untilMark(t, body, make([]byte, 256<<10), func() {
		stats, err := control.Stats(t.Context(), &pealv1.StatsRequest{})
		if err != nil {
			t.Fatal(err)
		}

		most = max(most, stats.GetTotal().GetQueuedBytes())
	})
	if got != topics || most == 0 || most > limit {
		t.Errorf("got %d values of %d; %d bytes were queued, %d are allowed", got, topics, most, limit)
	}

	t.Logf("at most %d bytes were queued", most)
}

// BenchmarkRetainedPattern opens streams with a pattern that matches 10,000 retained
// values. It measures the time from the first to the last byte.
func BenchmarkRetainedPattern(b *testing.B) {
	const topics = 10_000

	for _, size := range []int{100, 2000} {
		b.Run(fmt.Sprint("bytes=", size), func(b *testing.B) {
			d, _ := startWithValues(b, topics, size)
			buf := make([]byte, 64<<10)

			for b.Loop() {
				conn, body := openAnonymous(b, d.SSE, "topic=room.>")
				if got := untilMark(b, body, buf, func() {}); got != topics {
					b.Fatalf("got %d values", got)
				}

				_ = conn.Close()
			}
		})
	}
}

// BenchmarkOpenRetained opens a stream for a topic with a retained value and one for a
// topic without in turn, and reads each up to its position mark. It reports the median
// times from connecting to the mark, and their ratio.
func BenchmarkOpenRetained(b *testing.B) {
	d, _ := startWithValues(b, 1, 100)
	buf := make([]byte, 4<<10)
	took := make([][]time.Duration, 2)
	open := func(topic int) {
		begun := time.Now()
		conn, body := openAnonymous(b, d.SSE, "topic="+topicName(topic))
		untilMark(b, body, buf, func() {})

		took[topic] = append(took[topic], time.Since(begun))
		_ = conn.Close()
	}

	for i := 0; b.Loop(); i++ {
		open(i % 2)
		open(1 - i%2)
	}

	with, without := median(took[0]), median(took[1])
	b.ReportMetric(without, "ns-without")
	b.ReportMetric(with, "ns-with")
	b.ReportMetric(with/without, "ratio")
}

// BenchmarkPublishRetained publishes messages with and without retain in turn, to 1,000
// topics: on one daemon and on a follower in a cluster of three, on one PublishStream and
// with consecutive unary calls. It reports the time for each message, and the ratio.
func BenchmarkPublishRetained(b *testing.B) {
	measure := func(name string, control pealv1.ControlServiceClient) {
		b.Run(name+"/stream", func(b *testing.B) {
			compareRetained(b, 5000, func(messages int, retain bool) {
				publishEach(b, control, messages, func(i int) *pealv1.PublishStreamRequest {
					return &pealv1.PublishStreamRequest{
						Audience: &pealv1.PublishStreamRequest_Topic{Topic: topicName(i % 1000)}, Data: strings.Repeat("x", 100), Retain: retain,
					}
				})
			})
		})

		b.Run(name+"/unary", func(b *testing.B) {
			compareRetained(b, 100, func(messages int, retain bool) {
				for i := range messages {
					m := &pealv1.PublishRequest{Topic: topicName(i), Data: strings.Repeat("x", 100), Retain: retain}
					if _, err := control.Publish(b.Context(), m); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}

	measure("one", pealdtest.Start(b).Control(b))

	follower := findNode(b, startNodes(b, 3), false)

	conn, err := grpc.NewClient(follower.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()

	measure("three", pealv1.NewControlServiceClient(conn))
}

// compareRetained reports the median times for each message without and with retain, in
// turn.
func compareRetained(b *testing.B, messages int, publish func(messages int, retain bool)) {
	b.Helper()

	var took [2][]time.Duration

	run := func(which int) {
		begun := time.Now()

		publish(messages, which == 1)

		took[which] = append(took[which], time.Since(begun))
	}

	publish(messages, true) // so that the values exist

	for i := 0; b.Loop(); i++ {
		run(i % 2)
		run(1 - i%2)
	}

	without, with := median(took[0]), median(took[1])
	b.ReportMetric(without/float64(messages), "ns-without")
	b.ReportMetric(with/float64(messages), "ns-with")
	b.ReportMetric(with/without, "ratio")
}

// median returns the median of some durations, in nanoseconds.
func median(times []time.Duration) float64 {
	slices.Sort(times)

	return float64(times[len(times)/2].Nanoseconds())
}
