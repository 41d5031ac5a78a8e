package load_test

import (
	"bytes"
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/sourcetest"
	"github.com/peald/peald/internal/testbed"
)

// benchmarkData returns the data of each message.
func benchmarkData() []byte { return bytes.Repeat([]byte("x"), 100) }

// BenchmarkKafka measures how fast one daemon publishes records of 100 bytes from 12
// partitions of a fake broker in another process.
func BenchmarkKafka(b *testing.B) {
	server := sourcetest.StartProcess(b, sourcetest.ServerKafka)
	client, err := kgo.NewClient(kgo.SeedBrokers(server.Proxy.Addr), kgo.DefaultProduceTopic("events"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	data := benchmarkData()
	for i := range b.N {
		client.Produce(b.Context(), &kgo.Record{Key: fmt.Append(nil, "topic", i%1000), Value: data}, nil)
	}
	if err := client.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}

	benchmarkSource(b, daemon.Source{
		Name: "events", Map: daemon.SourceMap{Topic: "{key}"},
		Kafka: &daemon.KafkaSource{Brokers: []string{server.Proxy.Addr}, Topics: []string{"events"}, Group: "peald"},
	})
}

// BenchmarkNATS is like BenchmarkKafka, with a NATS server.
func BenchmarkNATS(b *testing.B) {
	server := sourcetest.StartProcess(b, sourcetest.ServerNATS)
	conn, err := nats.Connect("nats://" + server.Addr)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(1000))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := js.CreateStream(b.Context(), jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>"}}); err != nil {
		b.Fatal(err)
	}
	data := benchmarkData()
	for i := range b.N {
		if _, err := js.PublishAsync(fmt.Sprint("events.topic", i%1000), data, jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()

	benchmarkSource(b, daemon.Source{
		Name: "events",
		NATS: &daemon.NATSSource{URL: "nats://" + server.Addr, Stream: "EVENTS", Consumer: "peald"},
	})
}

// benchmarkSource measures how long a daemon takes to publish everything that a source
// has, from the first message on.
func benchmarkSource(b *testing.B, s daemon.Source) {
	b.Helper()

	d := pealdtest.Start(b, func(cfg *daemon.Config) { cfg.Sources = []daemon.Source{s} })
	node := &clusterNode{rest: d.REST}
	source := &testedSource{name: s.Name}
	if !testbed.Eventually(time.Minute, func() bool { return source.isReadBy(node) }) {
		b.Fatal("the daemon doesn't read the source")
	}
	b.ResetTimer()
	before := cpuTime(b)

	want := fmt.Sprintf("peald_source_published_total{source=%q} %s", s.Name, metricValue(b.N))
	for deadline := time.Now().Add(5 * time.Minute); !node.hasMetric(want); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatal("the daemon doesn't publish all messages")
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// cpuTime returns the CPU time of this process, which includes the daemon but not the
// server.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()

	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}

	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// metricValue returns the number as Prometheus prints it.
func metricValue(n int) string { return strconv.FormatFloat(float64(n), 'g', -1, 64) }
