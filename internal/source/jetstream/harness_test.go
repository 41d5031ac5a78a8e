package jetstream_test

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/jetstream"
	"github.com/peald/peald/internal/testbed"
)

const (
	stream   = "ORDERS"
	consumer = "peald"
	patience = time.Minute
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testbed.LeftByNATS()...) }

// startServer starts a NATS server with JetStream. It is stopped after the test.
func startServer(t *testing.T, changes ...func(*server.Options)) *server.Server {
	t.Helper()

	options := &server.Options{ServerName: "nats", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, JetStream: true, StoreDir: t.TempDir()}
	for _, change := range changes {
		change(options)
	}
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { stopServer(s) })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the NATS server is not ready")
	}

	return s
}

func stopServer(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

// restart stops a server and starts another with its address and files.
func restart(t *testing.T, s *server.Server) *server.Server {
	t.Helper()

	dir, port := s.StoreDir(), s.Addr().(*net.TCPAddr).Port
	stopServer(s)

	return startServer(t, func(o *server.Options) { o.StoreDir, o.Port = strings.TrimSuffix(dir, "/jetstream"), port })
}

// connect returns a client of the server.
func connect(t *testing.T, s *server.Server, options ...nats.Option) natsjs.JetStream {
	t.Helper()

	conn, err := nats.Connect(s.ClientURL(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := natsjs.New(conn)
	if err != nil {
		t.Fatal(err)
	}

	return js
}

// createStream creates the stream for orders and everything below.
func createStream(t *testing.T, js natsjs.JetStream, changes ...func(*natsjs.StreamConfig)) {
	t.Helper()

	cfg := natsjs.StreamConfig{Name: stream, Subjects: []string{"orders.>"}}
	for _, change := range changes {
		change(&cfg)
	}
	if _, err := js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

// publish stores a message and waits until it is stored.
func publish(t *testing.T, js natsjs.JetStream, subject, data string) {
	t.Helper()

	if _, err := js.Publish(t.Context(), subject, []byte(data)); err != nil {
		t.Fatalf("publish to %s: %v", subject, err)
	}
}

// publishNumbered stores n messages for each of some subjects, with numbers that begin
// with first, and adds to want what the topics should get.
func publishNumbered(t *testing.T, js natsjs.JetStream, subjects, first, n int, want map[string][]string) {
	t.Helper()

	acks := make([]natsjs.PubAckFuture, 0, subjects*n)
	for i := first; i < first+n; i++ {
		for s := range subjects {
			subject, data := "orders."+strconv.Itoa(s), fmt.Sprintf("%d-%d", s, i)
			ack, err := js.PublishAsync(subject, []byte(data))
			if err != nil {
				t.Fatal(err)
			}
			acks = append(acks, ack)
			want[subject] = append(want[subject], data)
		}
	}

	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			t.Fatal(err)
		}
	}
}

// from returns a source that reads the stream.
func from(url string, changes ...func(*jetstream.Config)) source.Source {
	cfg := jetstream.Config{URL: url, Stream: stream, Consumer: consumer}
	for _, change := range changes {
		change(&cfg)
	}

	return source.Source{Name: "test", Kind: cfg}
}

// info returns the state of the consumer.
func info(t *testing.T, js natsjs.JetStream) *natsjs.ConsumerInfo {
	t.Helper()

	c, err := js.Consumer(t.Context(), stream, consumer)
	if err != nil {
		t.Fatal(err)
	}

	return c.CachedInfo()
}

// waitUntilAcknowledged waits until all messages of the stream are acknowledged.
func waitUntilAcknowledged(t *testing.T, js natsjs.JetStream) {
	t.Helper()

	var last *natsjs.ConsumerInfo
	if !testbed.Eventually(patience, func() bool {
		last = info(t, js)
		return last.NumPending == 0 && last.NumAckPending == 0
	}) {
		t.Fatalf("%d messages aren't delivered and %d not acknowledged, want none", last.NumPending, last.NumAckPending)
	}
}
