package load_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/sourcetest"
)

// TestKafkaLosesNothing is like TestOutboxLosesNothing, with a fake Kafka broker.
// SOAK_KAFKA sets the number of messages.
func TestKafkaLosesNothing(t *testing.T) {
	t.Parallel()

	server := sourcetest.StartProcess(t, sourcetest.ServerKafka)
	losesNothing(t, "SOAK_KAFKA", &sourceServer{
		breakable: server, addr: server.Addr, Proxy: server.Proxy, fields: "header",
		settings: func(*sourcetest.Proxy) map[string]any {
			return map[string]any{"kafka": map[string]any{
				"brokers": []string{server.Proxy.Addr}, "topics": []string{"events"}, "group": "peald",
			}}
		},
		connect: func(t *testing.T) sender { return connectKafka(t, server.Proxy.Addr) },
	})
}

// TestNATSLosesNothing is like TestOutboxLosesNothing, with a NATS server. SOAK_NATS sets
// the number of messages.
func TestNATSLosesNothing(t *testing.T) {
	t.Parallel()

	server := sourcetest.StartProcess(t, sourcetest.ServerNATS)
	createEvents(t, server.Addr)
	losesNothing(t, "SOAK_NATS", &sourceServer{
		breakable: server, addr: server.Addr, Proxy: server.Proxy, fields: "header",
		settings: func(p *sourcetest.Proxy) map[string]any {
			return map[string]any{"nats": map[string]any{"url": "nats://" + p.Addr, "stream": "EVENTS", "consumer": "peald"}}
		},
		connect: func(t *testing.T) sender { return connectNATS(t, server.Addr) },
	})
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

// breakable is a process that can be killed and started again.
type breakable interface {
	Kill()
	Start(tb testing.TB)
}

// sourceServer is a server that nodes read a source from.
type sourceServer struct {
	breakable
	*sourcetest.Proxy // of writers, and of clients that don't connect to the nodes' proxies

	addr     string
	fields   string                                 // what the mapping calls the parts of a record
	settings func(*sourcetest.Proxy) map[string]any // of the source, through a proxy
	connect  func(t *testing.T) sender

	proxies []*sourcetest.Proxy // of the nodes
	sending sync.RWMutex        // held by senders; locked while the server is down
}

// losesNothing writes messages to a server, from which a cluster publishes them, while
// nodes, the event log's leader and the server are killed and connections break. Each
// client must receive all of its events exactly once and in order.
func losesNothing(t *testing.T, soak string, s *sourceServer) {
	t.Helper()

	count, load, rate := int64(1), clusterLoad{clients: 20}, 60
	soaking := false
	if text := os.Getenv(soak); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 {
			t.Fatalf("%s: invalid number %q; want at least 1", soak, text)
		}
		count, load.clients, rate, soaking = n, 100, 500, true
	}

	nodes := s.startNodes(t)
	w := openClusterWorld(t, nodes, load)
	writers := s.write(t, w, rate)

	started := time.Now()
	disruptions := s.disruptions(w)
	if !soaking {
		disruptions = disruptions[:4]
	}
	for i := 0; i < len(disruptions) || writers.written.Load() < count; i++ {
		d := disruptions[i%len(disruptions)]
		before, start := writers.written.Load(), time.Now()
		d.run(t)
		recovery := time.Now()
		sent := writers.sent()
		if !pealdtest.Eventually(3*time.Minute, func() bool { return w.received(sent) }) {
			t.Fatalf("%s: messages aren't published any more: %s", d.name, w.missing())
		}
		t.Logf("%s: %d messages written in %s, caught up after %s", d.name, writers.written.Load()-before,
			time.Since(start).Round(100*time.Millisecond), time.Since(recovery).Round(100*time.Millisecond))
	}

	writers.stop()
	w.finish(t)
	t.Logf("%d messages in %s", writers.written.Load(), time.Since(started).Round(time.Second))
}

