package load_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/eventstream"
)

// TestClusterLosesNothing kills, stalls and restarts cluster nodes under load.
// Each client must receive all of its events exactly once and in order, and all nodes must
// keep the last retained values.
// SOAK_CLUSTER sets the duration, and NODES the number of nodes. By default, the
// test is short and uses three nodes, of which it restarts only the leader gracefully.
func TestClusterLosesNothing(t *testing.T) {
	t.Parallel()
	load := clusterLoad{clients: 16, rate: 20}
	rounds := 1

	// The longest accepted interruption of publishing while a quorum of nodes is
	// running. A machine that is busy with other tests may need several elections.
	electionFor := time.Minute

	text := os.Getenv("SOAK_CLUSTER")
	soaking := text != ""
	if soaking {
		duration, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("SOAK_CLUSTER: %v", err)
		}

		electionFor = 10 * time.Second
		load, rounds = clusterLoad{clients: 3000, rate: 500}, max(1, int(duration/(2*time.Minute)))
	}

	count := 3
	if text := os.Getenv("NODES"); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil || count < 3 {
			t.Fatalf("NODES: invalid number %q; want at least 3", text)
		}
	}

	nodes := startNodes(t, count, "--cluster.replicas", strconv.Itoa(min(count, 5)), "--cluster.sync", anonymousValues)
	retained := newValues(t, nodes)
	stop := retained.publishAt(t, valueTopics/2)
	w := newClusterWorld(t, nodes, load)
	for range rounds {
		w.disrupt(t, "a follower is suspended briefly", electionFor, func() { w.suspend(t, w.node(t, false)) })
		w.disrupt(t, "the leader is killed", electionFor, func() { w.kill(t, w.node(t, true)) })
		if count >= 5 {
			w.disrupt(t, "the leader and a follower are killed", electionFor, func() { w.kill(t, w.node(t, true), w.node(t, false)) })
		}

		w.disrupt(t, "all nodes are killed", 2*time.Minute, func() { w.kill(t, nodes...) })
		if !soaking { // the others take long
			w.disrupt(t, "the leader is restarted", electionFor, func() { w.node(t, true).restart(t, syscall.SIGTERM) })

			break
		}

		w.disrupt(t, "a follower is killed", electionFor, func() { w.kill(t, w.node(t, false)) })
		w.disrupt(t, "the leader stalls", electionFor, func() { w.stall(t, w.node(t, true)) })
		w.disrupt(t, "all nodes are restarted one by one", electionFor, func() {
			for _, n := range nodes {
				n.restart(t, syscall.SIGTERM)
				n.awaitReady(t)
			}
		})
	}

	w.finish(t)
	stop()
	retained.check(t)
}

// clusterLoad describes the load on a cluster.
type clusterLoad struct {
	clients int
	rate    int // messages per second, 2% of them broadcasts
}

// clusterWorld holds the publishers and clients of a cluster, and the messages
// that they must receive.
type clusterWorld struct {
	nodes   []*clusterNode
	conns   []pealv1.ControlServiceClient
	load    clusterLoad
	cancel  context.CancelFunc
	publish context.CancelFunc // ends publishing

	publishing context.Context
	all        sync.WaitGroup // clients
	senders    sync.WaitGroup
	clients    []*clusterClient
	acked      atomic.Int64
	lastAck    atomic.Int64 // Unix nanoseconds
	worst      atomic.Int64 // the longest time between acknowledgements, in nanoseconds, since it was reset
	mu         sync.Mutex
	sent       map[string]int // messages by audience
	faults     []string
}

const clusterTopics = 10

func newClusterWorld(t *testing.T, nodes []*clusterNode, load clusterLoad) *clusterWorld {
	t.Helper()
	w := openClusterWorld(t, nodes, load)

	// Only one sender publishes to an audience, so that the order of events is known.
	senders := min(48, load.clients/4)
	for i := range senders {
		w.senders.Go(func() { w.send(w.publishing, i, senders) })
	}

	return w
}

// openClusterWorld is like newClusterWorld, but leaves publishing to the caller.
func openClusterWorld(t *testing.T, nodes []*clusterNode, load clusterLoad) *clusterWorld {
	t.Helper()
	w := &clusterWorld{nodes: nodes, load: load, sent: make(map[string]int)}

	for _, n := range nodes {
		w.conns = append(w.conns, n.control(t))
	}

	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	w.publishing, w.publish = context.WithCancel(ctx)
	t.Cleanup(func() { cancel(); w.senders.Wait(); w.all.Wait() })
	var open sync.WaitGroup

	for i := range load.clients {
		c := &clusterClient{world: w, user: fmt.Sprint("user", i), topic: fmt.Sprint("topic", i%clusterTopics), seen: make(map[string]int), opened: make(chan struct{})}
		token, err := w.conns[0].CreateToken(ctx, &pealv1.CreateTokenRequest{UserId: c.user, Topics: []string{c.topic}})
		if err != nil {
			t.Fatal(err)
		}

		c.query = url.Values{"access_token": {token.GetToken()}, "topic": {c.topic}}
		w.clients = append(w.clients, c)
		open.Add(1)
		w.all.Go(func() { c.run(ctx, i) })
		go func() { <-c.opened; open.Done() }()
	}

	open.Wait()
	w.lastAck.Store(time.Now().UnixNano())

	return w
}

