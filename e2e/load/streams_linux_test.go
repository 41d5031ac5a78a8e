package load_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/peald/peald/internal/sourcetest"
)

// TestKafkaLosesNothing writes records to a fake Kafka broker, from which a cluster
// publishes them, while nodes, the event log's leader and the broker are killed and
// connections break. Each client must receive all of its events exactly once and in order.
//
// SOAK_KAFKA sets the number of records. By default, the test is short: only a quarter of
// the disruptions run, with ten clients.
func TestKafkaLosesNothing(t *testing.T) {
	t.Parallel()

	process := sourcetest.StartProcess(t, sourcetest.ServerKafka)
	server := &pausingServer{sourceServer: process}
	source := &testedSource{name: "kafka", server: server, suspend: 15 * time.Second, turn: 1}
	// The broker makes all clients connect through its own proxy.
	settings := map[string]any{"brokers": []string{process.Proxy.Addr}, "topics": []string{"events"}, "group": "peald"}
	nodes := source.startNodes(t, process.Addr, func(string) map[string]any {
		return map[string]any{"kafka": settings, "map": audienceMap()}
	})
	source.proxies = []*sourcetest.Proxy{process.Proxy, process.Proxy, process.Proxy}

	losesNothing(t, "SOAK_KAFKA", source, server, nodes, func() sender { return connectKafka(t, process.Proxy.Addr) })
}

// TestNATSLosesNothing is like TestKafkaLosesNothing, with a NATS server. SOAK_NATS sets
// the number of messages.
func TestNATSLosesNothing(t *testing.T) {
	t.Parallel()

	process := sourcetest.StartProcess(t, sourcetest.ServerNATS)
	server := &pausingServer{sourceServer: process}
	createEvents(t, process.Addr)
	source := &testedSource{name: "nats", server: server, suspend: 15 * time.Second, turn: 2}
	nodes := source.startNodes(t, process.Addr, func(addr string) map[string]any {
		settings := map[string]any{"url": "nats://" + addr, "stream": "EVENTS", "consumer": "peald"}
		return map[string]any{"nats": settings, "map": audienceMap()}
	})

	losesNothing(t, "SOAK_NATS", source, server, nodes, func() sender { return connectNATS(t, process.Addr) })
}

// audienceMap returns a mapping from the headers that senders set.
func audienceMap() map[string]string {
	return map[string]string{"topic": "{header.topic}", "user_id": "{header.user}", "everyone": "{header.everyone}"}
}

// pausingServer is a server to which nothing is sent while it is killed, since a producer
// couldn't know whether its last records were stored.
type pausingServer struct {
	sourceServer

	sending sync.RWMutex // held by senders; locked while the server is down
}

// Kill kills the server, between two calls of a sender.
func (s *pausingServer) Kill() {
	s.sending.Lock()
	s.sourceServer.Kill()
}

// Start starts the server again.
func (s *pausingServer) Start(tb testing.TB) {
	tb.Helper()
	defer s.sending.Unlock()

	s.sourceServer.Start(tb)
}

// sender sends messages to a server, each to an audience. It returns once they are stored,
// or an error if ctx ends first.
type sender func(ctx context.Context, audience string, data []string) error

// connectKafka returns a sender that uses the audience as key, so that its messages stay
// in order.
func connectKafka(t *testing.T, addr string) sender {
	t.Helper()

	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("events"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)

	// The client gives up if it gets no ID while connections are cut.
	if _, _, err := client.ProducerID(t.Context()); err != nil {
		t.Fatal(err)
	}

	return func(ctx context.Context, audience string, data []string) error {
		records := make([]*kgo.Record, len(data))
		for i, text := range data {
			records[i] = &kgo.Record{Key: []byte(audience), Value: []byte(text)}
			for name, value := range audienceHeaders(audience) {
				records[i].Headers = append(records[i].Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
			}
		}

		return client.ProduceSync(ctx, records...).FirstErr()
	}
}

// createEvents creates a stream.
func createEvents(t *testing.T, addr string) {
	t.Helper()

	conn, err := nats.Connect("nats://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events.>"}}); err != nil {
		t.Fatal(err)
	}
}

