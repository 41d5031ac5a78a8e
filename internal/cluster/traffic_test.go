package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
)

// traffic runs publishers and clients on a cluster while its nodes fail.
type traffic struct {
	t           *testing.T
	begin       string // the id of the event before all others
	publishing  sync.WaitGroup
	following   sync.WaitGroup
	stopPublish context.CancelFunc
	stopFollow  context.CancelFunc
	followers   []*follower

	mu      sync.Mutex
	members []*member
	sent    []publication
	lastAck time.Time
	pause   time.Duration // the longest time between two acknowledgments since the last call to pauses
}

// publication is a message and its result.
type publication struct {
	audience  broker.Audience
	data      string
	publisher int
	id        string
	err       error
	took      time.Duration
}

// trafficTopics is the number of topics. Client i subscribes to topic i modulo that
// number.
const trafficTopics = 3

// endPublisher is the number of the publisher that publishes the last message.
const endPublisher = -100

// newTraffic starts clients, spread over the nodes, and publishers. A publisher
// repeats each message, with its idempotency key and each time on another node,
// until it is acknowledged.
func newTraffic(t *testing.T, members []*member, clients, publishers int) *traffic {
	t.Helper()
	tr := &traffic{t: t, members: slices.Clone(members), lastAck: time.Now()}
	tr.begin = members[0].publish(t, toAll("begin")).ID
	for _, m := range members {
		if err := m.broker.Await(t.Context(), tr.begin); err != nil {
			t.Fatal(err)
		}
	}
	var publish, follow context.Context
	publish, tr.stopPublish = context.WithCancel(context.Background())
	follow, tr.stopFollow = context.WithCancel(context.Background())
	t.Cleanup(tr.stop)
	for i := range clients {
		f := &follower{name: fmt.Sprint(i), user: fmt.Sprint("user", i), topics: []string{fmt.Sprint("topic", i%trafficTopics)}}
		if err := f.open(follow, members[i%len(members)], i%len(members)); err != nil {
			t.Fatal(err)
		}
		tr.followers = append(tr.followers, f)
		tr.following.Go(func() { tr.follow(follow, f) })
	}
	for i := range publishers {
		tr.publishing.Go(func() { tr.publish(publish, i, clients) })
	}
	return tr
}

// stop stops all publishers and clients. It may be called again.
func (tr *traffic) stop() {
	tr.stopPublish()
	tr.publishing.Wait()
	tr.stopFollow()
	tr.following.Wait()
}

func (tr *traffic) member(node int) *member {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.members[node%len(tr.members)]
}

// replace replaces a node that was restarted.
func (tr *traffic) replace(node int, m *member) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.members[node] = m
}

// leader returns the node that leads the event log.
func (tr *traffic) leader() int {
	tr.t.Helper()
	tr.mu.Lock()
	members := slices.Clone(tr.members)
	tr.mu.Unlock()
	leader := -1
	eventually(tr.t, func() bool {
		leader = slices.IndexFunc(members, func(m *member) bool { return m.Status().Leader })
		return leader >= 0
	}, func() string { return "no node leads" })
	return leader
}

// publish publishes messages for random audiences until ctx is done.
func (tr *traffic) publish(ctx context.Context, publisher, clients int) {
	every := time.NewTicker(60 * time.Millisecond)
	defer every.Stop()
	node := publisher
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		m := broker.Message{Data: fmt.Sprint("publisher ", publisher, " message ", i)}
		m.IdempotencyKey = m.Data
		switch n := rand.IntN(50); {
		case n == 0:
			m.Audience = broker.Everyone()
		case n < 10:
			m.Audience = broker.ToTopic(fmt.Sprint("topic", n%trafficTopics))
		default:
			m.Audience = broker.ToUser(fmt.Sprint("user", rand.IntN(clients)))
		}
		for ctx.Err() == nil {
			r, err := tr.try(tr.member(node), m)
			if err == nil {
				tr.add(publication{audience: m.Audience, data: m.Data, publisher: publisher, id: r.ID})
				break
			}
			if ctx.Err() != nil {
				tr.add(publication{audience: m.Audience, data: m.Data, publisher: publisher, err: err})
				return
			}
			node++
			select {
			case <-ctx.Done():
			case <-every.C:
			}
		}
	}
}

func (tr *traffic) try(m *member, msg broker.Message) (broker.Receipt, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	return m.Publish(ctx, msg)
}

func (tr *traffic) add(p publication) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.sent = append(tr.sent, p)
	if p.err == nil {
		now := time.Now()
		tr.pause, tr.lastAck = max(tr.pause, now.Sub(tr.lastAck)), now
	}
}

// insist publishes messages without a key on one node until ctx is done, each once
// and regardless of errors.
func (tr *traffic) insist(ctx context.Context, publisher int, m *member) {
	every := time.NewTicker(60 * time.Millisecond)
	defer every.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		msg := toAll(fmt.Sprint("publisher ", publisher, " insists ", i))
		begin := time.Now()
		r, err := m.Publish(context.Background(), msg)
		tr.add(publication{msg.Audience, msg.Data, publisher, r.ID, err, time.Since(begin)})
	}
}

// rejected returns the messages from insist that were not acknowledged.
func (tr *traffic) rejected() (all []publication) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, p := range tr.sent {
		if p.err != nil && p.took > 0 {
			all = append(all, p)
		}
	}
	return all
}

