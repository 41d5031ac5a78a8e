package broker_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
)

// TestPollsAgainstModel lets clients poll at random, with and without waiting, while
// events are published at random. Each client must get every event that it is entitled
// to exactly once and in order, or a reset if any is missing, in whichever way its polls
// end.
func TestPollsAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) { checkPolls(t, rt) })
	})
}

// pollingClient is a client that polls.
type pollingClient struct {
	sub      broker.Subscription
	poller   *poller  // of the poll that waits; nil for none
	got      []string // since its last reset
	from     int      // the event that follows its last reset
	position string
}

// pollWorld is the state of checkPolls.
type pollWorld struct {
	ctx     context.Context
	broker  *broker.Broker
	clients []*pollingClient
	sent    []broker.Message
	ids     []string
	kept    int // the maximum number of events in the history
	events  int // published; a message for several topics is several
}

func checkPolls(t *testing.T, rt *rapid.T) {
	cfg := config()
	w := &pollWorld{ctx: t.Context(), kept: rapid.SampledFrom([]int{20, 2000}).Draw(rt, "history")}
	cfg.History = broker.History{MaxEvents: w.kept, MaxBytes: 1 << 24}
	w.broker = broker.New(cfg)
	defer w.broker.Close()
	for i := range 6 {
		c := &pollingClient{sub: broker.Subscription{User: []string{"", "a", "b"}[i%3]}}
		c.sub.Topics = [][]string{nil, {"t.1"}, {"t.*"}, {"t.1", "t.2"}, {">"}, {"t.2", "u"}}[i]
		w.clients = append(w.clients, c)
		w.poll(rt, c, 0)
	}

	for range rapid.IntRange(1, 60).Draw(rt, "steps") {
		c := w.clients[rapid.IntRange(0, len(w.clients)-1).Draw(rt, "client")]
		switch rapid.SampledFrom([]string{"publish", "publish", "poll", "poll", "wait", "leave", "sleep", "settle", "drain", "disconnect"}).Draw(rt, "step") {
		case "publish":
			w.publish(rt)
		case "poll":
			w.poll(rt, c, 0)
		case "wait":
			w.poll(rt, c, time.Duration(rapid.IntRange(1, 60_000).Draw(rt, "wait"))*time.Millisecond)
		case "leave":
			if c.poller != nil {
				c.poller.stream.HangUp()
				synctest.Wait()
				w.collect(rt, c)
				c.poller = nil
			}
		case "sleep":
			time.Sleep(time.Duration(rapid.IntRange(1, 30_000).Draw(rt, "sleep")) * time.Millisecond)
		case "drain":
			if err := w.broker.Drain(w.ctx, 0); err != nil {
				rt.Fatal(err)
			}
		case "disconnect":
			_, _ = w.broker.Disconnect("a", 0)
		default:
			synctest.Wait()
		}
	}

	for _, c := range w.clients {
		for range 100 {
			w.poll(rt, c, 0)
		}
		if want := w.entitled(c, c.from); !slices.Equal(c.got, want) {
			rt.Fatalf("%+v got %q since event %d, want %q", c.sub, c.got, c.from, want)
		}
	}
}

// publish publishes a few events.
func (w *pollWorld) publish(rt *rapid.T) {
	audiences := []broker.Audience{
		broker.Everyone(), broker.ToUser("a"), broker.ToUser("b"), broker.ToUser("c"), broker.ToTopic("t.1"), broker.ToTopic("t.2"), broker.ToTopic("u"), broker.ToTopic("v.1"),
	}
	to := rapid.SampledFrom(audiences).Draw(rt, "audience")
	for range rapid.SampledFrom([]int{1, 1, 3, 30, 300}).Draw(rt, "events") {
		m := broker.Message{Audience: to, Data: fmt.Sprint(len(w.sent))}
		if name, ok := to.Topic(); ok {
			m.SetTopics(append(rapid.SampledFrom([][]string{nil, {"t.1"}, {"t.2", "u"}, {"v.1"}}).Draw(rt, "topics"), name))
		}
		if _, ok := to.User(); !ok {
			m.ExcludeUser = rapid.SampledFrom([]string{"", "", "a", "b"}).Draw(rt, "excluded")
		}
		r, err := w.broker.Publish(w.ctx, m)
		if err != nil {
			rt.Fatal(err)
		}
		w.sent, w.ids = append(w.sent, m), append(w.ids, r.ID)
		w.events += 1 + len(m.Topics)
	}
}

// poll makes a poll, once the client's earlier one has ended.
func (w *pollWorld) poll(rt *rapid.T, c *pollingClient, wait time.Duration) {
	if c.poller != nil {
		synctest.Wait()
		if w.collect(rt, c); c.poller != nil {
			return // it still waits
		}
	}
	c.sub.LastEventID = c.position
	request := w.broker.NewPoll(c.sub, wait)
	batch, answered, err := request.Read()
	if err != nil {
		rt.Fatal(err)
	}
	if answered {
		w.take(rt, c, batch)
		return
	}
	p := &poller{client: &client{room: -1, stream: request.Stream()}}
	if err := request.Start(p, p); err != nil {
		rt.Fatal(err)
	}
	c.poller = p
}

// collect takes the answer to a client's poll, if it has been answered.
func (w *pollWorld) collect(rt *rapid.T, c *pollingClient) {
	if answers := c.poller.got(); len(answers) == 1 {
		w.take(rt, c, answers[0])
		c.poller = nil
	}
}

// take checks an answer.
func (w *pollWorld) take(rt *rapid.T, c *pollingClient, batch broker.Batch) {
	if batch.Position == "" || len(batch.Events) > 256 {
		rt.Fatalf("%d events at %q", len(batch.Events), batch.Position)
	}
	if batch.Reset != nil {
		if batch.Reset.Reason != broker.ResetExpired || w.events <= w.kept {
			rt.Fatalf("%+v got the reset %+v", c.sub, batch.Reset)
		}
		c.got, c.from = nil, int(sequence(batch.Position))
	}
	if c.position == "" {
		c.from = int(sequence(batch.Position))
	}
	for _, e := range batch.Events {
		c.got = append(c.got, e.Data)
		if e.ID != w.ids[sequence(e.ID)-1] {
			rt.Fatalf("the event %q has the id %q", e.Data, e.ID)
		}
	}
	if sequence(batch.Position) > uint64(len(w.sent)) {
		rt.Fatalf("the position is %q after %d events", batch.Position, len(w.sent))
	}
	c.position = batch.Position
}

// entitled returns the events for a client after the first ones.
func (w *pollWorld) entitled(c *pollingClient, from int) (data []string) {
	for _, m := range w.sent[from:] {
		if belongs(c.sub, m) {
			data = append(data, m.Data)
		}
	}
	return data
}

// belongs reports whether a subscription gets a message.
func belongs(sub broker.Subscription, m broker.Message) bool {
	if m.ExcludeUser != "" && m.ExcludeUser == sub.User {
		return false
	}
	if user, ok := m.Audience.User(); ok {
		return user == sub.User
	}
	first, ok := m.Audience.Topic()
	return !ok || slices.ContainsFunc(append([]string{first}, m.Topics...), func(topic string) bool {
		return slices.ContainsFunc(sub.Topics, func(p string) bool { return broker.Covers(p, topic) })
	})
}
