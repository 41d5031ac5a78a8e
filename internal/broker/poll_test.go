package broker_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
)

// poller is the client of a poll, and the encoder of its response.
type poller struct {
	*client

	answers []broker.Batch
}

func (p *poller) Encode(b broker.Batch) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers = append(p.answers, b)
	text, err := json.Marshal(b)
	if err != nil {
		panic(err)
	}
	return text
}

// poll makes a poll that waits, if it must, over a connection with room for the given
// number of bytes; -1 for no limit. It returns the answer unless the poll is waiting.
func poll(t *testing.T, b *broker.Broker, sub broker.Subscription, wait time.Duration, room int) *poller {
	t.Helper()
	request := b.NewPoll(sub, wait)
	batch, answered, err := request.Read()
	if err != nil {
		t.Fatal(err)
	}
	p := &poller{client: &client{room: room}}
	if answered {
		p.answers = append(p.answers, batch)
		return p
	}
	p.wait(t, request)
	return p
}

// wait starts a poll that Read hasn't answered.
func (p *poller) wait(t *testing.T, request *broker.Poll) {
	t.Helper()
	p.stream = request.Stream()
	if err := request.Start(p, p); err != nil {
		t.Fatalf("start a poll: %v", err)
	}
}

// got returns the answers so far.
func (p *poller) got() []broker.Batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.answers)
}

// answer returns the only answer to a poll.
func (p *poller) answer(t *testing.T) broker.Batch {
	t.Helper()
	got := p.got()
	if len(got) != 1 {
		t.Fatalf("the poll got %d answers, want 1", len(got))
	}
	return got[0]
}

// pollText returns the data in a batch, preceded by the reason of its reset in brackets.
func pollText(b broker.Batch) string {
	var all []string
	if b.Reset != nil {
		all = append(all, "["+b.Reset.Reason+"]")
	}
	for _, e := range b.Events {
		all = append(all, e.Data)
	}
	return strings.Join(all, " ")
}

// TestPollReads checks that a poll without a wait gets what a stream would, and that the
// position continues from there.
func TestPollReads(t *testing.T) {
	for name, c := range map[string]struct {
		sub  broker.Subscription
		want string
	}{
		"now":                       {broker.Subscription{User: "alice"}, ""},
		"after an id":               {broker.Subscription{User: "alice", Topics: []string{"a"}, LastEventID: "ID2"}, "3 5 6"},
		"after an id with patterns": {broker.Subscription{Topics: []string{"*", "b.>"}, LastEventID: "ID2"}, "3 4 5"},
		"after the last id":         {broker.Subscription{LastEventID: "ID6"}, ""},
		"after an unknown id":       {broker.Subscription{LastEventID: "x-1"}, "[unknown]"},
		"after a malformed id":      {broker.Subscription{LastEventID: "?"}, "[unknown]"},
		"after an evicted id":       {broker.Subscription{Topics: []string{"busy"}, LastEventID: "ID2"}, "[expired]"},
		"all":                       {broker.Subscription{User: "alice", Topics: []string{"a", "b.x"}, Start: broker.SinceAll()}, "0 1 2 3 4 5 6"},
		"since a time":              {broker.Subscription{User: "alice", Start: broker.SinceAgo(2 * time.Minute)}, "5 6"},
		"since before the start":    {broker.Subscription{User: "alice", Start: broker.SinceAgo(time.Hour)}, "[expired] 0 1 5 6"},
		"rewind":                    {broker.Subscription{User: "alice", Topics: []string{"a"}, Start: broker.Rewind(3)}, "3 5 6"},
		"rewind with patterns":      {broker.Subscription{Topics: []string{"b.*"}, Start: broker.Rewind(2)}, "4 5"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := withHistory()
				cfg.Topics = []broker.TopicPolicy{{Pattern: "busy", MaxEvents: 1}}
				b := broker.New(cfg)
				defer b.Close()
				var ids []string
				for _, m := range []broker.Message{
					toAll("0"), toUser("alice", "1"), toTopic("a", "2"), toTopic("a", "3"), toTopic("b.x", "4"), toAll("5"), toUser("alice", "6"),
				} {
					ids = append(ids, publish(t, b, m).ID)
					time.Sleep(time.Minute)
				}
				if strings.Contains(c.want, "expired") && c.sub.LastEventID != "" {
					publish(t, b, toTopic("busy", "x"))
					publish(t, b, toTopic("busy", "y"))
				}
				if i, ok := strings.CutPrefix(c.sub.LastEventID, "ID"); ok {
					c.sub.LastEventID = ids[i[0]-'0']
				}
				given := c.sub.LastEventID

				got := poll(t, b, c.sub, 0, -1).answer(t)
				if pollText(got) != c.want {
					t.Errorf("got %q, want %q", pollText(got), c.want)
				}
				if got.Reset != nil && got.Reset.LastEventID != given {
					t.Errorf("the reset has the id %q, want %q", got.Reset.LastEventID, given)
				}
				if users := b.Users("", "", 10); len(users) != 0 || b.Stats().Total.Connected != 0 {
					t.Errorf("a poll that doesn't wait is counted as a connection: %v", users)
				}

				c.sub.LastEventID, c.sub.Start = got.Position, broker.Start{}
				publish(t, b, toAll("next"))
				if next := poll(t, b, c.sub, 0, -1).answer(t); pollText(next) != "next" {
					t.Errorf("the next poll got %q, want next", pollText(next))
				}
			})
		})
	}
}

