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
	"testing"
	"testing/synctest"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/demo"
)

// recorder is a broker that keeps the times of what is published.
type recorder struct {
	users []string // in ascending order
	fail  error

	at   map[broker.Audience][]time.Time
	data []string
}

func (r *recorder) Publish(_ context.Context, m broker.Message) (broker.Receipt, error) {
	if m.Event != "" {
		return broker.Receipt{}, fmt.Errorf("an event of type %q", m.Event)
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

func random() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

// runFor lets traffic run for a made-up time.
func runFor(t *testing.T, long time.Duration, b demo.Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	if err := demo.Run(ctx, b, random()); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// within says whether n is no further from mean than chance explains.
func within(n int, mean float64) bool {
	const deviations = 4
	return math.Abs(float64(n)-mean) < deviations*math.Sqrt(mean)
}

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const long = 2 * time.Hour
		users := []string{"alice", "bob", "Zoë"}
		slices.Sort(users)
		b := &recorder{users: users}
		runFor(t, long, b)
		if n, mean := len(b.at[broker.Everyone()]), long.Seconds(); !within(n, mean) {
			t.Errorf("%d broadcasts in %s, want about %.0f", n, long, mean)
		}
		for _, user := range users {
			if n, mean := len(b.at[broker.ToUser(user)]), long.Seconds()/10; !within(n, mean) {
				t.Errorf("%d events for %s in %s, want about %.0f", n, user, long, mean)
			}
		}
		if len(b.at) != 1+len(users) {
			t.Errorf("events for %d audiences, want %d", len(b.at), 1+len(users))
		}
	})
}

// TestGapsAreExponential compares the gaps between events with the share that
// an exponential distribution has below some lengths.
func TestGapsAreExponential(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &recorder{users: []string{"alice"}}
		runFor(t, 12*time.Hour, b)
		for audience, mean := range map[broker.Audience]time.Duration{broker.Everyone(): time.Second, broker.ToUser("alice"): 10 * time.Second} {
			times := b.at[audience]
			for _, share := range []float64{0.1, 0.5, 1, 2, 3} {
				var below int
				for i := 1; i < len(times); i++ {
					if times[i].Sub(times[i-1]) < time.Duration(share*float64(mean)) {
						below++
					}
				}
				if want := float64(len(times)) * (1 - math.Exp(-share)); !within(below, want) {
					t.Errorf("%d of %d gaps are shorter than %.1f × %s, want about %.0f", below, len(times), share, mean, want)
				}
			}
		}
	})
}

func TestEveryPageOfUsersIsWalked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &recorder{}
		for i := range 1000 {
			b.users = append(b.users, fmt.Sprintf("user-%04d", i))
		}
		runFor(t, 5*time.Minute, b)
		if len(b.at) != 1+len(b.users) {
			t.Errorf("events for %d of %d users", len(b.at)-1, len(b.users))
		}
	})
}

func TestDataIsVaried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &recorder{users: []string{"alice"}}
		runFor(t, time.Hour, b)
		kinds := map[string]int{}
		for _, data := range b.data {
			var notice struct{ Kind, Title, Text string }
			if json.Unmarshal([]byte(data), &notice) != nil {
				kinds["text"]++
				continue
			}
			if notice.Title == "" || notice.Text == "" {
				t.Fatalf("data is %s", data)
			}
			kinds[notice.Kind]++
		}
		if len(kinds) < 10 || kinds["text"] == 0 {
			t.Errorf("kinds of data are %v", kinds)
		}
	})
}

func TestEndOfTraffic(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct{ fail, want error }{
		"the broker closes": {broker.ErrClosed, nil},
		"the broker fails":  {broken, broken},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if err := demo.Run(t.Context(), &recorder{fail: test.fail}, random()); !errors.Is(err, test.want) {
					t.Errorf("Run = %v, want %v", err, test.want)
				}
			})
		})
	}
	t.Run("its context ended before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		b := &recorder{}
		if err := demo.Run(ctx, b, random()); err != nil || len(b.data) > 0 {
			t.Errorf("Run = %v after %d events", err, len(b.data))
		}
	})
}

// TestRealBrokerTakesIt publishes to the broker that it is for.
func TestRealBrokerTakesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := broker.New(broker.Config{
			Shards: 2, QueueBytes: 1 << 20, SlowConsumer: broker.Disconnect,
			Heartbeat: 15 * time.Second, Retry: time.Second, WriteTimeout: time.Second,
		})
		defer b.Close()
		runFor(t, 10*time.Minute, b)
		if n := int(b.Stats().Published); !within(n, 600) {
			t.Errorf("%d events were published", n)
		}
	})
}
