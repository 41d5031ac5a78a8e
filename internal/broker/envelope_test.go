package broker_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
)

// enveloped returns all forms of a body with envelopes, by name.
func enveloped() map[string]broker.Opening {
	all := forms()
	for name, form := range all {
		form.Envelope = true
		all[name] = form
	}
	return all
}

// opened returns what is in an envelope.
func opened(t rapid.TB, e received) (in struct {
	Topic           string
	Topics          []string
	User, Broadcast bool
	Event, Data     string
	Time            time.Time
},
) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(e.data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		t.Fatalf("event %s has data %.200q: %v", e.id, e.data, err)
	}
	return in
}

// TestEnvelopes reads envelopes that arrive live, are replayed and are retained, in each
// form of a body.
func TestEnvelopes(t *testing.T) {
	for name, form := range enveloped() {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testEnvelopes(t, form) }) })
	}
}

func testEnvelopes(t *testing.T, form broker.Opening) {
	cfg := withHistory()
	cfg.Retain = broker.Retain{MaxEvents: 10, MaxBytes: 1 << 20}
	b := broker.New(cfg)
	defer b.Close()

	sub := broker.Subscription{User: "alice", Topics: []string{"orders.*"}}
	live := connectAs(t, b, sub, -1, form)
	before := publish(t, b, toUser("bob", "x")).ID
	var want []received
	for _, m := range []struct {
		message       broker.Message
		typ, envelope string
		passed        time.Duration // since the previous message
	}{
		{message: toTopic("orders.7", "a"), typ: "topic", envelope: `{"topic":"orders.7","event":"topic","data":"a","time":"2000-01-01T00:00:00Z"}`},
		{
			message: broker.Message{Audience: broker.ToTopic("orders.<8>"), Event: `"paid"`, Data: "{\"a\":\"\\u00e9é\"}\r\n\u2028\x00 <&>\t", Retain: true},
			typ:     `"paid"`, passed: 120 * time.Millisecond,
			envelope: `{"topic":"orders.<8>","event":"\"paid\"","data":"{\"a\":\"\\u00e9é\"}\n\u2028\u0000 <&>\t","time":"2000-01-01T00:00:00.120Z"}`,
		},
		{message: toUser("alice", " b "), typ: "individual", passed: time.Microsecond, envelope: `{"user":true,"event":"individual","data":" b ","time":"2000-01-01T00:00:00.120001Z"}`},
		{
			message: toAll(strings.Repeat("x", 2000)), typ: "broadcast", passed: time.Nanosecond,
			envelope: `{"broadcast":true,"event":"broadcast","data":"` + strings.Repeat("x", 2000) + `","time":"2000-01-01T00:00:00.120001001Z"}`,
		},
	} {
		time.Sleep(m.passed)
		want = append(want, received{m.typ, m.envelope, publish(t, b, m.message).ID})
	}

	resumed, since := sub, sub
	resumed.LastEventID, since.Start = before, broker.SinceAll()
	streams := map[string]*client{
		"live": live, "resumed": connectAs(t, b, resumed, -1, form), "since": connectAs(t, b, since, -1, form),
		"fresh": connectAs(t, b, sub, -1, form),
	}
	rewound := sub
	rewound.Start = broker.Rewind(4)
	streams["rewound"] = connectAs(t, b, rewound, -1, form)
	time.Sleep(2 * cfg.Heartbeat)
	synctest.Wait()

	mark := "event: peald.mark\nid: " + want[3].id + "\ndata:\n\n"
	for name, c := range streams {
		want := want
		if name == "fresh" {
			want = want[1:2]
		}
		got := slices.DeleteFunc(c.events(), func(e received) bool { return name == "since" && e.typ == "peald.reset" })
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %.400q, want %.400q", name, got, want)
		}
		if !strings.Contains(c.text(), mark) {
			t.Errorf("%s: no plain position mark in %.400q", name, c.text())
		}
	}
}