// send publishes to its audiences. It retries each message until it is
// acknowledged.
func (w *clusterWorld) send(ctx context.Context, number, senders int) {
	every := time.NewTicker(time.Second * time.Duration(senders) / time.Duration(w.load.rate))
	defer every.Stop()

	retry := time.NewTicker(100 * time.Millisecond)
	defer retry.Stop()

	node := number % len(w.nodes)
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}

		var audience string
		switch {
		case number == 0 && rand.Float64() < 0.02*float64(senders):
			audience = "everyone"
		case number < clusterTopics && i%4 == 0:
			audience = fmt.Sprint("topic", number)
		default:
			audience = fmt.Sprint("user", (number+senders*rand.IntN(w.load.clients))%w.load.clients/senders*senders+number)
			if user, _ := strconv.Atoi(audience[4:]); user >= w.load.clients {
				continue
			}
		}

		w.mu.Lock()
		w.sent[audience]++
		n := w.sent[audience]
		w.mu.Unlock()
		key, data := fmt.Sprint(audience, "-", n), fmt.Sprint(audience, " ", n)

		for !w.try(node, audience, data, key) {
			node = (node + 1) % len(w.nodes)
			<-retry.C
		}

		now := time.Now().UnixNano()
		if gap := now - w.lastAck.Swap(now); gap > w.worst.Load() {
			w.worst.Store(gap)
		}

		w.acked.Add(1)
	}
}

func (w *clusterWorld) try(node int, audience, data, key string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()

	var err error
	switch c := w.conns[node]; {
	case audience == "everyone":
		_, err = c.Broadcast(ctx, &pealv1.BroadcastRequest{Data: data, IdempotencyKey: key})
	case strings.HasPrefix(audience, "topic"):
		_, err = c.Publish(ctx, &pealv1.PublishRequest{Topic: audience, Data: data, IdempotencyKey: key})
	default:
		_, err = c.SendToUser(ctx, &pealv1.SendToUserRequest{UserId: audience, Data: data, IdempotencyKey: key})
	}

	return err == nil
}

// finish stops publishing and checks that each client receives all of its events.
func (w *clusterWorld) finish(t *testing.T) {
	t.Helper()
	w.publish()
	w.senders.Wait()
	var missing string
	if !eventually(time.Minute, func() bool { missing = w.missing(); return missing == "" }) {
		t.Errorf("lost: %s", missing)
	}

	received := 0
	for _, c := range w.clients {
		c.mu.Lock()
		received += c.received
		c.mu.Unlock()
	}

	w.mu.Lock()
	defer w.mu.Unlock()

	for _, line := range w.faults[:min(len(w.faults), 20)] {
		t.Error(line)
	}

	t.Logf("%d messages acknowledged, %d events received by %d clients, %d faults", w.acked.Load(), received, len(w.clients), len(w.faults))
}

func (w *clusterWorld) missing() string {
	w.mu.Lock()
	defer w.mu.Unlock()

	for _, c := range w.clients {
		c.mu.Lock()
		for _, audience := range []string{"everyone", c.topic, c.user} {
			if c.seen[audience] != w.sent[audience] {
				defer c.mu.Unlock()

				return fmt.Sprintf("%s has received %d of %d events for %s", c.user, c.seen[audience], w.sent[audience], audience)
			}
		}

		c.mu.Unlock()
	}

	return ""
}

func (w *clusterWorld) faultf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

// clusterClient holds a stream and resumes it on a random node, as a browser does.
type clusterClient struct {
	world       *clusterWorld
	user, topic string
	query       url.Values
	opened      chan struct{}
	once        sync.Once
	lastID      string

	mu       sync.Mutex
	seen     map[string]int // the number of the last message for each audience
	received int
}

func (c *clusterClient) run(ctx context.Context, node int) {
	transport := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Transport: transport}
	for ctx.Err() == nil {
		c.stream(ctx, client, c.world.nodes[node%len(c.world.nodes)].sse)
		node += 1 + rand.IntN(2)
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(50+rand.IntN(150)) * time.Millisecond):
		}
	}
	c.once.Do(func() { close(c.opened) })
}

func (c *clusterClient) stream(ctx context.Context, client *http.Client, addr string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	// Break some connections at random, and give up on any that is silent for a
	// minute, as a proxy does.
	quiet := time.AfterFunc(time.Minute, cancel)
	defer quiet.Stop()

	breaks := time.AfterFunc(time.Duration(rand.IntN(20000))*time.Millisecond, cancel)
	defer breaks.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/events?"+c.query.Encode(), http.NoBody)
	if err != nil {
		return
	}

	req.Header.Set("Accept", "text/event-stream")
	if c.lastID != "" {
		req.Header.Set("Last-Event-ID", c.lastID)
	}

	resp, err := client.Do(req)
	if err != nil {
		return
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		c.world.faultf("%s: %s rejected resuming after %q: %s, %q", c.user, addr, c.lastID, resp.Status, text)

		return
	}

	d := eventstream.Decoder{OnEvent: c.onEvent}
	body := bufio.NewReader(resp.Body)
	buf := make([]byte, 16<<10)

	for {
		n, err := body.Read(buf)
		_, _ = d.Write(buf[:n])
		if id := d.LastEventID(); id != "" {
			c.lastID = id
			c.once.Do(func() { close(c.opened) })
		}

		quiet.Reset(time.Minute)
		if err != nil {
			return
		}
	}
}

func (c *clusterClient) onEvent(e eventstream.Event) {
	if string(e.Type) == eventstream.MarkType {
		return
	}

	if string(e.Type) == "peald.reset" {
		var reset struct{ Reason string }
		_ = json.Unmarshal(e.Data, &reset)
		c.world.faultf("%s: reset (%s) after %s", c.user, reset.Reason, c.lastID)

		return
	}

	audience, number, _ := strings.Cut(string(e.Data), " ")
	n, _ := strconv.Atoi(number)
	c.mu.Lock()
	last := c.seen[audience]
	c.received++
	c.seen[audience] = max(n, last)
	c.mu.Unlock()
	if n != last+1 {
		c.world.faultf("%s: for %s received event %d after %d (%s)", c.user, audience, n, last, e.ID)
	}
}
