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

// traffic is publishers and clients of a cluster, to whose nodes things happen
// meanwhile.
type traffic struct {
	t           *testing.T
	begin       string // the event that it all comes behind
	publishing  sync.WaitGroup
	following   sync.WaitGroup
	stopPublish context.CancelFunc
	stopFollow  context.CancelFunc
	followers   []*follower

	mu      sync.Mutex
	members []*member
	told    []told
	lastAck time.Time
	pause   time.Duration // the longest between two acknowledgements, since it was last asked for
}

// told is what became of a message.
type told struct {
	audience  broker.Audience
	data      string
	publisher int
	id        string
	err       error
	took      time.Duration
}

// trafficTopics is how many topics there are; client i has topic i modulo that.
const trafficTopics = 3

// endPublisher is who publishes the last message.
const endPublisher = -100

// newTraffic begins with some clients, spread over the nodes, and publishers, who
// go on to another node when one doesn't take a message: each message has a key
// and is repeated until it is acknowledged.
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

// stop ends all publishers and clients. To stop again does nothing.
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

// replace has a node that was started anew take the place of the old one.
func (tr *traffic) replace(node int, m *member) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.members[node] = m
}

// leader is the node that leads the log, as the others see it.
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

// publish publishes, to each audience in its turn.
func (tr *traffic) publish(ctx context.Context, publisher, clients int) {
	every := time.NewTicker(20 * time.Millisecond)
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
				tr.tell(told{audience: m.Audience, data: m.Data, publisher: publisher, id: r.ID})
				break
			}
			if ctx.Err() != nil {
				tr.tell(told{audience: m.Audience, data: m.Data, publisher: publisher, err: err})
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

func (tr *traffic) tell(what told) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.told = append(tr.told, what)
	if what.err == nil {
		now := time.Now()
		tr.pause, tr.lastAck = max(tr.pause, now.Sub(tr.lastAck)), now
	}
}

// insist publishes messages without a key on one node, each once and whatever
// becomes of it, until ctx ends.
func (tr *traffic) insist(ctx context.Context, publisher int, m *member) {
	every := time.NewTicker(20 * time.Millisecond)
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
		tr.tell(told{msg.Audience, msg.Data, publisher, r.ID, err, time.Since(begin)})
	}
}

// refused are the messages of those who insisted that were not acknowledged.
func (tr *traffic) refused() (all []told) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, told := range tr.told {
		if told.err != nil && told.took > 0 {
			all = append(all, told)
		}
	}
	return all
}

// pauses returns the longest pause between acknowledgements since the last call,
// the one included that lasts.
func (tr *traffic) pauses() time.Duration {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	longest := max(tr.pause, time.Since(tr.lastAck))
	tr.pause = 0
	return longest
}

// acknowledged is how many messages were.
func (tr *traffic) acknowledged() (n int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, t := range tr.told {
		if t.err == nil {
			n++
		}
	}
	return n
}

// flows waits until some more messages are acknowledged.
func (tr *traffic) flows(more int) {
	tr.t.Helper()
	upTo := tr.acknowledged() + more
	eventually(tr.t, func() bool { return tr.acknowledged() >= upTo }, func() string {
		return fmt.Sprintf("%d messages are acknowledged, and no more", tr.acknowledged())
	})
}

// follow has a client read its stream and, when that ends, and now and then
// before, go on at another node.
func (tr *traffic) follow(ctx context.Context, f *follower) {
	leaves := time.NewTicker(3*time.Second + rand.N(3*time.Second))
	defer leaves.Stop()
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
			_ = f.open(ctx, tr.member(node), node) // else it tries another
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-f.wire.more:
			f.read()
		case <-leaves.C:
			f.hangUp()
		}
	}
}

// finish ends the publishers, and holds that all nodes have the same log, in which
// stands what was acknowledged, in each publisher's order, and once; what was not,
// at most once; and nothing else; and that each client gets what is its own of
// that, without a reset.
func (tr *traffic) finish() {
	t := tr.t
	t.Helper()
	tr.stop()
	// What was not acknowledged may come yet, behind that.
	end := toAll("end")
	last := tr.members[0].publish(t, end).ID
	tr.tell(told{audience: end.Audience, data: end.Data, publisher: endPublisher, id: last})
	var log []broker.Tapped
	for i, m := range tr.members {
		own := m.logFrom(t, tr.begin, last)
		if i == 0 {
			log = own
		}
		if !slices.EqualFunc(own, log, same) {
			t.Fatalf("node %d has another log than node 0, of %d and %d messages", i, len(own), len(log))
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
		}, func() string { return fmt.Sprintf("%s never gets to %d, but to %s", f, upTo, f.lastID) })
		f.got = slices.DeleteFunc(f.got, func(e arrived) bool { return e.seq > sequence(last) })
		f.check(t, log, func(arrived) bool { return false })
		f.hangUp()
	}
	t.Logf("%d of %d messages acknowledged", tr.acknowledged(), len(tr.told))
}

// checkLog holds that a log is what was published.
func (tr *traffic) checkLog(log []broker.Tapped) {
	t := tr.t
	t.Helper()
	places := make(map[string]int) // by data, which is different for each message
	for i, m := range log {
		if j, twice := places[m.Data]; twice {
			t.Errorf("%q is in the log twice, as %s and as %s", m.Data, log[j].ID, m.ID)
		}
		places[m.Data] = i
	}
	found, order := 0, make(map[int]uint64)
	for _, told := range tr.told {
		i, ok := places[told.data]
		switch {
		case told.err != nil && !ok:
			continue
		case told.err == nil && (!ok || log[i].ID != told.id || log[i].Audience != told.audience):
			t.Errorf("%q was acknowledged as %s and is not there", told.data, told.id)
			continue
		}
		found++
		if told.err != nil {
			continue
		}
		if at := sequence(told.id); at <= order[told.publisher] {
			t.Errorf("%q, published later, stands at %d, before %d", told.data, at, order[told.publisher])
		}
		order[told.publisher] = sequence(told.id)
	}
	if found != len(log) {
		t.Errorf("%d messages are in the log, and %d of them were published", len(log), found)
	}
}

// logFrom is a node's log behind one event up to another.
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
			tb.Fatalf("a node's log can't be read: %v, %v", batch.Gap, err)
		}
		log, at = append(log, batch.Messages...), batch.Position
		return sequence(at) >= sequence(upTo)
	}, func() string { return fmt.Sprintf("a node is at %s, and never gets to %s", at, upTo) })
	return slices.DeleteFunc(log, func(e broker.Tapped) bool { return sequence(e.ID) > sequence(upTo) })
}

// unavailable says whether an error tells a publisher to try again.
func unavailable(err error) bool {
	_, ok := errors.AsType[*broker.UnavailableError](err)
	return ok
}