// TestControlEventsHaveNoEnvelopes checks resets and the ends of topics.
func TestControlEventsHaveNoEnvelopes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withHistory())
		defer b.Close()
		c := connectAs(t, b, broker.Subscription{Topics: []string{"a"}, LastEventID: "abc-1"}, -1, broker.Opening{Envelope: true})
		m := toTopic("a", "last")
		m.Final = true
		publish(t, b, m)
		synctest.Wait()

		got := c.events()
		if len(got) != 3 || got[0].data != `{"reason":"unknown","last_event_id":"abc-1"}` || opened(t, got[1]).Data != "last" || got[2].data != `{"topic":"a"}` {
			t.Errorf("got %q", got)
		}
		if closed, why := c.closed(); !closed || why != broker.Ended {
			t.Errorf("closed: %t, reason %v", closed, why)
		}
	})
}

// TestEnvelopesAreEncodedOnce checks that streams on all shards share an envelope, also
// after a replay, and that other streams don't get it.
func TestEnvelopesAreEncodedOnce(t *testing.T) {
	for _, gzip := range []bool{false, true} {
		t.Run(fmt.Sprint("gzip=", gzip), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := broker.New(withHistory())
				defer b.Close()
				first := publish(t, b, toAll("first"))
				open := func(id string, envelope bool) *lastPiece {
					sink := new(lastPiece)
					if err := b.NewStream(broker.Subscription{LastEventID: id}).Start(sink, broker.Opening{Gzip: gzip, Envelope: envelope}); err != nil {
						t.Fatal(err)
					}
					return sink
				}

				var with, without []*lastPiece
				for range 9 {
					with, without = append(with, open("", true)), append(without, open("", false))
				}
				synctest.Wait()
				publish(t, b, toAll(strings.Repeat("x", 2000)))
				synctest.Wait()
				with, without = append(with, open(first.ID, true)), append(without, open(first.ID, false))
				synctest.Wait()

				for _, sinks := range [][]*lastPiece{with, without} {
					for _, sink := range sinks {
						if unsafe.SliceData(sink.piece) != unsafe.SliceData(sinks[0].piece) {
							t.Errorf("a stream got a piece at %p, the first one at %p; want the same", sink.piece, sinks[0].piece)
						}
					}
				}
				if a, b := with[0].piece, without[0].piece; unsafe.SliceData(a) == unsafe.SliceData(b) || len(a) <= len(b) {
					t.Errorf("a stream with envelopes got %d bytes, another one %d", len(a), len(b))
				}
			})
		})
	}
}

// TestHistoryCountsEnvelopes checks that the history counts envelopes, and their compressed
// copies, only if a stream needed them; and nothing once it is empty.
func TestHistoryCountsEnvelopes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withHistory()
		cfg.History.MaxBytes = 100_000
		b := broker.New(cfg)
		defer b.Close()

		used := func() int {
			before := b.Stats().LogBytes
			publish(t, b, toAll(randomText(1000)))
			synctest.Wait()
			return b.Stats().LogBytes - before
		}
		used() // with the audience's lane
		connect(t, b, broker.Subscription{}, -1)
		bare := used()
		connectAs(t, b, broker.Subscription{}, -1, broker.Opening{Envelope: true})
		with := used()
		connectAs(t, b, broker.Subscription{}, -1, broker.Opening{Envelope: true, Gzip: true})
		zipped := used()
		if with < bare+1200 || with > bare+1400 || zipped < with+500 || zipped > with+1500 {
			t.Errorf("an event uses %d bytes, with an envelope %d, with a compressed one %d", bare, with, zipped)
		}

		for range 200 {
			used()
			if n := b.Stats().LogBytes; n > cfg.History.MaxBytes {
				t.Fatalf("the history uses %d bytes, want at most %d", n, cfg.History.MaxBytes)
			}
		}
		time.Sleep(2 * cfg.History.MaxAge)
		if st := b.Stats(); st.LogEvents != 0 || st.LogBytes > 400 /* of an empty lane */ {
			t.Errorf("%d events, %d bytes in the history after they expired", st.LogEvents, st.LogBytes)
		}
	})
}

