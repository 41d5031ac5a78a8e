package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/cluster"
)

func retained(topic, key, data string) broker.Message {
	return broker.Message{Audience: broker.ToTopic(topic), ConflateKey: key, Data: data, Retain: true}
}

// values returns a node's retained values, with their ids.
func (m *member) values() []string {
	state, _ := m.broker.RetainedState()
	var all []string
	for v := range state.Values() {
		all = append(all, fmt.Sprint(v.ID, " ", v.Audience, v.Topics, v.ExcludeUser, v.ConflateKey, " ", v.Data))
	}
	return all
}

// agree waits until all nodes have the same retained values, and returns them.
func agree(tb testing.TB, members ...*member) []string {
	tb.Helper()
	var all [][]string
	eventually(tb, func() bool {
		all = nil
		for _, m := range members {
			all = append(all, m.values())
		}
		return !slices.ContainsFunc(all, func(v []string) bool { return !slices.Equal(v, all[0]) })
	}, func() string { return fmt.Sprintf("the nodes have different values: %q", all) })
	return all[0]
}

// saved waits until a snapshot includes a message.
func saved(tb testing.TB, m *member, r broker.Receipt) {
	tb.Helper()
	eventually(tb, func() bool { return m.SavedRetained() >= sequence(r.ID) }, func() string { return "no snapshot was saved" })
}

func TestRetainedValuesOnAllNodes(t *testing.T) {
	cfgs := configs(t, 3)
	members := []*member{start(t, cfgs[0]), start(t, cfgs[1]), start(t, cfgs[2])}
	serving(t, members...)
	for i, m := range members {
		m.publish(t, retained("t", "", fmt.Sprint("first ", i)))
		m.publish(t, retained("t", fmt.Sprint(i), fmt.Sprint(i)))
	}
	policy := brokerConfig()
	policy.Topics = []broker.TopicPolicy{{Pattern: "p", Retain: true}}
	members[1].broker.Reconfigure(policy)
	byPolicy := broker.Message{Audience: broker.ToTopic("q"), Topics: []string{"p"}, Data: "by policy", ExcludeUser: "alice"}
	byPolicy.IdempotencyKey = "key"
	last := members[1].publish(t, byPolicy)
	for _, m := range members {
		if again := m.publish(t, byPolicy); again.ID != last.ID {
			t.Errorf("a repetition of %s was published as %s", last.ID, again.ID)
		}
	}
	members[0].broker.Reconfigure(brokerConfig())
	agree(t, members...)
	for _, m := range members {
		m.connect(t, broker.Subscription{Topics: []string{"*"}}).gets(t, "0", "1", "first 2", "2", "by policy")
		m.connect(t, broker.Subscription{Topics: []string{"*"}, User: "alice"}).gets(t, "0", "1", "first 2", "2")
		m.connect(t, broker.Subscription{Topics: []string{"q"}}).gets(t)
	}

	one := "1"
	if n, err := members[2].ClearRetained(t.Context(), broker.Clear{Audience: broker.ToTopic("t"), ConflateKey: &one}); n != 1 || err != nil {
		t.Errorf("cleared %d values: %v", n, err)
	}
	if n, err := members[2].ClearRetained(t.Context(), broker.Clear{Audience: broker.ToTopic("t.*")}); n != 0 || err == nil {
		t.Errorf("cleared %d values for a pattern", n)
	}
	want := agree(t, members...)
	if len(want) != 4 {
		t.Errorf("the nodes have %q", want)
	}
	saved(t, members[0], last)

	// A node that restarts has the values before it serves.
	members[1].end(t)
	again := start(t, cfgs[1])
	serving(t, again)
	if got := again.values(); !slices.Equal(got, want) {
		t.Errorf("after a restart, a node has %q, want %q", got, want)
	}

	// One entry of the log clears everything.
	members[1] = again
	if n, err := again.ClearRetained(t.Context(), broker.Clear{All: true}); n != len(want) || err != nil {
		t.Errorf("cleared %d values, want %d: %v", n, len(want), err)
	}
	if left := agree(t, members...); len(left) != 0 {
		t.Errorf("the nodes still have %q", left)
	}
}

// TestRetainedValuesOutliveTheLog checks that values survive when the event log has lost
// the entries that set them, whether or not the node was shut down properly.
func TestRetainedValuesOutliveTheLog(t *testing.T) {
	for kill, rounds := range map[bool]int{false: 1, true: 2} {
		t.Run(fmt.Sprint("kill=", kill), func(t *testing.T) {
			cfg := configs(t, 1)[0]
			cfg.MaxAge = time.Second
			m := start(t, cfg)
			serving(t, m)
			for i := range 300 {
				value := retained("t", fmt.Sprint(i), strings.Repeat("x", 3000)+fmt.Sprint(i))
				if i%3 == 0 {
					value.Topics, value.ExcludeUser = []string{"u", "v"}, "alice"
				}
				m.publish(t, value)
			}
			last := m.publish(t, retained("u", "0", "only for u"))
			if kill {
				saved(t, m, last)
			}
			want := m.values()
			for round := range rounds {
				if kill {
					m.kill(t)
				} else {
					m.end(t)
				}
				m = startWithoutEntry(t, cfg, last)
				if got := m.values(); !slices.Equal(got, want) {
					t.Fatalf("round %d: %d values, want %d", round, len(got), len(want))
				}
				last = m.publish(t, retained("t", "0", fmt.Sprint("round ", round)))
				saved(t, m, last)
				want = m.values()
			}
			if n := m.RetainedMessages(t); n > 10 {
				t.Errorf("the snapshot has %d messages; earlier ones weren't removed", n)
			}
			m.connect(t, broker.Subscription{Topics: []string{"t"}, LastEventID: last.ID}).gets(t)
		})
	}
}