// connectNATS returns a sender that repeats a message until it is stored. The server
// recognizes repetitions.
func connectNATS(t *testing.T, addr string) sender {
	t.Helper()

	conn, err := nats.Connect("nats://"+addr, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}

	return func(ctx context.Context, audience string, data []string) error {
		for _, text := range data {
			m := nats.NewMsg("events." + audience)
			m.Data = []byte(text)
			for name, value := range audienceHeaders(audience) {
				m.Header[name] = []string{value}
			}
			for {
				attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
				_, err := js.PublishMsg(attempt, m, jetstream.WithMsgID(text), jetstream.WithRetryAttempts(0))
				cancel()
				if err == nil {
					break
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
				time.Sleep(20 * time.Millisecond)
			}
		}

		return nil
	}
}

// audienceHeaders returns the headers from which the mapping takes the audience.
func audienceHeaders(audience string) map[string]string {
	switch {
	case audience == "everyone":
		return map[string]string{"everyone": "true"}
	case strings.HasPrefix(audience, "topic"):
		return map[string]string{"topic": audience}
	}

	return map[string]string{"user": audience}
}

// losesNothing writes messages while things break, and checks what clients receive.
func losesNothing(t *testing.T, soak string, source *testedSource, server *pausingServer, nodes []*clusterNode, connect func() sender) {
	t.Helper()

	count, load, short := soakRecords(t, soak)
	rate := 500
	if short {
		rate = 40
	}
	w := openClusterWorld(t, nodes, load)
	writers := startWriters(t, w, server, rate, connect)

	started := time.Now()
	received := func() bool { return w.received(writers.sent()) }
	source.disrupt(t, w, short, writers.written.Load, func() bool { return writers.written.Load() >= count }, received)

	writers.stop()
	w.finish(t)
	t.Logf("%d messages in %s", writers.written.Load(), time.Since(started).Round(time.Second))
}

// suspendProcess suspends a node for a while.
func suspendProcess(t *testing.T, n *clusterNode, duration time.Duration) {
	t.Helper()

	if err := n.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(duration)
	if err := n.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// received reports whether each client has received the messages up to these numbers.
func (w *clusterWorld) received(sent map[string]int) bool {
	for _, c := range w.clients {
		c.mu.Lock()
		for _, audience := range []string{"everyone", c.topic, c.user} {
			if c.seen[audience] < sent[audience] {
				c.mu.Unlock()
				return false
			}
		}
		c.mu.Unlock()
	}

	return true
}

// sourceWriters write messages for the audiences of a world. Only one of them writes for
// an audience, so that the order of events is known.
type sourceWriters struct {
	world   *clusterWorld
	written atomic.Int64
	enough  atomic.Bool
	running sync.WaitGroup
}

// stop stops the writers.
func (o *sourceWriters) stop() {
	o.enough.Store(true)
	o.running.Wait()
}

// startWriters starts writers that write messages until they are stopped, at a rate per
// second.
func startWriters(t *testing.T, w *clusterWorld, server *pausingServer, rate int, connect func() sender) *sourceWriters {
	t.Helper()

	const number, batch = 8, 5
	writers := &sourceWriters{world: w}
	audiences := audiencesOf(w)
	for i := range number {
		var own []string
		for j := i; j < len(audiences); j += number {
			own = append(own, audiences[j])
		}
		send := connect()
		writers.running.Go(func() {
			pause := time.NewTicker(time.Second * number * (1 + batch) / 2 / time.Duration(rate))
			defer pause.Stop()
			for !writers.enough.Load() {
				server.sending.RLock()
				writers.writeBatch(send, own[rand.IntN(len(own))], 1+rand.IntN(batch))
				server.sending.RUnlock()
				<-pause.C
			}
		})
	}
	t.Cleanup(func() {
		w.publish() // ends a batch that can't be stored
		writers.stop()
	})

	return writers
}

// writeBatch writes some messages for an audience.
func (o *sourceWriters) writeBatch(send sender, audience string, n int) {
	o.world.mu.Lock()
	last := o.world.sent[audience]
	o.world.mu.Unlock()

	data := make([]string, n)
	for i := range data {
		data[i] = fmt.Sprint(audience, " ", last+1+i)
	}
	if err := send(o.world.publishing, audience, data); err != nil {
		o.world.faultf("messages for %s aren't stored: %v", audience, err)
		return
	}

	o.written.Add(int64(n))
	o.world.mu.Lock()
	o.world.sent[audience] = last + n
	o.world.mu.Unlock()
}

// sent returns the number of messages that have been stored, by audience.
func (o *sourceWriters) sent() map[string]int {
	o.world.mu.Lock()
	defer o.world.mu.Unlock()

	return maps.Clone(o.world.sent)
}
