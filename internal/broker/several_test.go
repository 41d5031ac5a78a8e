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

// toTopics returns a message for several topics.
func toTopics(data string, names ...string) broker.Message {
	m := broker.Message{Data: data}
	m.SetTopics(names)
	return m
}

func TestSetTopics(t *testing.T) {
	m := toTopics("x", "b", "a", "b", "c", "a")
	if name, _ := m.Audience.Topic(); name != "b" || !slices.Equal(m.Topics, []string{"a", "c"}) {
		t.Errorf("the topics are %q and %q", name, m.Topics)
	}
	if err := m.Validate(); err != nil {
		t.Error(err)
	}
}

func TestInvalidTopicsAndExclusions(t *testing.T) {
	var many []string
	for i := range broker.MaxTopics {
		many = append(many, fmt.Sprint("t.", i))
	}
	if m := toTopics("x", many...); m.Validate() != nil {
		t.Errorf("%d topics: %v", len(many), m.Validate())
	}

	for want, m := range map[string]broker.Message{
		"topics makes 101 topics; want at most 100":                                                 toTopics("x", append(many, "more")...),
		`topics[1] is the pattern "b.*"; want a topic without wildcards`:                            toTopics("x", "a", "b", "b.*"),
		"topics[0] is empty; want 1 to 255 bytes":                                                   toTopics("x", "a", ""),
		`topics has "a" more than once`:                                                             {Audience: broker.ToTopic("a"), Topics: []string{"b", "a"}, Data: "x"},
		"topics is set for a message that isn't for a topic":                                        {Audience: broker.Everyone(), Topics: []string{"a"}, Data: "x"},
		"exclude_user_id is set for a message to one user; want a message to topics or to everyone": {Audience: broker.ToUser("a"), ExcludeUser: "b", Data: "x"},
		"exclude_user_id is set for a final message; a topic ends for all of its subscribers":       {Audience: broker.ToTopic("a"), ExcludeUser: "b", Final: true, Data: "x"},
		`exclude_user_id has the control character '\n' at byte 1`:                                  {Audience: broker.ToTopic("a"), ExcludeUser: "b\n", Data: "x"},
		"exclude_user_id is 256 bytes long; want 1 to 255":                                          {Audience: broker.Everyone(), ExcludeUser: strings.Repeat("u", 256), Data: "x"},
	} {
		if err := m.Validate(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestSeveralTopics publishes to several topics. Streams that want more than one of them
// get the event once: live, when they resume, rewind or start in the past, as a retained
// value, and when they poll.
func TestSeveralTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		cfg.Retain = broker.Retain{MaxEvents: 10, MaxBytes: 1 << 20}
		b := broker.New(cfg)
		defer b.Close()
		subs := map[string][]string{"one": {"a"}, "both": {"c", "b", "a"}, "pattern": {"*", "b.>"}, "mixed": {"b", "b.*"}, "neither": {"d"}}
		live := make(map[string]*client)
		for name, topics := range subs {
			live[name] = connect(t, b, broker.Subscription{Topics: topics}, -1)
		}
		before := publish(t, b, toAll("0")).ID

		m := toTopics("1", "a", "b", "b.1")
		m.Retain = true
		first := publish(t, b, m)
		second := publish(t, b, toTopics("2", "b.1", "b"))
		if first.Recipients != 4 || second.Recipients != 3 {
			t.Errorf("%d and %d recipients, want 4 and 3", first.Recipients, second.Recipients)
		}
		synctest.Wait()

		want := map[string]string{"one": "1", "both": "1 2", "pattern": "1 2", "mixed": "1 2", "neither": ""}
		for name, topics := range subs {
			sub := broker.Subscription{Topics: topics}
			if got := dataOf(live[name].events()[1:]); got != want[name] {
				t.Errorf("the stream of %s got %q, want %q", name, got, want[name])
			}
			for how, sub := range map[string]broker.Subscription{
				"resumes": {Topics: topics, LastEventID: before}, "rewinds": {Topics: topics, Start: broker.Rewind(2)}, "starts": {Topics: topics, Start: broker.SinceAll()},
			} {
				c := connect(t, b, sub, -1)
				synctest.Wait()
				if got := strings.TrimSpace(strings.TrimPrefix(dataOf(c.events()), "0")); how != "rewinds" && got != want[name] {
					t.Errorf("the stream of %s that %s got %q, want %q", name, how, got, want[name])
				} else if all := strings.Fields("0 " + want[name]); how == "rewinds" && dataOf(c.events()) != strings.Join(all[max(0, len(all)-2):], " ") {
					t.Errorf("the stream of %s that rewinds got %q", name, dataOf(c.events()))
				}
			}
			sub.LastEventID = before
			if got := pollText(poll(t, b, sub, 0, -1).answer(t)); got != want[name] {
				t.Errorf("the poll of %s got %q, want %q", name, got, want[name])
			}
			fresh := connect(t, b, broker.Subscription{Topics: topics}, -1)
			synctest.Wait()
			value := "1"
			if name == "neither" {
				value = ""
			}
			if got := dataOf(fresh.events()); got != value {
				t.Errorf("a new stream of %s got %q, want the value %q", name, got, value)
			}
		}
	})
}

