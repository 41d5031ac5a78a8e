package load_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
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
	"github.com/peald/peald/internal/testbed"
)

const (
	valueTopics = 50 // each with a sender
	valueKeys   = 4  // conflate keys of each topic

	anonymousValues = "--auth.anonymous_topics=value.>"
)

// TestClusterKeepsRetainedValues kills the leader of a cluster while retained values are
// published. Afterwards all nodes must have the last acknowledged value of each topic and
// conflate key, in their lists and at the start of a stream.
//
// SOAK_CLUSTER sets the duration. Without it, TestClusterLosesNothing covers the same with
// fewer messages.
func TestClusterKeepsRetainedValues(t *testing.T) {
	t.Parallel()

	text := os.Getenv("SOAK_CLUSTER")
	if text == "" {
		t.Skip("set SOAK_CLUSTER to a duration, such as 2m")
	}

	duration, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("SOAK_CLUSTER: %v", err)
	}

	const rate = 1000

	nodes := startNodes(t, 3, anonymousValues)
	v := newValues(t, nodes)
	stop := v.publishAt(t, rate)

	for deadline := time.Now().Add(duration); ; {
		v.killLeader(t, rate)

		if time.Now().After(deadline) {
			break
		}
	}

	stop()
	v.check(t)

	for _, n := range nodes {
		n.end(syscall.SIGKILL)
	}

	for _, n := range nodes {
		n.start(t)
	}

	for _, n := range nodes {
		n.awaitReady(t)
	}

	v.check(t)
}

// value identifies a retained value.
type value struct {
	topic, key string
}

// values publishes retained values, and knows which of them have been acknowledged.
type values struct {
	nodes []*clusterNode
	conns []pealv1.ControlServiceClient
	acked atomic.Int64 // messages

	mu   sync.Mutex
	last map[value]int // the number of the last acknowledged message
}

func newValues(t *testing.T, nodes []*clusterNode) *values {
	t.Helper()

	v := &values{nodes: nodes, last: make(map[value]int)}

	for _, n := range nodes {
		v.conns = append(v.conns, n.control(t))
	}

	return v
}

// publishAt publishes at the given rate per second until stop is called, which waits
// until all messages have been acknowledged.
func (v *values) publishAt(t *testing.T, rate int) (stop func()) {
	t.Helper()

	ctx, cancel := context.WithCancel(context.Background())

	var senders sync.WaitGroup

	stop = func() { cancel(); senders.Wait() }
	t.Cleanup(stop)

	for sender := range valueTopics {
		senders.Go(func() {
			pace := time.NewTicker(time.Second * valueTopics / time.Duration(rate))
			defer pace.Stop()

			// Only one sender publishes a value, so that its order is known.
			for i := 0; ctx.Err() == nil; i++ {
				v.publish(value{fmt.Sprint("value.", sender), fmt.Sprint("key", i%valueKeys)}, sender, i/valueKeys+1)

				select {
				case <-ctx.Done():
				case <-pace.C:
				}
			}
		})
	}

	return stop
}

// publish publishes a value until a node has acknowledged it, beginning with the node of
// the sender.
func (v *values) publish(of value, sender, number int) {
	text := fmt.Sprint(of.topic, " ", of.key, " ", number)
	request := &pealv1.PublishRequest{Topic: of.topic, ConflateKey: of.key, Data: text, IdempotencyKey: text, Retain: true}

	for node := sender; ; node++ {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		_, err := v.conns[node%len(v.conns)].Publish(ctx, request)

		cancel()

		if err == nil {
			break
		}

		pause(context.Background(), 100*time.Millisecond)
	}

	v.acked.Add(1)

	v.mu.Lock()
	defer v.mu.Unlock()
	v.last[of] = number
}

// acknowledged returns the numbers of the last acknowledged messages.
func (v *values) acknowledged() map[value]int {
	v.mu.Lock()
	defer v.mu.Unlock()

	return maps.Clone(v.last)
}

// killLeader kills the leader during publishing, and restarts it when publishing has
// recovered. The node must have the values acknowledged before its restart as soon as it
// is ready.
func (v *values) killLeader(t *testing.T, rate int) {
	t.Helper()

	began := time.Now()
	v.await(t, rate)

	reached := float64(rate) / time.Since(began).Seconds()
	leader := findNode(t, v.nodes, true)
	before, killed := v.acked.Load(), time.Now()

	leader.end(syscall.SIGKILL)
	v.await(t, 1)

	interrupted := time.Since(killed)
	v.await(t, rate)

	known := v.acknowledged()

	leader.start(t)
	leader.awaitReady(t)

	held, err := v.list(t.Context(), leader.control(t))
	if err != nil {
		t.Fatalf("listing the values of the restarted node: %v", err)
	}

	for of, number := range known {
		if held[of].number < number {
			t.Errorf("the restarted node is ready and has number %d for %v, want at least %d", held[of].number, of, number)
		}
	}

	t.Logf("killed the leader at %.0f messages/s: the next message was acknowledged after %s, and %d in the %s until the node was ready again",
		reached, interrupted.Round(time.Millisecond), v.acked.Load()-before, time.Since(killed).Round(time.Millisecond))
}

