package broker_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
)

// TestPollEndsEarly checks how polls are answered that the broker closes.
func TestPollEndsEarly(t *testing.T) {
	for name, c := range map[string]struct {
		sub  broker.Subscription
		stop func(t *testing.T, b *broker.Broker)
		want broker.Reason
	}{
		"drain": {stop: func(t *testing.T, b *broker.Broker) {
			if err := b.Drain(t.Context(), time.Second); err != nil {
				t.Error(err)
			}
		}, want: broker.Drained},
		"close": {stop: func(_ *testing.T, b *broker.Broker) { b.Close() }, want: broker.Shutdown},
		"disconnect": {sub: broker.Subscription{User: "alice"}, stop: func(_ *testing.T, b *broker.Broker) {
			b.Disconnect("alice", 0)
		}, want: broker.Disconnected},
		"token": {sub: broker.Subscription{Expires: time.Date(2000, 1, 1, 0, 0, 5, 0, time.UTC)}, stop: func(*testing.T, *broker.Broker) {
			time.Sleep(6 * time.Second)
		}, want: broker.Expired},
		"suspend": {stop: func(_ *testing.T, b *broker.Broker) {
			b.Suspend(time.Second)
			time.Sleep(2 * time.Second)
		}, want: broker.Suspended},
		"another log": {stop: func(_ *testing.T, b *broker.Broker) { b.Begin("def", 1) }, want: broker.Suspended},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := replica()
				defer b.Close()
				b.Begin("abc", 1)
				b.Resume()
				apply(t, b, 1, time.Now(), toTopic("x", "earlier"))
				p := poll(t, b, c.sub, time.Minute, -1)
				synctest.Wait()
				c.stop(t, b)
				synctest.Wait()
				got := p.answer(t)
				if pollText(got) != "" || got.Position != "abc-1" || got.Reason != c.want {
					t.Errorf("got %+v, want nothing, at abc-1, because of %v", got, c.want)
				}
				if closed, why := p.closed(); !closed || why != c.want || p.text() == "" {
					t.Errorf("closed %v, %v with %q", closed, why, p.text())
				}
				if n := b.Polls().Waiting; n != 0 {
					t.Errorf("%d polls wait", n)
				}
				if s := b.Stats().Total; s.Disconnected[c.want.String()] != 1 || s.Connections != 0 {
					t.Errorf("stats %+v", s)
				}
			})
		})
	}
}

// TestPollIsRefused checks that a broker that accepts no streams answers no polls.
func TestPollIsRefused(t *testing.T) {
	r := replica()
	defer r.Close()
	if _, _, err := r.NewPoll(broker.Subscription{}, 0).Read(); !errors.Is(err, broker.ErrSuspended) {
		t.Errorf("a suspended replica returns %v", err)
	}
	b := broker.New(config())
	waiting := b.NewPoll(broker.Subscription{}, time.Second)
	if _, answered, err := waiting.Read(); answered || err != nil {
		t.Errorf("answered %v, %v", answered, err)
	}
	b.Close()
	if _, _, err := b.NewPoll(broker.Subscription{}, 0).Read(); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("a closed broker returns %v", err)
	}
	p := &poller{client: &client{}}
	if err := waiting.Start(p, p); !errors.Is(err, broker.ErrClosed) || b.Polls().Waiting != 0 {
		t.Errorf("a closed broker starts a poll: %v", err)
	}
}

// TestPollWhoseClientLeaves checks that such polls are closed and counted.
func TestPollWhoseClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
		defer b.Close()
		p := poll(t, b, broker.Subscription{User: "alice"}, time.Minute, -1)
		early := &poller{client: &client{room: -1}}
		request := b.NewPoll(broker.Subscription{}, time.Minute)
		if _, _, err := request.Read(); err != nil {
			t.Fatal(err)
		}
		request.Stream().HangUp() // before it starts
		early.wait(t, request)
		broken := poll(t, b, broker.Subscription{}, time.Minute, -1)
		broken.fail()
		synctest.Wait()
		p.stream.HangUp()
		synctest.Wait()
		publish(t, b, toAll("x"))
		synctest.Wait()
		for name, want := range map[*poller]broker.Reason{p: broker.HungUp, early: broker.HungUp, broken: broker.WriteFailed} {
			if closed, why := name.closed(); !closed || why != want {
				t.Errorf("closed %v, %v; want %v", closed, why, want)
			}
		}
		if got := b.Polls(); got.Waiting != 0 || got.Answered["abandoned"] != 2 || got.Answered["events"] != 1 {
			t.Errorf("polls %+v, want two abandoned", got)
		}
	})
}

