package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/eventstream"
)

// withRetain returns a configuration with a history and room for retained values.
func withRetain() broker.Config {
	cfg := withHistory()
	cfg.Retain = broker.Retain{MaxEvents: 1000, MaxBytes: 1 << 20}
	return cfg
}

// retain returns a message that is retained.
func retain(m broker.Message, key string) broker.Message {
	m.Retain, m.ConflateKey = true, key
	return m
}

// blocks returns everything that the client got in short: data of events, "mark", and the
// reason of a reset in brackets.
func (c *client) blocks() string {
	var all []string
	d := eventstream.Decoder{OnEvent: func(e eventstream.Event) {
		switch string(e.Type) {
		case eventstream.MarkType:
			all = append(all, "mark")
		case "peald.reset":
			_, reason, _ := strings.Cut(string(e.Data), `"reason":"`)
			reason, _, _ = strings.Cut(reason, `"`)
			all = append(all, "["+reason+"]")
		case "peald.end":
			all = append(all, "end")
		default:
			all = append(all, string(e.Data))
		}
	}}
	_, _ = d.Write([]byte(c.text()))
	return strings.Join(all, " ")
}

func TestRetainedValues(t *testing.T) {
	for name, c := range map[string]struct {
		sub  broker.Subscription
		want string
	}{
		"anonymous":                {broker.Subscription{}, "all2 mark"},
		"user":                     {broker.Subscription{User: "alice"}, "alice all2 mark"},
		"another user":             {broker.Subscription{User: "bob"}, "all2 mark"},
		"topic":                    {broker.Subscription{Topics: []string{"prices.eur"}}, "eur2 eur-ask all2 mark"},
		"two topics":               {broker.Subscription{Topics: []string{"prices.usd", "prices.eur"}}, "usd eur2 eur-ask all2 mark"},
		"pattern":                  {broker.Subscription{User: "alice", Topics: []string{"prices.*"}}, "usd eur2 alice eur-ask all2 mark"},
		"pattern and its topic":    {broker.Subscription{Topics: []string{"prices.eur", "prices.>"}}, "usd eur2 eur-ask all2 mark"},
		"all that the history has": {broker.Subscription{Topics: []string{"prices.usd", "prices.eur"}, Start: broker.SinceAll()}, "usd eur2 mark eur-ask all2"},
		"all, with a pattern":      {broker.Subscription{Topics: []string{"prices.*"}, Start: broker.SinceAll()}, "usd eur2 mark eur-ask all2"},
		"rewind":                   {broker.Subscription{Topics: []string{"prices.eur"}, Start: broker.Rewind(1)}, "eur2 eur-ask mark all2"},
		"rewind with a pattern":    {broker.Subscription{Topics: []string{"prices.*"}, Start: broker.Rewind(1)}, "usd eur2 eur-ask mark all2"},
		"a minute":                 {broker.Subscription{Topics: []string{"prices.*"}, Start: broker.SinceAgo(time.Minute)}, "usd eur2 eur-ask all2 mark"},
		"an hour":                  {broker.Subscription{Topics: []string{"prices.*"}, Start: broker.SinceAgo(time.Hour)}, "[expired] usd eur2 mark eur-ask all2"},
		"unknown id":               {broker.Subscription{Topics: []string{"prices.eur"}, LastEventID: "x-1"}, "[unknown] eur2 eur-ask all2 mark"},
		"expired id":               {broker.Subscription{Topics: []string{"prices.usd"}, LastEventID: "ID0"}, "[expired] usd all2 mark"},
		"expired id, no values":    {broker.Subscription{Topics: []string{"prices.usd"}, User: "bob", LastEventID: "ID0"}, "[expired] usd all2 mark"},
		"resumes":                  {broker.Subscription{Topics: []string{"prices.eur"}, LastEventID: "ID1"}, "mark eur-ask all2"},
		"nothing missed":           {broker.Subscription{Topics: []string{"prices.eur"}, LastEventID: "ID2"}, "mark"},
	} {
		for form, opening := range map[string]broker.Opening{"bare": {}, "chunked gzip": {Chunked: true, Gzip: true}} {
			t.Run(name+", "+form, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cfg := withRetain()
					cfg.History.MaxAge = 5 * time.Minute
					b := broker.New(cfg)
					defer b.Close()

					ids := []string{publish(t, b, toTopic("prices.usd", "first")).ID}
					for _, m := range []broker.Message{
						retain(toAll("all1"), ""), retain(toTopic("prices.usd", "usd"), ""), retain(toTopic("prices.eur", "eur1"), ""),
						retain(toTopic("prices.eur", "eur2"), ""), retain(toUser("alice", "alice"), "k"), toTopic("prices.eur", "not retained"),
					} {
						publish(t, b, m)
					}
					gone := retain(toTopic("prices.eur", "gone"), "x")
					gone.TTL = 6 * time.Minute
					ids = append(ids, publish(t, b, gone).ID)
					time.Sleep(7 * time.Minute) // the history is empty
					publish(t, b, retain(toTopic("prices.eur", "eur-ask"), "ask"))
					ids = append(ids, publish(t, b, retain(toAll("all2"), "")).ID)
					time.Sleep(2 * time.Minute)

					sub := c.sub
					for i, id := range ids {
						sub.LastEventID = strings.Replace(sub.LastEventID, fmt.Sprint("ID", i), id, 1)
					}
					got := connectAs(t, b, sub, -1, opening)
					synctest.Wait()
					if got := got.blocks(); got != c.want {
						t.Errorf("got %q, want %q", got, c.want)
					}
					publish(t, b, toAll("live"))
					synctest.Wait()
					if got := got.blocks(); got != c.want+" live" {
						t.Errorf("after a live event, got %q", got)
					}
				})
			})
		}
	}
}