// TestPollDescribesEvents checks the fields of events, positions and counters.
func TestPollDescribesEvents(t *testing.T) {
	b := broker.New(withHistory())
	defer b.Close()
	start := poll(t, b, broker.Subscription{}, 0, -1).answer(t).Position
	if id, err := b.Position(); start != id || err != nil {
		t.Errorf("an empty poll has the position %q, want %q", start, id)
	}
	all := publish(t, b, broker.Message{Audience: broker.Everyone(), Data: "a\r\nb", Event: "price"})
	topic := publish(t, b, toTopic("orders.7", "c"))
	publish(t, b, toTopic("other", "d"))

	got := poll(t, b, broker.Subscription{Topics: []string{"orders.*"}, LastEventID: start}, 0, -1).answer(t)
	if len(got.Events) != 2 {
		t.Fatalf("got %+v, want two events", got)
	}
	if e := got.Events[0]; e.ID != all.ID || e.Event != "price" || e.Data != "a\nb" || !e.Audience.IsEveryone() {
		t.Errorf("the broadcast is %+v", e)
	}
	if e := got.Events[1]; e.ID != topic.ID || e.Event != "topic" || e.Data != "c" || e.Audience != broker.ToTopic("orders.7") {
		t.Errorf("the topic's event is %+v", e)
	}
	if id, _ := b.Position(); got.Position != id {
		t.Errorf("the position is %q, want that of an event for others, %q", got.Position, id)
	}
	want := map[string]int64{"events": 1, "empty": 1, "reset": 0, "abandoned": 0}
	if p := b.Polls(); fmt.Sprint(p.Answered) != fmt.Sprint(want) || b.Stats().Total.Delivered != 2 {
		t.Errorf("polls %+v, delivered %d, want %v and 2", p, b.Stats().Total.Delivered, want)
	}
}

// TestPollWaits checks that a poll waits for an event, is counted in the meantime, and
// gets everything that the shard has at that moment.
func TestPollWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
		defer b.Close()
		sub := broker.Subscription{User: "alice", Topics: []string{"a", "b.*"}}
		p := poll(t, b, sub, 20*time.Second, -1)
		time.Sleep(10 * time.Second)
		if n := b.Polls().Waiting; n != 1 || len(p.got()) > 0 || b.Stats().Total.Connections != 1 {
			t.Fatalf("%d polls wait, answers %v", n, p.got())
		}
		publish(t, b, toTopic("other", "not for it"))
		synctest.Wait()
		r := publish(t, b, toTopic("b.x", "one"))
		publish(t, b, toAll("two"))
		if r.Recipients != 1 {
			t.Errorf("the event has %d recipients, want the poll", r.Recipients)
		}
		synctest.Wait()

		got := p.answer(t)
		if s := pollText(got); s != "one" && s != "one two" {
			t.Fatalf("got %q, want one, and perhaps two", s)
		}
		if closed, why := p.closed(); !closed || why != broker.Answered || got.Reason != broker.Answered || p.text() == "" {
			t.Errorf("closed %v, reasons %v and %v, body %q", closed, why, got.Reason, p.text())
		}
		if n := b.Polls().Waiting; n != 0 || len(b.Users("", "", 1)) != 0 {
			t.Errorf("%d polls wait after the answer", n)
		}
		s := b.Stats().Total
		if s.Disconnected["answered"] != 1 || s.QueuedBytes != 0 || len(s.Dropped) != 0 || s.Delivered != int64(len(got.Events)) {
			t.Errorf("stats %+v", s)
		}
		if n := b.Latency(); n.Sum > 1 || n.Counts[0] == 0 && n.Counts[1] == 0 {
			t.Errorf("latency %+v", n)
		}

		sub.LastEventID = got.Position
		rest := poll(t, b, sub, 0, -1).answer(t)
		if s := strings.TrimSpace(pollText(got) + " " + pollText(rest)); s != "one two" {
			t.Errorf("two polls got %q, want one two", s)
		}
	})
}

