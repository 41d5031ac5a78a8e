package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/peald/peald/internal/broker"
)

// TestSlowLink connects one of three nodes over links with a delay and little
// bandwidth. During a burst, the node must lag and report that, while the others
// continue. It must keep serving, and catch up after the burst.
func TestSlowLink(t *testing.T) {
	t.Parallel()
	cfgs, network := linkedConfigs(t, 3)
	var members []*member
	for _, cfg := range cfgs {
		members = append(members, start(t, cfg))
	}
	serving(t, members...)
	tr := newTraffic(t, members, 12, 6)
	leader := members[tr.leader()]
	one := (tr.leader() + 1) % 3
	slow, other := members[one], members[(one+1)%3]
	network.slow(one, 75*time.Millisecond, 256<<10)
	tr.flows(50)
	tr.pauses()

	c := slow.connect(t, broker.Subscription{User: "large"})
	const messages = 100
	data := strings.Repeat("x", 10<<10)
	large := func() []string {
		return slices.DeleteFunc(c.data(), func(d string) bool { return !strings.HasPrefix(d, data) }) // without broadcasts
	}
	begin, lag := time.Now(), 0.0
	for i := range messages {
		m := toUser("large", fmt.Sprint(data, i))
		tr.add(publication{audience: m.Audience, data: m.Data, publisher: -1, id: other.publish(t, m).ID})
	}
	published := time.Since(begin)
	eventually(t, func() bool {
		lag = max(lag, gauge(t, leader, "peald_cluster_replica_lag_entries"))
		return len(large()) >= messages
	}, func() string {
		return fmt.Sprintf("the slow node's stream received %d of %d events", len(large()), messages)
	})
	took := time.Since(begin)
	for i, got := range large() {
		if want := fmt.Sprint(data, i); got != want {
			t.Fatalf("event %d is number %s", i, got[len(data):])
		}
	}
	if serving, why := slow.Serving(); !serving {
		t.Errorf("the slow node isn't serving: %s", why)
	}
	if pause := tr.pauses(); pause > electedWithin {
		t.Errorf("publishing paused for %s", pause)
	}
	t.Logf("published in %s, delivered by the slow node after %s, with a lag of up to %.0f entries", published, took, lag)
	// A busy machine may publish more slowly than the link transmits.
	if published < took/2 && lag < 5 {
		t.Errorf("the leader reports a lag of at most %.0f entries, want at least 5", lag)
	}
	tr.flows(50)
	tr.finish()
}

// gauge returns the value of a metric of a node that has no labels.
func gauge(tb testing.TB, m *member, name string) float64 {
	tb.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(m)
	families, err := registry.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	tb.Fatalf("no metric %s", name)
	return 0
}