// startWithoutEntry starts a node when its event log no longer has an entry.
func startWithoutEntry(t *testing.T, cfg cluster.Config, r broker.Receipt) *member {
	t.Helper()
	for {
		m := start(t, cfg)
		serving(t, m)
		c := m.connect(t, broker.Subscription{Topics: []string{"x"}, Start: broker.SinceAgo(time.Hour)})
		eventually(t, func() bool { return len(c.data()) > 0 }, func() string { return "no reset" })
		if first, _ := m.LogRange(); first*1024 > sequence(r.ID) {
			return m
		}
		m.kill(t)
	}
}

// TestRetainLimitsInACluster publishes to two nodes at once, beyond the limit.
func TestRetainLimitsInACluster(t *testing.T) {
	limited := brokerConfig()
	limited.Retain.MaxEvents = 50
	var members []*member
	for _, cfg := range configs(t, 2) {
		members = append(members, startOn(t, cfg, limited))
	}
	serving(t, members...)
	var accepted, full atomic.Int64
	var publishing sync.WaitGroup
	for i, m := range members {
		for j := range 60 {
			publishing.Go(func() {
				_, err := m.Publish(t.Context(), retained("t", fmt.Sprint(i, j), "x"))
				switch e := (*broker.RetainFullError)(nil); {
				case err == nil:
					accepted.Add(1)
				case errors.As(err, &e):
					full.Add(1)
				default:
					t.Error(err)
				}
			})
		}
	}
	publishing.Wait()
	if accepted.Load() != 50 || full.Load() != 70 || len(agree(t, members...)) != 50 {
		t.Errorf("%d messages were accepted, %d rejected", accepted.Load(), full.Load())
	}
	c := members[1].connect(t, broker.Subscription{Topics: []string{"t"}, Start: broker.SinceAll()})
	eventually(t, func() bool { return len(c.data()) == 50 }, func() string { return fmt.Sprintf("the history has %d events, want 50", len(c.data())) })
}

// TestRetainedValuesAfterKills kills the leader while values are being published, and
// checks that no accepted value is lost.
func TestRetainedValuesAfterKills(t *testing.T) {
	cfgs := configs(t, 3)
	var members []*member
	for _, cfg := range cfgs {
		members = append(members, start(t, cfg))
	}
	serving(t, members...)
	leader := slices.IndexFunc(members, func(m *member) bool { return m.Leads() })
	if leader < 0 {
		t.Fatal("no leader")
	}
	publisher := members[(leader+1)%3]

	ctx, stop := context.WithCancel(t.Context())
	var publishing sync.WaitGroup
	accepted := make([]atomic.Int64, 8)
	for k := range accepted {
		publishing.Go(func() {
			for i := int64(1); ctx.Err() == nil; i++ {
				m := retained("t", fmt.Sprint(k), fmt.Sprint(i))
				m.IdempotencyKey = fmt.Sprint(k, "-", i)
				for ctx.Err() == nil {
					if _, err := publisher.Publish(ctx, m); err == nil {
						accepted[k].Store(i)
						break
					}
				}
			}
		})
	}
	total := func() (n int64) {
		for k := range accepted {
			n += accepted[k].Load()
		}
		return n
	}
	publishedAfter := func(n int64) {
		t.Helper()
		before := total()
		eventually(t, func() bool { return total() >= before+n }, func() string { return "publishing has stopped" })
	}
	publishedAfter(500)
	members[leader].kill(t)
	publishedAfter(500)
	members[leader] = start(t, cfgs[leader])
	serving(t, members[leader])
	publishedAfter(100)
	stop()
	publishing.Wait()
	serving(t, members...)

	values := agree(t, members...)
	if len(values) != len(accepted) {
		t.Fatalf("the nodes have %q", values)
	}
	for _, v := range values {
		var id, audience, data string
		fields := strings.Fields(v)
		id, audience, data = fields[0], strings.Join(fields[1:len(fields)-1], " "), fields[len(fields)-1]
		k, i := 0, int64(0)
		_, _ = fmt.Sscan(strings.TrimRight(audience[len(audience)-1:], " "), &k)
		_, _ = fmt.Sscan(data, &i)
		if i < accepted[k].Load() || i > accepted[k].Load()+1 {
			t.Errorf("%s: value %d of key %d; %d was accepted last", id, i, k, accepted[k].Load())
		}
	}
}