// dataOf returns the data of events other than the daemon's own.
func dataOf(events []received) string {
	var all []string
	for _, e := range events {
		if !strings.HasPrefix(e.typ, broker.ReservedTypes) {
			all = append(all, e.data)
		}
	}
	return strings.Join(all, " ")
}

// TestRetainedForSeveralTopics checks that each topic keeps its value, until it gets
// another one.
func TestRetainedForSeveralTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		cfg.Retain = broker.Retain{MaxEvents: 3, MaxBytes: 1 << 20}
		cfg.Topics = []broker.TopicPolicy{{Pattern: "p.>", Retain: true}}
		b := broker.New(cfg)
		defer b.Close()

		both := toTopics("1", "a", "b")
		both.Retain = true
		publish(t, b, both)
		publish(t, b, toTopics("2", "p.1", "c")) // only p.1 has a policy
		a := toTopic("a", "3")
		a.Retain = true
		publish(t, b, a)
		full := toTopics("4", "p.1", "p.2")
		if _, err := b.Publish(t.Context(), full); err == nil || !strings.Contains(err.Error(), "4 retained values") {
			t.Errorf("a value too many was retained: %v", err)
		}

		for topics, want := range map[string]string{"a": "3", "b": "1", "c": "", "a b": "1 3", "p.1 b": "1 2", ">": "1 2 3"} {
			c := connect(t, b, broker.Subscription{Topics: strings.Fields(topics)}, -1)
			synctest.Wait()
			if got := dataOf(c.events()); got != want {
				t.Errorf("the topics %s have the values %q, want %q", topics, got, want)
			}
		}
		if n, err := b.ClearRetained(t.Context(), broker.Clear{Audience: broker.ToTopic("b")}); n != 1 || err != nil {
			t.Errorf("cleared %d values: %v", n, err)
		}
	})
}

// TestFinalForSeveralTopics checks that a final message ends each of its topics.
func TestFinalForSeveralTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
		defer b.Close()
		before := publish(t, b, toAll("0")).ID
		m := toTopics("bye", "a", "b")
		m.Final = true

		subs := map[string]struct{ streamed, polled string }{
			"a": {"bye end:a closed", "topic:a end:a"}, "b": {"bye end:b closed", "topic:b end:b"},
			"a b c": {"bye end:a end:b", "topic:a end:a end:b"}, "*": {"bye end:a end:b", "topic:a end:a end:b"},
			"b c": {"bye end:b", "topic:b end:b"}, "c": {},
		}
		live := make(map[string]*client)
		for topics := range subs {
			live[topics] = connect(t, b, broker.Subscription{Topics: strings.Fields(topics)}, -1)
		}
		synctest.Wait()
		publish(t, b, m)
		synctest.Wait()

		for topics, want := range subs {
			if got := endsOf(live[topics]); got != want.streamed {
				t.Errorf("the stream for %s got %q, want %q", topics, got, want.streamed)
			}
			sub := broker.Subscription{Topics: strings.Fields(topics), LastEventID: before}
			c := connect(t, b, sub, -1)
			synctest.Wait()
			if got := endsOf(c); got != want.streamed {
				t.Errorf("the stream for %s that resumes got %q, want %q", topics, got, want.streamed)
			}
			var polled []string
			for _, e := range poll(t, b, sub, 0, -1).answer(t).Events {
				topic, _ := e.Audience.Topic()
				polled = append(polled, strings.TrimPrefix(e.Event, "peald.")+":"+topic)
			}
			if got := strings.Join(polled, " "); got != want.polled {
				t.Errorf("the poll for %s got %q, want %q", topics, got, want.polled)
			}
		}
	})
}