// await waits until n more messages have been acknowledged.
func (v *values) await(t *testing.T, n int) {
	t.Helper()

	before := v.acked.Load()
	if !testbed.Eventually(2*time.Minute, func() bool { return v.acked.Load() >= before+int64(n) }) {
		t.Fatal("publishing doesn't recover")
	}
}

// held is a value that a node has.
type held struct {
	id     string
	number int
}

// list returns the values in the lists of a node.
func (v *values) list(ctx context.Context, node pealv1.ControlServiceClient) (map[value]held, error) {
	all := make(map[value]held)

	for i := range valueTopics {
		topic := fmt.Sprint("value.", i)

		reply, err := node.ListMessages(ctx, &pealv1.ListMessagesRequest{
			Audience: &pealv1.ListMessagesRequest_Topic{Topic: topic}, Retained: true, PageSize: 2 * valueKeys,
		})
		if err != nil {
			return nil, err
		}

		for _, m := range reply.GetMessages() {
			of, number := parseValue(m.GetData())
			if of != (value{topic, m.GetConflateKey()}) {
				return nil, fmt.Errorf("%s has a value with key %q and data %q", topic, m.GetConflateKey(), m.GetData())
			}

			all[of] = held{m.GetId(), number}
		}

		if reply.GetNextPageToken() != "" {
			return nil, fmt.Errorf("%s has more than %d values", topic, 2*valueKeys)
		}
	}

	return all, nil
}

func parseValue(data string) (of value, number int) {
	if fields := strings.Fields(data); len(fields) == 3 {
		of = value{fields[0], fields[1]}
		number, _ = strconv.Atoi(fields[2])
	}

	return of, number
}

// check checks that all nodes have exactly the last acknowledged values.
func (v *values) check(t *testing.T) {
	t.Helper()

	want := v.acknowledged()

	var first map[value]held

	for i, node := range v.conns {
		var (
			got map[value]held
			err error
		)

		// A node applies messages a moment after another one has acknowledged them.
		if !eventually(time.Minute, func() bool {
			got, err = v.list(t.Context(), node)

			return err == nil && len(differences(got, want)) == 0
		}) {
			t.Fatalf("node %d lists other values than acknowledged: %v, %v", i, err, differences(got, want))
		}

		if i == 0 {
			first = got
		}

		for of := range want {
			if got[of] != first[of] {
				t.Errorf("node %d has %v for %v, node 0 has %v", i, got[of], of, first[of])
			}
		}

		if stats, err := node.Stats(t.Context(), &pealv1.StatsRequest{}); err != nil || stats.GetRetained().GetEvents() != int64(len(want)) {
			t.Errorf("node %d counts %d values, %v; want %d", i, stats.GetRetained().GetEvents(), err, len(want))
		}

		checkStart(t, v.nodes[i].sse, got)
	}

	t.Logf("all nodes have the same %d values of %d messages", len(want), v.acked.Load())
}

// differences describes the values that aren't the wanted ones.
func differences(got map[value]held, want map[value]int) (all []string) {
	for of, number := range want {
		if got[of].number != number {
			all = append(all, fmt.Sprintf("%v has number %d, want %d", of, got[of].number, number))
		}
	}

	if len(got) > len(want) {
		all = append(all, fmt.Sprintf("%d values, want %d", len(got), len(want)))
	}

	return all
}

// checkStart checks that a new stream starts with exactly the wanted values, in the order
// of their ids.
func checkStart(t *testing.T, addr string, want map[value]held) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/events?topic=value.*", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}

	request.Header.Set("Accept", "text/event-stream")

	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()

	var (
		seen    = make(map[value]bool)
		last    uint64
		started bool
	)

	decoder := eventstream.Decoder{OnEvent: func(e eventstream.Event) {
		if started {
			return
		}

		if string(e.Type) == eventstream.MarkType {
			started = true

			return
		}

		of, number := parseValue(string(e.Data))
		if seen[of] || want[of] != (held{string(e.ID), number}) || sequenceOf(string(e.ID)) <= last {
			t.Errorf("a stream starts with %s (%s) after %d, want %v once and in order", e.Data, e.ID, last, want[of])
		}

		seen[of], last = true, sequenceOf(string(e.ID))
	}}

	buf := make([]byte, 16<<10)

	for !started {
		n, err := response.Body.Read(buf)
		_, _ = decoder.Write(buf[:n])

		if err != nil && !started {
			t.Fatalf("%s ends before its first position mark: %v", response.Status, err)
		}
	}

	if len(seen) != len(want) {
		t.Errorf("a stream starts with %d values, want %d", len(seen), len(want))
	}
}
