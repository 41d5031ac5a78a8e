package demo_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/demo"
)

// recorder is a broker that records what is published, and when.
type recorder struct {
	users []string // in ascending order
	fail  error

	at   map[broker.Audience][]time.Time
	data []string
}

func (r *recorder) Publish(_ context.Context, m broker.Message) (broker.Receipt, error) {
	if m.Event != "" {
		return broker.Receipt{}, fmt.Errorf("unexpected event type %q", m.Event)
	}

	if r.at == nil {
		r.at = map[broker.Audience][]time.Time{}
	}

	r.at[m.Audience] = append(r.at[m.Audience], time.Now())
	r.data = append(r.data, m.Data)

	return broker.Receipt{}, r.fail
}

func (r *recorder) Users(prefix, after string, limit int) []broker.User {
	var page []broker.User

	for _, id := range r.users {
		if id > after && strings.HasPrefix(id, prefix) && len(page) < limit {
			page = append(page, broker.User{ID: id})
		}
	}

	return page
}

// toTopics returns when events were published to topics, in order.
func (r *recorder) toTopics() (times []time.Time) {
	for audience, at := range r.at {
		if _, ok := audience.Topic(); ok {
			times = append(times, at...)
		}
	}

	slices.SortFunc(times, time.Time.Compare)

	return times
}

func random() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

// runFor runs traffic for a period of fake time.
func runFor(t *testing.T, span time.Duration, traffic demo.Traffic) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), span)
	defer cancel()

	traffic.Random = random()

	if err := traffic.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// within reports whether n differs from mean by no more than chance explains.
func within(n int, mean float64) bool {
	const deviations = 4

	return math.Abs(float64(n)-mean) < deviations*math.Sqrt(mean)
}

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const span = 2 * time.Hour

		users := []string{"alice", "bob", "Zoë"}
		slices.Sort(users)

		b := &recorder{users: users}
		runFor(t, span, demo.Traffic{Broker: b})

		if n, mean := len(b.at[broker.Everyone()]), span.Seconds(); !within(n, mean) {
			t.Errorf("%d broadcasts in %s, want about %.0f", n, span, mean)
		}

		if n, mean := len(b.toTopics()), 2*span.Seconds(); !within(n, mean) {
			t.Errorf("%d events to topics in %s, want about %.0f", n, span, mean)
		}

		for _, user := range users {
			if n, mean := len(b.at[broker.ToUser(user)]), span.Seconds()/10; !within(n, mean) {
				t.Errorf("%d events for %s in %s, want about %.0f", n, user, span, mean)
			}
		}

		for _, topic := range []string{"prices.bells", "stock.gongs", "chat.workshop"} {
			if len(b.at[broker.ToTopic(topic)]) == 0 {
				t.Errorf("no event for topic %s in %s", topic, span)
			}
		}
	})
}

// TestGapsAreExponential compares the lengths of the gaps between events with
// an exponential distribution.
func TestGapsAreExponential(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &recorder{users: []string{"alice"}}
		runFor(t, 4*time.Hour, demo.Traffic{Broker: b})

		for name, test := range map[string]struct {
			times []time.Time
			mean  time.Duration
		}{
			"broadcasts": {b.at[broker.Everyone()], time.Second},
			"topics":     {b.toTopics(), time.Second / 2},
			"alice":      {b.at[broker.ToUser("alice")], 10 * time.Second},
		} {
			for _, share := range []float64{0.1, 0.5, 1, 2, 3} {
				var below int

				for i := 1; i < len(test.times); i++ {
					if test.times[i].Sub(test.times[i-1]) < time.Duration(share*float64(test.mean)) {
						below++
					}
				}

				if want := float64(len(test.times)) * (1 - math.Exp(-share)); !within(below, want) {
					t.Errorf("%s: %d of %d gaps are shorter than %.1f × %s, want about %.0f", name, below, len(test.times), share, test.mean, want)
				}
			}
		}
	})
}

func TestManyUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &recorder{}
		for i := range 1000 {
			b.users = append(b.users, fmt.Sprintf("user-%04d", i))
		}

		runFor(t, 5*time.Minute, demo.Traffic{Broker: b})

		for _, user := range b.users {
			if len(b.at[broker.ToUser(user)]) == 0 {
				t.Errorf("no event for %s", user)
			}
		}
	})
}

func TestDataIsVaried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &recorder{users: []string{"alice"}}
		runFor(t, time.Hour, demo.Traffic{Broker: b})

		kinds := map[string]int{}

		for _, data := range b.data {
			var notice struct{ Kind, Title, Text string }

			if json.Unmarshal([]byte(data), &notice) != nil {
				kinds["text"]++
				continue
			}

			if notice.Title == "" || notice.Text == "" {
				t.Fatalf("data has no title or no text: %s", data)
			}

			kinds[notice.Kind]++
		}

		if len(kinds) < 10 || kinds["text"] == 0 {
			t.Errorf("kinds of data: %v; want 10 or more, plain text among them", kinds)
		}
	})
}

func TestEndOfTraffic(t *testing.T) {
	broken := errors.New("broken")

	for name, test := range map[string]struct{ fail, want error }{
		"broker closes":         {broker.ErrClosed, nil},
		"broker fails":          {broken, broken},
		"broker is unavailable": {&broker.UnavailableError{Reason: "no quorum"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()

				traffic := demo.Traffic{Broker: &recorder{fail: test.fail}, Random: random()}
				if err := traffic.Run(ctx); !errors.Is(err, test.want) {
					t.Errorf("Run = %v, want %v", err, test.want)
				}
			})
		})
	}

	t.Run("context already canceled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()

		b := &recorder{}

		traffic := demo.Traffic{Broker: b, Random: random()}
		if err := traffic.Run(ctx); err != nil || len(b.data) > 0 {
			t.Errorf("Run = %v after %d events, want nil and none", err, len(b.data))
		}
	})
}

// TestRealBroker runs traffic and visitors on a broker.
func TestRealBroker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(broker.Config{
			Shards: 2, QueueBytes: 1 << 20, SlowConsumer: broker.Disconnect,
			Heartbeat: 15 * time.Second, Retry: time.Second, WriteTimeout: time.Second,
		})
		defer b.Close()

		var running sync.WaitGroup

		running.Go(func() { runFor(t, 10*time.Minute, demo.Traffic{Broker: b, Streams: b}) })

		<-time.After(100 * time.Millisecond)

		if users, topics := len(b.Users("", "", 100)), len(b.Topics("", "", 100)); users < 5 || topics < 5 {
			t.Errorf("%d users and %d topics at first, want 5 or more of both", users, topics)
		}

		if _, err := b.Disconnect("nadia", 2*time.Minute); err != nil {
			t.Fatal(err)
		}

		<-time.After(time.Minute)

		if users := b.Users("nadia", "", 1); len(users) > 0 {
			t.Error("a banned visitor reconnected")
		}

		running.Wait()
		synctest.Wait()

		stats := b.Stats()
		if stats.Published < 1000 {
			t.Errorf("%d events were published in ten minutes, want more than 1000", stats.Published)
		}

		if total := stats.Total; total.Connections > 0 || total.Connected < 20 {
			t.Errorf("%d streams are open and %d were opened, want none and 20 or more", total.Connections, total.Connected)
		}
	})
}