// pauses returns the longest pause between acknowledgments since the last call,
// including the current one.
func (tr *traffic) pauses() time.Duration {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	longest := max(tr.pause, time.Since(tr.lastAck))
	tr.pause = 0
	return longest
}

// acknowledged returns the number of acknowledged messages.
func (tr *traffic) acknowledged() (n int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, t := range tr.sent {
		if t.err == nil {
			n++
		}
	}
	return n
}

// flows waits until the given number of further messages are acknowledged.
func (tr *traffic) flows(more int) {
	tr.t.Helper()
	upTo := tr.acknowledged() + more
	eventually(tr.t, func() bool { return tr.acknowledged() >= upTo }, func() string {
		return fmt.Sprintf("only %d messages are acknowledged", tr.acknowledged())
	})
}

// follow makes a client read its stream, and reconnect to another node when the
// stream is closed, and sometimes earlier.
func (tr *traffic) follow(ctx context.Context, f *follower) {
	move := time.NewTicker(3*time.Second + rand.N(3*time.Second))
	defer move.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		if f.stream == nil {
			select {
			case <-ctx.Done():
				return
			case <-again.C:
			}
			node := rand.IntN(len(tr.members))
			_ = f.open(ctx, tr.member(node), node) // on failure it tries another
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-f.wire.more:
			f.read()
		case <-move.C:
			f.hangUp()
		}
	}
}

// finish stops the publishers, and checks that all nodes have the same events: each
// acknowledged message once and in its publisher's order, each other message at
// most once, and nothing else. It checks that each client receives its own events,
// without a reset.
func (tr *traffic) finish() {
	t := tr.t
	t.Helper()
	tr.stop()

	// Messages that were not acknowledged may still appear, after this one.
	end := toAll("end")
	last := tr.members[0].publish(t, end).ID
	tr.add(publication{audience: end.Audience, data: end.Data, publisher: endPublisher, id: last})
	var log []broker.Tapped
	for i, m := range tr.members {
		own := m.logFrom(t, tr.begin, last)
		if i == 0 {
			log = own
		}
		if !slices.EqualFunc(own, log, same) {
			t.Fatalf("node %d has other events than node 0: %d and %d", i, len(own), len(log))
		}
	}

	tr.checkLog(log)
	for _, f := range tr.followers {
		upTo := f.last(log)
		eventually(t, func() bool {
			if f.read(); f.stream == nil {
				_ = f.open(t.Context(), tr.members[f.node], f.node)
			}
			return sequence(f.lastID) >= upTo
		}, func() string { return fmt.Sprintf("%s doesn't reach %d, but %s", f, upTo, f.lastID) })
		f.got = slices.DeleteFunc(f.got, func(e received) bool { return e.seq > sequence(last) })
		f.check(t, log, func(received) bool { return false })
		f.hangUp()
	}

	t.Logf("%d of %d messages acknowledged", tr.acknowledged(), len(tr.sent))
}

// checkLog checks that log contains what was published.
func (tr *traffic) checkLog(log []broker.Tapped) {
	t := tr.t
	t.Helper()
	index := make(map[string]int) // by data, which is unique
	for i, m := range log {
		if j, twice := index[m.Data]; twice {
			t.Errorf("%q is in the event log twice, as %s and %s", m.Data, log[j].ID, m.ID)
		}
		index[m.Data] = i
	}

	found, order := 0, make(map[int]uint64)
	for _, p := range tr.sent {
		i, ok := index[p.data]
		switch {
		case p.err != nil && !ok:
			continue
		case p.err == nil && (!ok || log[i].ID != p.id || log[i].Audience != p.audience):
			t.Errorf("%q was acknowledged as %s and is missing", p.data, p.id)
			continue
		}
		found++
		if p.err != nil {
			continue
		}
		if at := sequence(p.id); at <= order[p.publisher] {
			t.Errorf("%q was published later, but is at %d, before %d", p.data, at, order[p.publisher])
		}
		order[p.publisher] = sequence(p.id)
	}

	if found != len(log) {
		t.Errorf("the event log has %d messages, %d of which were published", len(log), found)
	}
}

// logFrom returns a node's events after one id, up to another.
func (m *member) logFrom(tb testing.TB, after, upTo string) (log []broker.Tapped) {
	tb.Helper()
	tap, err := m.broker.Tap(broker.Audience{}, after)
	if err != nil {
		tb.Fatal(err)
	}
	defer tap.Close()
	at := ""
	eventually(tb, func() bool {
		batch, err := tap.Take()
		if err != nil || batch.Gap.Reason != "" {
			tb.Fatalf("cannot tap a node: %v, %v", batch.Gap, err)
		}
		log, at = append(log, batch.Messages...), batch.Position
		return sequence(at) >= sequence(upTo)
	}, func() string { return fmt.Sprintf("a node is at %s and doesn't reach %s", at, upTo) })
	return slices.DeleteFunc(log, func(e broker.Tapped) bool { return sequence(e.ID) > sequence(upTo) })
}

// unavailable reports whether err asks the publisher to retry.
func unavailable(err error) bool {
	_, ok := errors.AsType[*broker.UnavailableError](err)
	return ok
}