// TestSlowConsumersWithEnvelopes fills queues with events in envelopes.
func TestSlowConsumersWithEnvelopes(t *testing.T) {
	for _, policy := range []broker.SlowPolicy{broker.DropOldest, broker.Conflate} {
		t.Run(string(policy), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := withHistory()
				cfg.QueueBytes = 5000
				cfg.Topics = []broker.TopicPolicy{{Pattern: "a", SlowConsumer: policy}}
				b := broker.New(cfg)
				defer b.Close()

				c := connectAs(t, b, broker.Subscription{Topics: []string{"a"}}, 0, broker.Opening{Envelope: true})
				for i := range 40 {
					m := toTopic("a", fmt.Sprintf("%02d", i)+randomText(1000))
					m.ConflateKey = fmt.Sprint(i % 3)
					publish(t, b, m)
				}
				synctest.Wait()
				if n := b.Stats().Total.QueuedBytes; n <= 1000 || n > 6000 {
					t.Errorf("%d bytes are queued, want about %d", n, cfg.QueueBytes)
				}
				c.drain(-1)
				synctest.Wait()

				var got []string
				for _, e := range c.events() {
					if e.typ == "peald.reset" {
						got = append(got, e.typ)
					} else {
						got = append(got, opened(t, e).Data[:2])
					}
				}
				want := []string{"37", "38", "39"}
				if policy == broker.DropOldest {
					want = []string{"peald.reset", "36", "37", "38", "39"}
				}
				if len(got) < len(want) || !slices.Equal(got[len(got)-3:], want[len(want)-3:]) || (got[0] == "peald.reset") != (policy == broker.DropOldest) {
					t.Errorf("got %q, want about %q", got, want)
				}
			})
		})
	}
}

// TestEnvelopeProperty compares streams with envelopes to streams without, for any
// messages: they get the same events with the same ids and types.
func TestEnvelopeProperty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(r *rapid.T) { // hides *testing.T, because its deadline is in real time
			testEnvelopeProperty(t, r)
		})
	})
}

func testEnvelopeProperty(t *testing.T, r *rapid.T) {
	topics := []string{"a", "a.b", "ä"}
	audiences := []broker.Audience{broker.Everyone(), broker.ToUser("alice"), broker.ToUser("bob")}
	for _, topic := range topics {
		audiences = append(audiences, broker.ToTopic(topic))
	}
	messages := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) broker.Message {
		return broker.Message{
			Audience: rapid.SampledFrom(audiences).Draw(r, "audience"),
			Event:    rapid.SampledFrom([]string{"", "message", "ünusual \\\""}).Draw(r, "event"),
			Data:     rapid.StringN(1, 50, 2000).Draw(r, "data"),
		}
	}), 1, 20).Draw(r, "messages")
	resumeAt := rapid.IntRange(0, len(messages)-1).Draw(r, "resume")
	form := rapid.SampledFrom(slices.Sorted(maps.Keys(enveloped()))).Draw(r, "form")

	b := broker.New(withHistory())
	defer b.Close()
	sub := broker.Subscription{User: "alice", Topics: []string{"a", "a.*"}}
	bare, with := connect(t, b, sub, -1), connectAs(t, b, sub, -1, enveloped()[form])
	at := map[string]time.Time{}
	var ids []string
	for _, m := range messages {
		time.Sleep(time.Duration(len(m.Data)) * 777 * time.Microsecond)
		ids = append(ids, publish(t, b, m).ID)
		at[ids[len(ids)-1]] = time.Now()
	}
	sub.LastEventID = ids[resumeAt]
	resumed := connectAs(t, b, sub, -1, enveloped()[form])
	synctest.Wait()

	all := bare.events()
	missed := slices.DeleteFunc(slices.Clone(all), func(e received) bool { return slices.Index(ids, e.id) <= resumeAt })
	checkEnvelopes(r, with, all, at)
	checkEnvelopes(r, resumed, missed, at)
}

// checkEnvelopes checks the events that c got, given what a stream without envelopes gets,
// and the times at which the events were published, by id.
func checkEnvelopes(t rapid.TB, c *client, want []received, at map[string]time.Time) {
	t.Helper()
	got := c.events()
	if len(got) != len(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for i, e := range got {
		in := opened(t, e)
		if e.id != want[i].id || e.typ != want[i].typ || in.Event != e.typ || in.Data != want[i].data || !in.Time.Equal(at[e.id]) {
			t.Errorf("got %q, want %q at %v", e, want[i], at[e.id])
		}
		if in.Topic != "" && (in.User || in.Broadcast) || in.Topic == "" && in.User == in.Broadcast {
			t.Errorf("the envelope %q doesn't have one audience", e.data)
		}
	}
}
