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

// withMaxAge returns a configuration for tests.
func withMaxAge(most time.Duration) broker.Config {
	cfg := withHistory()
	cfg.MaxAge = most
	return cfg
}

// old returns how many of the clients have been closed because of their age.
func old(clients []*client) (n int) {
	for _, c := range clients {
		if closed, why := c.closed(); closed && why == broker.MaxAge {
			n++
		}
	}
	return n
}

// TestMaxAge checks that streams opened together are closed one after another, from 90 %
// to 110 % of the maximum age, with a last block like that of a drain.
func TestMaxAge(t *testing.T) {
	for _, most := range []time.Duration{time.Second, 10 * time.Minute} {
		t.Run(most.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := broker.New(withMaxAge(most))
				defer b.Close()
				const streams, parts = 2000, 5
				clients := make([]*client, streams)
				for i := range clients {
					clients[i] = connectAs(t, b, broker.Subscription{User: fmt.Sprint("user", i)}, -1, forms()[[]string{"bare", "chunked", "gzip"}[i%3]])
				}

				time.Sleep(most*9/10 - time.Millisecond)
				synctest.Wait()
				if n := old(clients); n != 0 {
					t.Fatalf("%d of %d streams were closed too early", n, streams)
				}
				// A stream closes at a tick, and its age is known to a quarter of a second.
				const late = 500*time.Millisecond + 2*time.Millisecond
				for part, before := 0, 0; part < parts && most > time.Minute; part++ {
					time.Sleep(most / 5 / parts)
					synctest.Wait()
					now := old(clients)
					if closed := now - before; closed < streams/parts*3/4 || closed > streams/parts*5/4 {
						t.Errorf("in part %d of %d, %d of %d streams were closed", part, parts, closed, streams)
					}
					before = now
				}
				time.Sleep(late + most/5)
				synctest.Wait()
				if n := old(clients); n != streams {
					t.Fatalf("%d of %d streams are closed", n, streams)
				}

				waits := make(map[string]bool)
				for i, c := range clients {
					last := lastBlock.FindStringSubmatch(c.text())
					if last == nil || len(last[1]) != 4 || last[1] < "2250" || last[1] > "3750" {
						t.Fatalf("stream %d ends with %q", i, c.text())
					}
					waits[last[1]] = true
				}
				if len(waits) < 100 {
					t.Errorf("%d different reconnection times", len(waits))
				}
				if got := b.Stats().Total; got.Disconnected["max_age"] != streams || got.Connections != 0 || got.QueuedBytes != 0 {
					t.Errorf("stats %+v", got)
				}
			})
		})
	}
}

// TestNoMaxAge checks that streams stay open without a maximum age.
func TestNoMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(config())
		defer b.Close()
		c := connect(t, b, broker.Subscription{}, -1)
		time.Sleep(time.Hour)
		synctest.Wait()
		if closed, why := c.closed(); closed {
			t.Errorf("the stream was closed: %v", why)
		}
	})
}

// TestMaxAgeChanges checks when open streams are closed after the setting has changed.
// Those that are already too old are spread over a fifth of the new maximum.
func TestMaxAgeChanges(t *testing.T) {
	const unit = 6 * time.Minute
	for name, c := range map[string]struct {
		from, to    time.Duration
		first, last time.Duration // when streams that are two units old at the change are closed, after it
	}{
		"on":             {0, unit, 0, unit / 5},
		"on, longer":     {0, 4 * unit, 4*unit*9/10 - 2*unit, 4*unit*11/10 - 2*unit},
		"lower":          {4 * unit, unit, 0, unit / 5},
		"slightly lower": {4 * unit, 3 * unit, 3*unit*9/10 - 2*unit, 3*unit*11/10 - 2*unit},
		"higher":         {4 * unit, 8 * unit, 8*unit*9/10 - 2*unit, 8*unit*11/10 - 2*unit},
		"off":            {4 * unit, 0, 20 * unit, 20 * unit},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := withMaxAge(c.from)
				b := broker.New(cfg)
				defer b.Close()
				var clients []*client
				for range 200 {
					clients = append(clients, connect(t, b, broker.Subscription{}, -1))
				}
				time.Sleep(2 * unit)
				cfg.MaxAge = c.to
				b.Reconfigure(cfg)

				if c.to == 0 {
					time.Sleep(c.first)
					if n := old(clients); n != 0 {
						t.Fatalf("%d streams were closed", n)
					}
					return
				}
				time.Sleep(c.first)
				if n := old(clients); n > 5 {
					t.Errorf("%d of %d streams are closed after %v", n, len(clients), c.first)
				}
				time.Sleep((c.last - c.first) / 2)
				if n := old(clients); n < len(clients)/3 || n > len(clients)*2/3 {
					t.Errorf("%d of %d streams are closed in the middle", n, len(clients))
				}
				time.Sleep((c.last-c.first)/2 + time.Second)
				if n := old(clients); n != len(clients) {
					t.Errorf("%d of %d streams are closed after %v", n, len(clients), c.last)
				}
			})
		})
	}
}