// endsOf returns the data of events, with the topics that end, and whether the stream was
// closed.
func endsOf(c *client) string {
	var all []string
	for _, e := range c.events() {
		switch {
		case e.typ == "peald.end":
			all = append(all, "end:"+strings.TrimSuffix(strings.TrimPrefix(e.data, `{"topic":"`), `"}`))
		case !strings.HasPrefix(e.typ, broker.ReservedTypes) && e.data != "0":
			all = append(all, e.data)
		}
	}
	if closed, why := c.closed(); closed && why == broker.Ended {
		all = append(all, "closed")
	}
	return strings.Join(all, " ")
}

// TestTopicsKeepTheirOwnHistory checks that a topic that keeps few events doesn't take
// events for several topics away from the others, and that their bytes count once.
func TestTopicsKeepTheirOwnHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		cfg.Topics = []broker.TopicPolicy{{Pattern: "last", MaxEvents: 1}}
		b := broker.New(cfg)
		defer b.Close()
		before := publish(t, b, toAll("0")).ID
		for i := range 3 {
			publish(t, b, toTopics(fmt.Sprint(i+1, strings.Repeat("x", 100_000)), "all", "last"))
		}
		if s := b.Stats(); s.LogEvents != 5 || s.LogBytes > 310_000 {
			t.Errorf("the history has %d events and %d bytes, want 5 and about 300,000", s.LogEvents, s.LogBytes)
		}

		for topic, want := range map[string]int{"all": 3, "last": 1} {
			page, err := b.ReadMessages(t.Context(), broker.Read{Audience: broker.ToTopic(topic), Limit: 10})
			if err != nil || len(page.Messages) != want {
				t.Errorf("the topic %s has %d messages, want %d: %v", topic, len(page.Messages), want, err)
			}
		}
		all := connect(t, b, broker.Subscription{Topics: []string{"all"}, LastEventID: before}, -1)
		last := connect(t, b, broker.Subscription{Topics: []string{"last"}, LastEventID: before}, -1)
		synctest.Wait()
		if got := all.events(); len(got) != 3 || got[0].data[:1] != "1" || got[2].data[:1] != "3" {
			t.Errorf("the stream for all got %d events", len(got))
		}
		if got := last.events(); got[0].typ != "peald.reset" {
			t.Errorf("the stream for last began with %q, want a reset", got[0].typ)
		}
	})
}

// TestTapShowsTopics checks what a tap shows of messages for several topics.
func TestTapShowsTopics(t *testing.T) {
	b := broker.New(withHistory())
	defer b.Close()
	before := publish(t, b, toAll("0")).ID
	live := newTap(t, b, broker.ToTopic("b.*"), "")
	m := toTopics("1", "a", "b.1", "b.2")
	m.ExcludeUser = "alice"
	publish(t, b, m)
	publish(t, b, toTopics("2", "a", "c"))

	for name, tp := range map[string]*broker.Tap{"live": live, "history": newTap(t, b, broker.ToTopic("b.*"), before)} {
		batch, err := tp.Take()
		if err != nil || len(batch.Messages) != 1 {
			t.Fatalf("%s: %+v, %v; want one message", name, batch, err)
		}
		got := batch.Messages[0]
		if to, _ := got.Audience.Topic(); to != "b.1" || !slices.Equal(got.Topics, []string{"a", "b.1", "b.2"}) || got.ExcludeUser != "alice" {
			t.Errorf("%s: the message is for %q, all topics are %q, and it excludes %q", name, to, got.Topics, got.ExcludeUser)
		}
	}
}