// startNodes starts three nodes, each of which has a proxy of its own.
func (s *sourceServer) startNodes(t *testing.T) []*clusterNode {
	t.Helper()

	const count = 3

	return startNodesWith(t, count, func() []string {
		proxy := sourcetest.NewProxy(t, s.addr)
		s.proxies = append(s.proxies, proxy)

		settings := s.settings(proxy)
		settings["name"] = "events"
		settings["map"] = map[string]string{"topic": "{" + s.fields + ".topic}", "user_id": "{" + s.fields + ".user}", "everyone": "{" + s.fields + ".everyone}"}
		sources, err := json.Marshal([]any{settings})
		if err != nil {
			t.Fatal(err)
		}

		return []string{"--sources", string(sources), "--cluster.sync"}
	})
}

// disruptions returns what breaks.
func (s *sourceServer) disruptions(w *clusterWorld) []outboxDisruption {
	all := append(slices.Clone(s.proxies), s.Proxy)
	heal := func() {
		for _, p := range all {
			p.Heal()
		}
	}
	pick := func() *clusterNode { // a node that reads the source
		nodes := slices.DeleteFunc(slices.Clone(w.nodes), func(n *clusterNode) bool { return !n.hasMetric(`peald_source_active{source="events"} 1`) })
		if len(nodes) == 0 {
			nodes = w.nodes
		}

		return nodes[rand.IntN(len(nodes))]
	}

	return []outboxDisruption{
		{"a node is killed", func(t *testing.T) { w.kill(t, pick()) }},
		{"connections to the server are cut", func(*testing.T) {
			for _, p := range all {
				p.Cut()
			}
			time.Sleep(500 * time.Millisecond)
			heal()
		}},
		{"the server is killed", func(t *testing.T) {
			s.sending.Lock()
			defer s.sending.Unlock()
			s.Kill()
			s.Start(t)
		}},
		{"the leader is killed", func(t *testing.T) { w.kill(t, w.node(t, true)) }},
		{"a node is suspended", func(t *testing.T) { suspendProcess(t, pick(), 12*time.Second) }},
		{"a node loses its connections", func(*testing.T) {
			p := s.proxies[rand.IntN(len(s.proxies))]
			p.Cut()
			time.Sleep(3 * time.Second)
			p.Heal()
		}},
		{"a node is restarted", func(t *testing.T) { pick().restart(t, syscall.SIGTERM) }},
		{"nothing arrives from the server", func(*testing.T) {
			for _, p := range all {
				p.Freeze()
			}
			time.Sleep(time.Second)
			heal()
		}},
	}
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

// hasMetric reports whether the node's metrics have this line.
func (n *clusterNode) hasMetric(line string) bool {
	resp, err := http.Get("http://" + n.rest + "/metrics")
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)

	return strings.Contains(string(body), "\n"+line+"\n")
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

// write starts writers that write messages until they are stopped, at a rate per second.
func (s *sourceServer) write(t *testing.T, w *clusterWorld, rate int) *sourceWriters {
	t.Helper()

	const number, batch = 8, 5
	writers := &sourceWriters{world: w}
	audiences := []string{"everyone"}
	for _, c := range w.clients {
		audiences = append(audiences, c.user)
	}
	for i := range min(clusterTopics, len(w.clients)) {
		audiences = append(audiences, fmt.Sprint("topic", i))
	}

	for i := range number {
		var own []string
		for j := i; j < len(audiences); j += number {
			own = append(own, audiences[j])
		}
		send := s.connect(t)
		writers.running.Go(func() {
			pause := time.NewTicker(time.Second * number * (1 + batch) / 2 / time.Duration(rate))
			defer pause.Stop()
			for !writers.enough.Load() {
				s.sending.RLock()
				writers.writeBatch(send, own[rand.IntN(len(own))], 1+rand.IntN(batch))
				s.sending.RUnlock()
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