// TestMaxAgeOfBusyStreams checks that a stream that reaches the maximum age still gets the
// events that precede its end, once its connection accepts them, and none twice.
func TestMaxAgeOfBusyStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withMaxAge(time.Minute))
		defer b.Close()
		stuck, slow := connect(t, b, broker.Subscription{}, -1), connect(t, b, broker.Subscription{}, -1)
		time.Sleep(53 * time.Second)
		stuck.drain(0)
		slow.drain(0)
		publish(t, b, toAll("before"))
		time.Sleep(14 * time.Second) // to more than 110%
		synctest.Wait()
		for _, c := range []*client{stuck, slow} {
			if closed, _ := c.closed(); closed || b.Stats().Total.Disconnected["max_age"] != 0 {
				t.Error("a stream was closed before its last block was written")
			}
		}
		publish(t, b, toAll("after"))
		slow.drain(-1)
		synctest.Wait()
		if closed, why := slow.closed(); !closed || why != broker.MaxAge || !slices.Equal(slow.data(), []string{"before"}) {
			t.Errorf("closed %t, %v, after %q", closed, why, slow.data())
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if closed, why := stuck.closed(); !closed || why != broker.WriteTimeout {
			t.Errorf("a stream whose connection accepts nothing: closed %t, %v", closed, why)
		}
		next := connect(t, b, broker.Subscription{LastEventID: slow.lastID()}, -1)
		synctest.Wait()
		if got := next.data(); !slices.Equal(got, []string{"after"}) {
			t.Errorf("the next stream got %q", got)
		}
	})
}

// TestMaxAgeDuringDrains drains and shuts down while streams reach their maximum age.
func TestMaxAgeDuringDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(withMaxAge(10 * time.Second))
		defer b.Close()
		var clients []*client
		for i := range 3000 {
			clients = append(clients, connect(t, b, broker.Subscription{User: fmt.Sprint("user", i%100)}, -1))
		}
		time.Sleep(9 * time.Second)
		if err := b.Drain(t.Context(), 2*time.Second); err != nil {
			t.Fatal(err)
		}
		got := b.Stats().Total.Disconnected
		if got["max_age"] < 100 || got["drained"] < 100 || got["max_age"]+got["drained"] != int64(len(clients)) {
			t.Errorf("reasons %v", got)
		}
		for _, c := range clients {
			if !lastBlock.MatchString(c.text()) {
				t.Fatalf("a stream ends with %q", c.text())
			}
		}

		for range 1000 {
			connect(t, b, broker.Subscription{}, -1)
		}
		time.Sleep(10 * time.Second)
		b.Close()
		if s := b.Stats().Total; s.Connections != 0 || s.Disconnected["shutdown"] == 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

// TestMaxAgeProperty checks that clients whose streams are closed because of their age, and
// that resume, get every event exactly once and in order.
func TestMaxAgeProperty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(r *rapid.T) { // hides *testing.T, because its deadline is in real time
			cfg := withMaxAge(rapid.SampledFrom([]time.Duration{time.Second, 3 * time.Second, 20 * time.Second}).Draw(r, "age"))
			cfg.Shards = rapid.IntRange(1, 3).Draw(r, "shards")
			b := broker.New(cfg)
			defer b.Close()

			names := []string{"bare", "chunked", "gzip", "chunked gzip"}
			subs := make([]broker.Subscription, len(names))
			streams, got := make([]*client, len(names)), make([][]string, len(names))
			room := func(i int) int { return []int{-1, 1000}[i%2] }
			for i, name := range names {
				subs[i] = broker.Subscription{User: "alice", Topics: []string{"a.*"}}
				streams[i] = connectAs(t, b, subs[i], room(i), forms()[name])
			}
			resume := func() {
				synctest.Wait()
				for i, c := range streams {
					c.drain(room(i))
					synctest.Wait()
					closed, why := c.closed()
					if !closed {
						continue
					}
					if why != broker.MaxAge {
						r.Fatalf("a stream was closed: %v", why)
					}
					got[i] = append(got[i], c.data()...)
					subs[i].LastEventID = c.lastID()
					streams[i] = connectAs(t, b, subs[i], room(i), forms()[names[i]])
				}
			}

			var want []string
			for range rapid.IntRange(1, 60).Draw(r, "steps") {
				for range rapid.IntRange(0, 3).Draw(r, "events") {
					data := fmt.Sprintf("%d %s", len(want), strings.Repeat("x", rapid.IntRange(0, 300).Draw(r, "size")))
					want = append(want, data)
					publish(t, b, []broker.Message{toAll(data), toUser("alice", data), toTopic("a.b", data)}[len(want)%3])
				}
				time.Sleep(time.Duration(rapid.IntRange(0, 2000).Draw(r, "ms")) * time.Millisecond)
				if rapid.Bool().Draw(r, "resume") {
					resume()
				}
			}
			for range 100 {
				resume()
			}
			for i, c := range streams {
				c.drain(-1)
				synctest.Wait()
				if got[i] = append(got[i], c.data()...); !slices.Equal(got[i], want) {
					r.Errorf("%s: got %.300q, want %.300q", names[i], got[i], want)
				}
			}
		})
	})
}