// TestIDsOfRetainedValues checks that a client which loses its connection anywhere among
// the first blocks gets the rest when it resumes.
func TestIDsOfRetainedValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withRetain()
		cfg.History.MaxAge = time.Minute
		b := broker.New(cfg)
		defer b.Close()
		for i := range 5 {
			publish(t, b, retain(toTopic("t", fmt.Sprint(i)), fmt.Sprint(i)))
		}
		time.Sleep(2 * time.Minute)
		publish(t, b, retain(toTopic("t", "5"), "5"))

		whole := connect(t, b, broker.Subscription{Topics: []string{"t"}}, -1)
		synctest.Wait()
		if got := whole.blocks(); got != "0 1 2 3 4 5 mark" {
			t.Fatalf("got %q", got)
		}
		for cut := range len(whole.text()) + 1 {
			d := eventstream.Decoder{}
			_, _ = d.Write([]byte(whole.text()[:cut]))
			seen := map[string]bool{}
			partial := &client{room: -1}
			_, _ = partial.Write([][]byte{[]byte(whole.text()[:cut])})
			for _, data := range partial.data() {
				seen[data] = true
			}
			rest := connect(t, b, broker.Subscription{Topics: []string{"t"}, LastEventID: d.LastEventID()}, -1)
			synctest.Wait()
			for _, data := range rest.data() {
				seen[data] = true
			}
			if len(seen) < 6 {
				t.Fatalf("cut at %d: the client has only %v", cut, seen)
			}
			rest.stream.HangUp()
		}
	})
}

func TestRetainLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withRetain()
		cfg.Retain = broker.Retain{MaxEvents: 3, MaxBytes: 4000}
		b := broker.New(cfg)
		defer b.Close()
		for i := range 3 {
			publish(t, b, retain(toTopic(fmt.Sprint(i), "x"), ""))
		}
		c := connect(t, b, broker.Subscription{Topics: []string{">"}}, -1)
		reject := func(m broker.Message, want broker.RetainFullError) {
			t.Helper()
			before := b.Stats()
			_, err := b.Publish(t.Context(), m)
			var full *broker.RetainFullError
			if !errors.As(err, &full) || full.Limits != cfg.Retain || full.Events != want.Events || full.Bytes < want.Bytes {
				t.Errorf("got %v, want %v", err, &want)
			}
			if may := b.MayRetain(&m, m.Audience); !errors.As(may, &full) {
				t.Errorf("MayRetain returned %v", may)
			}
			if after := b.Stats(); after.Published != before.Published || after.LogEvents != before.LogEvents || after.RetainedEvents != 3 {
				t.Errorf("%d messages, %d events and %d values after the error", after.Published, after.LogEvents, after.RetainedEvents)
			}
		}
		reject(retain(toTopic("3", "x"), ""), broker.RetainFullError{Events: 4})
		reject(retain(toTopic("2", strings.Repeat("x", 3000)), ""), broker.RetainFullError{Events: 3, Bytes: 4001})

		publish(t, b, retain(toTopic("2", "y"), "")) // replaces a value
		short := retain(toTopic("1", "short"), "")
		short.TTL = time.Second
		publish(t, b, short)
		time.Sleep(time.Second)
		publish(t, b, retain(toTopic("3", "z"), "")) // after a value has expired
		if n, err := b.ClearRetained(t.Context(), broker.Clear{Audience: broker.ToTopic("0")}); n != 1 || err != nil {
			t.Errorf("cleared %d values: %v", n, err)
		}
		publish(t, b, retain(toTopic("4", "w"), ""))
		synctest.Wait()
		if got := c.blocks(); got != "x x x mark y short z w" {
			t.Errorf("the open stream got %q", got)
		}
		if got := valuesOf(t, b, ">"); got != "y z w mark" {
			t.Errorf("a new stream got %q", got)
		}

		cfg.Retain = broker.Retain{}
		b.Reconfigure(cfg)
		if got := valuesOf(t, b, ">"); got != "y z w mark" {
			t.Errorf("after the limits were lowered, a new stream got %q", got)
		}
		publish(t, b, retain(toTopic("2", "v"), "")) // of the same size
		for _, m := range []broker.Message{retain(toTopic("2", "longer"), ""), retain(toTopic("5", "x"), "")} {
			if _, err := b.Publish(t.Context(), m); err == nil {
				t.Errorf("%v was retained beyond the limits", m)
			}
		}
	})
}

// valuesOf returns what a new stream gets that subscribes to a topic.
func valuesOf(t *testing.T, b *broker.Broker, topic string) string {
	t.Helper()
	c := connect(t, b, broker.Subscription{Topics: []string{topic}}, -1)
	synctest.Wait()
	c.stream.HangUp()
	synctest.Wait()
	return c.blocks()
}

func TestClearRetained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withRetain())
		defer b.Close()
		for _, key := range []string{"", "a", "b", "c"} {
			publish(t, b, retain(toTopic("t", "t"+key), key))
		}
		publish(t, b, retain(toAll("all"), ""))
		publish(t, b, retain(toUser("alice", "alice"), ""))

		none, a := "", "a"
		for _, c := range []struct {
			clear broker.Clear
			want  int
			left  string
		}{
			{broker.Clear{Audience: broker.ToTopic("t"), ConflateKey: &a}, 1, "t tb tc all mark"},
			{broker.Clear{Audience: broker.ToTopic("t"), ConflateKey: &a}, 0, "t tb tc all mark"},
			{broker.Clear{Audience: broker.ToTopic("t"), ConflateKey: &none}, 1, "tb tc all mark"},
			{broker.Clear{Audience: broker.ToUser("t")}, 0, "tb tc all mark"},
			{broker.Clear{Audience: broker.ToTopic("t")}, 2, "all mark"},
			{broker.Clear{Audience: broker.Everyone()}, 1, "mark"},
			{broker.Clear{Audience: broker.ToUser("alice")}, 1, "mark"},
		} {
			if n, err := b.ClearRetained(t.Context(), c.clear); n != c.want || err != nil {
				t.Errorf("%+v: cleared %d values, want %d: %v", c.clear, n, c.want, err)
			}
			if got := valuesOf(t, b, "t"); got != c.left {
				t.Errorf("after %+v, a stream got %q, want %q", c.clear, got, c.left)
			}
		}
		if st := b.Stats(); st.RetainedEvents != 0 || st.RetainedBytes != 0 {
			t.Errorf("%d values with %d bytes are left", st.RetainedEvents, st.RetainedBytes)
		}

		var invalid *broker.InvalidError
		control := "\n"
		for _, c := range []broker.Clear{{}, {Audience: broker.ToTopic("a.*")}, {Audience: broker.ToUser("")}, {Audience: broker.Everyone(), ConflateKey: &control}} {
			if _, err := b.ClearRetained(t.Context(), c); !errors.As(err, &invalid) {
				t.Errorf("%+v: got %v, want an *InvalidError", c, err)
			}
		}
	})
}

func TestRetainedByPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := withRetain()
		cfg.Topics = []broker.TopicPolicy{{Pattern: "prices.>", Retain: true}}
		b := broker.New(cfg)
		defer b.Close()
		m := toTopic("prices.eur", "1")
		m.IdempotencyKey = "k"
		publish(t, b, m)
		publish(t, b, m) // a repetition
		publish(t, b, toTopic("orders", "2"))
		if got := valuesOf(t, b, ">"); got != "1 mark" {
			t.Errorf("got %q, want the price", got)
		}
		if !b.RetainedByPolicy(broker.ToTopic("prices.usd")) || b.RetainedByPolicy(broker.ToTopic("orders")) || b.RetainedByPolicy(broker.ToUser("prices.eur")) {
			t.Error("RetainedByPolicy is wrong")
		}
	})
}

// TestManyRetainedValues checks that a slow connection gets all values with backpressure.
func TestManyRetainedValues(t *testing.T) {
	for _, topics := range [][]string{{"t.*"}, {"t.1", "u"}} {
		synctest.Test(t, func(t *testing.T) {
			cfg := withRetain()
			cfg.Retain.MaxEvents, cfg.Retain.MaxBytes = 20_000, 64<<20
			cfg.History.MaxEvents = 10
			b := broker.New(cfg)
			defer b.Close()
			var want []string
			for i := range 10_000 {
				m := retain(toTopic(fmt.Sprint("t.", i), fmt.Sprint(i)), "")
				if !strings.Contains(topics[0], "*") {
					m = retain(toTopic("u", fmt.Sprint(i)), fmt.Sprint(i))
				}
				publish(t, b, m)
				want = append(want, fmt.Sprint(i))
			}
			c := connect(t, b, broker.Subscription{Topics: topics}, 0)
			synctest.Wait()
			for i := 0; ; i++ {
				if queued := b.Stats().Total.QueuedBytes; queued > 300<<10 {
					t.Fatalf("%d bytes are queued", queued)
				}
				c.drain(50_000)
				synctest.Wait()
				if i == 1 {
					publish(t, b, toTopic("u", "live"))
					publish(t, b, toTopic("t.1", "live"))
				}
				if strings.HasSuffix(c.text(), "data: live\n\n") || i == 100 {
					break
				}
			}
			got := c.data()
			if i := slices.Index(got, "live"); i < 0 || !slices.Equal(got[:i], want) {
				t.Errorf("%q: got %d events, want all %d values and then a live event", topics, len(got), len(want))
			}
		})
	}
}

func TestRetainNeedsAValidMessage(t *testing.T) {
	b := broker.New(withRetain())
	defer b.Close()
	var invalid *broker.InvalidError
	for _, m := range []broker.Message{{Audience: broker.Everyone(), Data: "x", Final: true}, {Audience: broker.ToUser("a"), Data: "x", Final: true}} {
		if _, err := b.Publish(t.Context(), m); !errors.As(err, &invalid) || invalid.Field != "final" {
			t.Errorf("got %v, want an error for final", err)
		}
	}
}