// TestPollThatIsReadSlowly checks that a response is completed, or cut off if its client
// accepts nothing.
func TestPollThatIsReadSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
		defer b.Close()
		slow := poll(t, b, broker.Subscription{}, time.Minute, 5)
		stuck := poll(t, b, broker.Subscription{}, time.Minute, 5)
		synctest.Wait()
		publish(t, b, toAll("hello"))
		synctest.Wait()
		publish(t, b, toAll("too late"))
		for range 3 {
			time.Sleep(20 * time.Second)
			slow.drain(20)
		}
		slow.drain(-1)
		synctest.Wait()
		var got broker.Batch
		if err := json.Unmarshal([]byte(slow.text()), &got); err != nil || pollText(got) != "hello" {
			t.Errorf("got %q, %v", slow.text(), err)
		}
		for p, want := range map[*poller]broker.Reason{slow: broker.Answered, stuck: broker.WriteTimeout} {
			if closed, why := p.closed(); !closed || why != want {
				t.Errorf("closed %v, %v; want %v", closed, why, want)
			}
		}
	})
}

// TestPollBetweenReadAndWait checks that nothing that is published, begun or ended after
// Read is missed.
func TestPollBetweenReadAndWait(t *testing.T) {
	for name, c := range map[string]struct {
		sub    broker.Subscription
		change func(t *testing.T, b *broker.Broker)
		want   string
	}{
		"an event":        {broker.Subscription{}, func(t *testing.T, b *broker.Broker) { apply(t, b, 2, time.Now(), toAll("x")) }, "x"},
		"another's event": {broker.Subscription{}, func(t *testing.T, b *broker.Broker) { apply(t, b, 2, time.Now(), toUser("bob", "x")) }, "wait"},
		"an eviction": {broker.Subscription{Topics: []string{"t.*"}}, func(t *testing.T, b *broker.Broker) {
			for i := range 300 {
				apply(t, b, uint64(2+i), time.Now(), toTopic("t.1", strings.Repeat("x", 100)))
			}
		}, "[expired]"},
		"events far away": {broker.Subscription{Topics: []string{"*.mine"}}, func(t *testing.T, b *broker.Broker) {
			apply(t, b, 2, time.Now(), toTopic("x.other", "x"))
			for i := range 5000 { // more than are checked at once
				apply(t, b, uint64(3+i), time.Now(), toTopic(fmt.Sprint("x.", i), "x"))
			}
			apply(t, b, 6000, time.Now(), toTopic("x.mine", "x"))
			time.Sleep(time.Second)
		}, "later"},
		"another log": {broker.Subscription{}, func(_ *testing.T, b *broker.Broker) {
			b.Begin("def", 1)
			b.Resume()
		}, ""},
		"an end": {broker.Subscription{Topics: []string{"t"}}, func(t *testing.T, b *broker.Broker) {
			m := toTopic("t", "last")
			m.Final = true
			apply(t, b, 2, time.Now(), m)
		}, `last {"topic":"t"}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := config()
				cfg.Replica, cfg.History = true, broker.History{MaxEvents: 100, MaxBytes: 1 << 20}
				if c.want == "later" {
					cfg.History = broker.History{MaxEvents: 10_000, MaxBytes: 64 << 20}
				}
				b := broker.New(cfg)
				defer b.Close()
				b.Begin("abc", 1)
				b.Resume()
				apply(t, b, 1, time.Now(), toAll("earlier"))
				request := b.NewPoll(c.sub, time.Minute)
				if _, answered, err := request.Read(); answered || err != nil {
					t.Fatal(answered, err)
				}
				c.change(t, b)
				p := &poller{client: &client{room: -1}}
				p.wait(t, request)
				synctest.Wait()
				if c.want == "wait" {
					if len(p.got()) > 0 {
						t.Errorf("got %+v, want to wait", p.got())
					}
					return
				}
				if c.want == "later" {
					c.sub.LastEventID = p.answer(t).Position
					if got := poll(t, b, c.sub, 0, -1).answer(t); len(p.answer(t).Events) != 0 || pollText(got) != "x" {
						t.Errorf("got %+v, and then %+v", p.answer(t), got)
					}
					return
				}
				if got := p.answer(t); pollText(got) != c.want || name == "another log" && got.Position != "abc-1" {
					t.Errorf("got %q at %s, want %q", pollText(got), got.Position, c.want)
				}
			})
		})
	}
}

// TestPollOfTopicThatEnds checks that polls report the end of a topic.
func TestPollOfTopicThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
		defer b.Close()
		last := toTopic("job.1", "last")
		last.Final = true
		alone := poll(t, b, broker.Subscription{Topics: []string{"job.1"}}, time.Minute, -1)
		other := poll(t, b, broker.Subscription{Topics: []string{"job.*"}}, time.Minute, -1)
		synctest.Wait()
		publish(t, b, last)
		synctest.Wait()
		const want = `last {"topic":"job.1"}`
		for _, p := range []*poller{alone, other} {
			got := p.answer(t)
			if pollText(got) != want || got.Events[1].Event != "peald.end" || got.Events[1].Audience != broker.ToTopic("job.1") || got.Events[1].Time() != "" {
				t.Errorf("got %+v, want %s", got, want)
			}
		}
		for sub, want := range map[*broker.Subscription]string{
			{Topics: []string{"job.1"}}:                                        `{"topic":"job.1"}`,
			{Topics: []string{"job.1"}, Start: broker.SinceAll()}:              want,
			{Topics: []string{"job.1", "job.2"}, Start: broker.SinceAll()}:     want,
			{Topics: []string{"job.1"}, LastEventID: alone.answer(t).Position}: `{"topic":"job.1"}`,
		} {
			if got := poll(t, b, *sub, time.Minute, -1).answer(t); pollText(got) != want {
				t.Errorf("%+v: got %q, want %q", sub, pollText(got), want)
			}
		}
	})
}

// TestPollsGetRetainedValues checks that the retained values precede the events, unless a
// poll resumes.
func TestPollsGetRetainedValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withRetain()
		cfg.History.MaxAge = time.Minute
		b := broker.New(cfg)
		defer b.Close()
		first := publish(t, b, toTopic("t", "not retained"))
		publish(t, b, retain(toTopic("t", "a"), "a"))
		publish(t, b, final(retain(toTopic("t", "b"), "b")))
		time.Sleep(2 * time.Minute)
		last := publish(t, b, retain(toTopic("t", "c"), "c"))

		for name, c := range map[string]struct {
			sub  broker.Subscription
			want string
		}{
			"fresh":         {broker.Subscription{Topics: []string{"t"}}, "a b c"},
			"pattern":       {broker.Subscription{Topics: []string{"*"}}, "a b c"},
			"other topic":   {broker.Subscription{Topics: []string{"u"}}, ""},
			"since":         {broker.Subscription{Topics: []string{"t"}, Start: broker.SinceAll()}, "a b c"},
			"resumes":       {broker.Subscription{Topics: []string{"t"}, LastEventID: last.ID}, ""},
			"after a reset": {broker.Subscription{Topics: []string{"t"}, LastEventID: first.ID}, "[expired] a b c"},
		} {
			p := poll(t, b, c.sub, 0, -1)
			var got []string
			if r := p.answers[0].Reset; r != nil {
				got = append(got, "["+r.Reason+"]")
			}
			for _, e := range p.answers[0].Events {
				got = append(got, e.Data)
			}
			if got := strings.Join(got, " "); got != c.want || p.answers[0].Position != last.ID {
				t.Errorf("%s: got %q and the position %s, want %q and %s", name, got, p.answers[0].Position, c.want, last.ID)
			}
		}
	})
}

func TestRetainedValuesTooLargeForPolls(t *testing.T) {
	cfg := withRetain()
	cfg.QueueBytes, cfg.Retain.MaxBytes = 300<<10, 64<<20
	b := broker.New(cfg)
	defer b.Close()
	for i := range 500 {
		publish(t, b, retain(toTopic(fmt.Sprint("t.", i), strings.Repeat("x", 1000)), ""))
	}
	if _, _, err := b.NewPoll(broker.Subscription{Topics: []string{"t.*"}}, 0).Read(); !errors.Is(err, broker.ErrTooLarge) {
		t.Errorf("got %v, want %v", err, broker.ErrTooLarge)
	}
	if batch, _, err := b.NewPoll(broker.Subscription{Topics: []string{"t.7"}}, 0).Read(); err != nil || len(batch.Events) != 1 {
		t.Errorf("got %d events and %v, want one", len(batch.Events), err)
	}
}