// TestPollWaitEnds checks when a poll without events is answered, and with what position.
func TestPollWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
		defer b.Close()
		polls := map[time.Duration]*poller{}
		for _, wait := range []time.Duration{time.Nanosecond, 100 * time.Millisecond, 20 * time.Second, time.Minute} {
			polls[wait] = poll(t, b, broker.Subscription{User: wait.String()}, wait, -1)
		}
		for i := range 40 {
			time.Sleep(time.Second)
			publish(t, b, toTopic("other", fmt.Sprint(i)))
		}
		for wait, p := range polls {
			if wait > 40*time.Second {
				if len(p.got()) > 0 {
					t.Errorf("a wait of %v ended early", wait)
				}
				time.Sleep(21 * time.Second)
			}
		}
		end, _ := b.Position()
		for wait, p := range polls {
			got := p.answer(t)
			if pollText(got) != "" || got.Reason != broker.Answered {
				t.Errorf("after %v: %+v", wait, got)
			}
			if wait == time.Minute && got.Position != end {
				t.Errorf("after %v the position is %q, want %q", wait, got.Position, end)
			}
		}
		if p := b.Polls(); p.Answered["empty"] != 4 || p.Waiting != 0 {
			t.Errorf("polls %+v", p)
		}
	})
}

// TestPollIsBounded checks that neither a read nor a wait returns too much, and that the
// position continues after it.
func TestPollIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, size := range map[string]int{"many": 1, "large": 30 << 10} {
			for _, topics := range [][]string{{"t.1"}, {"t.*"}} {
				cfg := withHistory()
				cfg.History.MaxBytes = 64 << 20
				b := broker.New(cfg)
				begin, _ := b.Position()
				var want []string
				for i := range 1000 {
					if size > 1 && i == 100 {
						break
					}
					want = append(want, fmt.Sprint(i)+strings.Repeat(".", size))
					publish(t, b, toTopic("t.1", want[i]))
				}
				var got []string
				sub := broker.Subscription{Topics: topics, LastEventID: begin}
				for polls := 0; len(got) < len(want); polls++ {
					batch := poll(t, b, sub, time.Minute, -1).answer(t)
					if n := len(batch.Events); n == 0 || n > 256 || size > 1 && n > 6 {
						t.Fatalf("%s: poll %d got %d events", name, polls, n)
					}
					for _, e := range batch.Events {
						got = append(got, e.Data)
					}
					sub.LastEventID = batch.Position
				}
				if strings.Join(got, " ") != strings.Join(want, " ") {
					t.Errorf("%s: got %d events, want %d in order", name, len(got), len(want))
				}

				sub.LastEventID = ""
				waiting := poll(t, b, sub, time.Minute, -1)
				for i := range 600 {
					publish(t, b, toTopic("t.1", fmt.Sprint(i)+strings.Repeat(".", size)))
				}
				synctest.Wait()
				if n := len(waiting.answer(t).Events); n > 256 || size > 1 && n > 6 {
					t.Errorf("%s: a waiting poll got %d events", name, n)
				}
				b.Close()
			}
		}
	})
}

// TestPollWithManyScans checks that a poll with patterns reads as much as others.
func TestPollWithManyScans(t *testing.T) {
	cfg := withHistory()
	cfg.History = broker.History{MaxEvents: 50_000, MaxBytes: 1 << 30}
	b := broker.New(cfg)
	defer b.Close()
	for i := range 30_000 {
		topic := "other"
		if i%3000 == 0 {
			topic = "mine"
		}
		publish(t, b, toTopic(topic, fmt.Sprint(i)))
	}
	got := poll(t, b, broker.Subscription{Topics: []string{"m*", "mine.>", "*.x", "mine"}, Start: broker.SinceAll()}, 0, -1).answer(t)
	if len(got.Events) != 10 {
		t.Errorf("got %d events, want 10", len(got.Events))
	}
}