// TestEnvelopeNamesTheTopicOfTheStream checks which topic an envelope names.
func TestEnvelopeNamesTheTopicOfTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, form := range enveloped() {
			b := broker.New(withHistory())
			before := publish(t, b, toAll("0")).ID
			subs := map[string]string{"c": "c", "c b": "b", "*": "a", "b.> c": "c"}
			live := make(map[string]*client)
			for topics := range subs {
				live[topics] = connectAs(t, b, broker.Subscription{Topics: strings.Fields(topics)}, -1, form)
			}
			synctest.Wait()
			publish(t, b, toTopics(strings.Repeat("x", 1000), "a", "b", "c"))
			synctest.Wait()
			for topics, want := range subs {
				resumed := connectAs(t, b, broker.Subscription{Topics: strings.Fields(topics), LastEventID: before}, -1, form)
				synctest.Wait()
				for _, c := range []*client{live[topics], resumed} {
					events := c.events()
					if got := opened(t, events[len(events)-1]).Topic; got != want {
						t.Errorf("%s: the envelope for %s names the topic %q, want %q", name, topics, got, want)
					}
				}
			}
			b.Close()
		}
	})
}

// TestExcludedUser checks that a user's streams don't get events that exclude the user.
func TestExcludedUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		cfg.Retain = broker.Retain{MaxEvents: 10, MaxBytes: 1 << 20}
		b := broker.New(cfg)
		defer b.Close()
		before := publish(t, b, toAll("0")).ID
		live := make(map[string]*client)
		for _, user := range []string{"", "alice", "bob"} {
			live[user] = connect(t, b, broker.Subscription{User: user, Topics: []string{"t"}}, -1)
		}
		for i, m := range []broker.Message{toAll("1"), toTopic("t", "2"), toTopics("3", "t", "u")} {
			m.ExcludeUser, m.Retain = "alice", i == 1
			if r := publish(t, b, m); r.Recipients != 2 {
				t.Errorf("message %d has %d recipients, want 2", i+1, r.Recipients)
			}
		}
		publish(t, b, toTopic("t", "4"))
		synctest.Wait()

		for user, want := range map[string]string{"": "1 2 3 4", "alice": "4", "bob": "1 2 3 4"} {
			if got := dataOf(live[user].events()); got != want {
				t.Errorf("the stream of %q got %q, want %q", user, got, want)
			}
			sub := broker.Subscription{User: user, Topics: []string{"t"}, LastEventID: before}
			c := connect(t, b, sub, -1)
			synctest.Wait()
			if got := dataOf(c.events()); got != want {
				t.Errorf("the stream of %q that resumes got %q, want %q", user, got, want)
			}
			if got := pollText(poll(t, b, sub, 0, -1).answer(t)); got != want {
				t.Errorf("the poll of %q got %q, want %q", user, got, want)
			}
			rewinds := connect(t, b, broker.Subscription{User: user, Topics: []string{"t"}, Start: broker.Rewind(1)}, -1)
			fresh := connect(t, b, broker.Subscription{User: user, Topics: []string{"t"}}, -1)
			synctest.Wait()
			if got := dataOf(rewinds.events()); !strings.HasSuffix(got, "4") {
				t.Errorf("the stream of %q that rewinds got %q", user, got)
			}
			if got := dataOf(fresh.events()); (got == "2") != (user != "alice") {
				t.Errorf("a new stream of %q got the value %q", user, got)
			}
		}
	})
}

