package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
)

// TestResumeOnReplicasWithDifferentHistories moves clients between replicas of one log
// whose histories differ: they have other limits and policies, one started later, and
// another has compressed copies. A client gets all its events, or a reset.
func TestResumeOnReplicasWithDifferentHistories(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) {
			l := newSharedLog(rt)
			for _, node := range l.nodes {
				defer node.Close()
			}
			rt.Repeat(map[string]func(*rapid.T){
				"publish": func(rt *rapid.T) {
					for range rapid.IntRange(1, 30).Draw(rt, "n") {
						l.publish(rt)
					}
				},
				"wait":   func(rt *rapid.T) { time.Sleep(time.Duration(rapid.IntRange(1, 40).Draw(rt, "seconds")) * time.Second) },
				"resume": l.resume,
			})
		})
	})
}

type sharedLog struct {
	nodes     []*broker.Broker
	published []published
	seq       uint64
	readers   []*hopper
}

// hopper is a client that connects to any of the nodes, reads what it missed, and
// disconnects.
type hopper struct {
	reader

	pos uint64
}

func newSharedLog(rt *rapid.T) *sharedLog {
	l := &sharedLog{seq: 10}
	for range 3 {
		cfg := config()
		cfg.Replica = true
		cfg.History = broker.History{
			MaxEvents: rapid.SampledFrom([]int{1, 5, 20, 1000}).Draw(rt, "events"),
			MaxBytes:  rapid.SampledFrom([]int{3_000, 1 << 20}).Draw(rt, "bytes"),
			MaxAge:    rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(rt, "age"),
		}
		cfg.Topics = drawPolicies(rt)
		l.nodes = append(l.nodes, broker.New(cfg))
	}
	for range 50 { // the last node starts after some of these
		l.add(rt)
	}
	skipped := rapid.IntRange(0, len(l.published)).Draw(rt, "skipped")
	for i, node := range l.nodes {
		after := 0
		if i == len(l.nodes)-1 {
			after = skipped
		}
		first := l.seq + 1
		if after < len(l.published) {
			first = l.published[after].seq
		}
		node.Begin("log", first)
		for _, p := range l.published[after:] {
			l.apply(rt, node, p)
		}
		node.Resume()
	}
	// A client with gzip makes the first node keep compressed copies.
	c := &client{room: -1, form: broker.Opening{Gzip: true}}
	c.stream = l.nodes[0].NewStream(broker.Subscription{Topics: []string{">"}})
	if err := c.stream.Start(c, c.form); err != nil {
		rt.Fatal(err)
	}

	for _, topics := range [][]string{nil, {"a", "c"}, {"a.*"}, {">"}, {"a.b", "*"}} {
		l.readers = append(l.readers, &hopper{reader: reader{topics: topics}, pos: l.seq})
	}
	return l
}

// add adds a message to the log.
func (l *sharedLog) add(rt *rapid.T) published {
	l.seq += uint64(rapid.IntRange(1, 2).Draw(rt, "step"))
	p := published{seq: l.seq, audience: rapid.SampledFrom([]string{"", "topic:a", "topic:a", "topic:a", "topic:a.b", "topic:c"}).Draw(rt, "audience")}
	if p.audience != "" && rapid.Bool().Draw(rt, "several") {
		p.topics = rapid.SampledFrom([][]string{{"c.d"}, {"b", "a.c"}}).Draw(rt, "topics")
	}
	l.published = append(l.published, p)
	return p
}

func (l *sharedLog) apply(rt *rapid.T, node *broker.Broker, p published) {
	m := broker.Message{Audience: broker.Everyone(), Data: strings.Repeat("x", 50)}
	if topic, ok := strings.CutPrefix(p.audience, "topic:"); ok {
		m.Audience, m.Topics = broker.ToTopic(topic), p.topics
	}
	if _, err := node.Apply(rt.Context(), &broker.Entry{Seq: p.seq, At: time.Now(), Message: m}); err != nil {
		rt.Fatal(err)
	}
}

func (l *sharedLog) publish(rt *rapid.T) {
	p := l.add(rt)
	for _, node := range l.nodes {
		l.apply(rt, node, p)
	}
}

// resume connects a client to a node until it has caught up.
func (l *sharedLog) resume(rt *rapid.T) {
	h := rapid.SampledFrom(l.readers).Draw(rt, "client")
	node := rapid.SampledFrom(l.nodes).Draw(rt, "node")
	var want []uint64
	for _, p := range l.published {
		if p.seq > h.pos && h.entitled(p) {
			want = append(want, p.seq)
		}
	}

	c := &client{room: -1}
	c.stream = node.NewStream(broker.Subscription{Topics: h.topics, LastEventID: fmt.Sprint("log-", h.pos)})
	if err := c.stream.Start(c, c.form); err != nil {
		rt.Fatal(err)
	}
	synctest.Wait()
	defer c.stream.HangUp()

	var got []uint64
	for _, e := range c.events() {
		if e.typ == "peald.reset" {
			// A topic that has given up an event for several may cause a reset.
			several := slices.ContainsFunc(l.published, func(p published) bool { return p.seq > h.pos && len(p.topics) > 0 })
			if len(want) > 0 && slices.Equal(got, want) && !several {
				rt.Errorf("topics %q: a reset follows all events after %d", h.topics, h.pos)
			}
			h.pos = l.seq
			return
		}
		got = append(got, sequence(e.id))
	}
	if !slices.Equal(got, want) {
		rt.Fatalf("topics %q: got %d after %d without a reset, want %d", h.topics, got, h.pos, want)
	}
	h.pos = l.seq
}