// TestRewindPastExcludedEvents checks that a stream gets as many events as it asks for,
// even if it is excluded from thousands of others.
func TestRewindPastExcludedEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		cfg.History = broker.History{MaxEvents: 10_000, MaxBytes: 1 << 24}
		b := broker.New(cfg)
		defer b.Close()
		publish(t, b, toTopic("t", "1"))
		publish(t, b, toTopic("t", "2"))
		excluding := toTopic("t", "x")
		excluding.ExcludeUser = "alice"
		for range 9000 {
			publish(t, b, excluding)
		}
		for _, topics := range [][]string{{"t"}, {"*"}} {
			c := connect(t, b, broker.Subscription{User: "alice", Topics: topics, Start: broker.Rewind(2)}, -1)
			synctest.Wait()
			if got := dataOf(c.events()); got != "1 2" {
				t.Errorf("the stream for %s got %q, want 1 2", topics, got)
			}
			p := poll(t, b, broker.Subscription{User: "alice", Topics: topics, Start: broker.SinceAll()}, time.Minute, -1)
			if got := pollText(p.answer(t)); got != "1 2" {
				t.Errorf("the poll for %s got %q, want 1 2", topics, got)
			}
		}
	})
}

// TestRecipientsOfSeveralTopics opens and closes streams at random, publishes messages for
// any audience, and checks that the number of recipients is exact and that each of them
// gets the event.
func TestRecipientsOfSeveralTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) {
			cfg := config()
			cfg.Shards = rapid.IntRange(1, 3).Draw(rt, "shards")
			b := broker.New(cfg)
			defer b.Close()
			w := &audienceWorld{broker: b}
			rt.Repeat(map[string]func(*rapid.T){"open": w.open, "close": w.close, "publish": w.publish, "publishes": w.publish})
		})
	})
}

type audienceWorld struct {
	broker  *broker.Broker
	streams []*subscriber
	sent    int
}

type subscriber struct {
	*client

	sub  broker.Subscription
	want int // events
}

func (w *audienceWorld) open(rt *rapid.T) {
	for range rapid.IntRange(1, 5).Draw(rt, "streams") {
		s := &subscriber{client: &client{room: -1}}
		s.sub.User = rapid.SampledFrom([]string{"", "alice", "bob"}).Draw(rt, "user")
		s.sub.Topics = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c.d", "a..b", "*", "c.>"}), 0, 4, rapid.ID[string]).Draw(rt, "topics")
		s.stream = w.broker.NewStream(s.sub)
		if err := s.stream.Start(s, s.form); err != nil {
			rt.Fatal(err)
		}
		w.streams = append(w.streams, s)
	}
}

func (w *audienceWorld) close(rt *rapid.T) {
	if len(w.streams) == 0 {
		return
	}
	i := rapid.IntRange(0, len(w.streams)-1).Draw(rt, "stream")
	w.streams[i].stream.HangUp()
	w.streams = slices.Delete(w.streams, i, i+1)
	synctest.Wait()
}

func (w *audienceWorld) publish(rt *rapid.T) {
	w.sent++
	m := broker.Message{Audience: broker.Everyone(), Data: fmt.Sprint(w.sent)}
	if names := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c.d", "a..b", "e"}), 0, 4).Draw(rt, "topics"); len(names) > 0 {
		m.SetTopics(names)
	}
	m.ExcludeUser = rapid.SampledFrom([]string{"", "", "alice", "carol"}).Draw(rt, "excluded")
	want := 0
	for _, s := range w.streams {
		if belongs(s.sub, m) {
			s.want++
			want++
		}
	}
	receipt, err := w.broker.Publish(rt.Context(), m)
	if err != nil || receipt.Recipients != want {
		rt.Fatalf("%q %q without %q: %d recipients, want %d: %v", m.Audience, m.Topics, m.ExcludeUser, receipt.Recipients, want, err)
	}
	synctest.Wait()
	for _, s := range w.streams {
		if got := len(strings.Fields(dataOf(s.events()))); got != s.want {
			rt.Fatalf("%+v got %d events, want %d, after %q %q without %q", s.sub, got, s.want, m.Audience, m.Topics, m.ExcludeUser)
		}
	}
}
