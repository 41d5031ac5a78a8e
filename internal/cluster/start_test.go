package cluster_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/cluster"
)

// starts opens a stream on a node, and returns what it gets before a message that is
// published afterwards. A reset is its reason in brackets.
func (m *member) starts(tb testing.TB, sub broker.Subscription) string {
	tb.Helper()
	sub.User = fmt.Sprint("user", rand.Uint64())
	c := m.connect(tb, sub)
	m.publish(tb, toUser(sub.User, "live"))
	eventually(tb, func() bool { return slices.Contains(c.data(), "live") }, func() string { return fmt.Sprintf("got only %q", c.data()) })

	var all []string
	for _, data := range c.data() {
		if rest, isReset := strings.CutPrefix(data, `{"reason":"`); isReset {
			reason, _, _ := strings.Cut(rest, `"`)
			data = "[" + reason + "]"
		}
		all = append(all, data)
	}
	if all[len(all)-1] != "live" {
		tb.Fatalf("got %q, want the live event at the end", all)
	}
	return strings.Join(all[:len(all)-1], " ")
}

func (m *member) position(tb testing.TB) string {
	tb.Helper()
	id, err := m.broker.Position()
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

func toTopic(topic, data string) broker.Message {
	return broker.Message{Audience: broker.ToTopic(topic), Data: data}
}

// await waits until nodes have applied an event.
func await(tb testing.TB, id string, members ...*member) {
	tb.Helper()
	for _, m := range members {
		if err := m.broker.Await(tb.Context(), id); err != nil {
			tb.Fatal(err)
		}
	}
}

func TestStartsAgreeOnAllNodes(t *testing.T) {
	t.Parallel()
	members := startAll(t, 3)
	var times []time.Time
	var last broker.Receipt
	for i, msg := range []broker.Message{
		toAll("0"), toTopic("a", "1"), toTopic("b.x", "2"), toUser("alice", "3"), toTopic("a", "4"), toAll("5"),
	} {
		times = append(times, time.Now())
		last = members[i%len(members)].publish(t, msg)
	}
	await(t, last.ID, members...)
	for i, m := range members {
		if got := m.position(t); got != last.ID {
			t.Errorf("node %d has the position %s, want %s", i, got, last.ID)
		}
	}

	for name, c := range map[string]struct {
		topics []string
		start  broker.Start
		want   string
	}{
		"all":                       {nil, broker.SinceAll(), "0 5"},
		"all, topic":                {[]string{"a"}, broker.SinceAll(), "0 1 4 5"},
		"all, patterns":             {[]string{"a", "b.*"}, broker.SinceAll(), "0 1 2 4 5"},
		"a time":                    {[]string{"a", "b.x"}, broker.SinceTime(times[2]), "2 4 5"},
		"a time, patterns":          {[]string{">"}, broker.SinceTime(times[4]), "4 5"},
		"a time before the log":     {[]string{"a"}, broker.SinceTime(times[0].Add(-time.Hour)), "[expired] 0 1 4 5"},
		"a duration before the log": {[]string{">"}, broker.SinceAgo(time.Hour), "[expired] 0 1 2 4 5"},
		"rewind":                    {[]string{"a"}, broker.Rewind(3), "1 4 5"},
		"rewind, patterns":          {[]string{"b.>", "a"}, broker.Rewind(3), "2 4 5"},
		"rewind to the start":       {nil, broker.Rewind(100), "0 5"},
	} {
		for i, m := range members {
			if got := m.starts(t, broker.Subscription{Topics: c.topics, Start: c.start}); got != c.want {
				t.Errorf("%s: node %d sends %q, want %q", name, i, got, c.want)
			}
		}
	}
}

// TestPositionsResumeOnOtherNodes publishes on all nodes, while clients fetch a position
// on one node and open a stream with it on another. They must get everything that
// was published after their positions.
func TestPositionsResumeOnOtherNodes(t *testing.T) {
	t.Parallel()
	members := startAll(t, 3)
	type reader struct {
		*client

		from string
	}
	var readers []reader
	var ids []string
	for i := range 300 {
		if i%5 == 0 {
			from := members[rand.IntN(3)].position(t)
			readers = append(readers, reader{members[rand.IntN(3)].connect(t, broker.Subscription{LastEventID: from}), from})
		}
		ids = append(ids, members[rand.IntN(3)].publish(t, toAll(fmt.Sprint(i))).ID)
	}
	for _, r := range readers {
		var want []string
		for i, id := range ids {
			if sequence(id) > sequence(r.from) {
				want = append(want, fmt.Sprint(i))
			}
		}
		r.gets(t, want...)
	}
}

// TestStartsOnLateNode compares a node with another one that started after the first
// entries had been removed from the event log.
func TestStartsOnLateNode(t *testing.T) {
	t.Parallel()
	external := natsServer(t)
	cfg := cluster.Config{
		Name: "test", MaxBytes: 2 << 20, Replicas: 1, External: &cluster.External{URL: external.ClientURL()}, Logger: logger(t),
	}
	old := start(t, cfg)
	serving(t, old)
	before := time.Now()
	old.publish(t, toTopic("a", "gone"))
	for range 6 {
		old.publish(t, toTopic("large", strings.Repeat("x", 512<<10)))
	}
	after := time.Now()
	last := old.publish(t, toTopic("a", "kept"))
	late := start(t, cfg)
	serving(t, late)
	await(t, last.ID, old, late)
	if got, want := late.position(t), old.position(t); got != want {
		t.Errorf("the late node has the position %s, want %s", got, want)
	}

	for _, topics := range [][]string{{"a"}, {"a.*", "a"}} {
		for name, c := range map[string]struct {
			start     broker.Start
			old, late string
		}{
			"before the late node's events": {broker.SinceTime(before), "gone kept", "[expired] kept"},
			"after their start":             {broker.SinceTime(after), "kept", "kept"},
			"all":                           {broker.SinceAll(), "gone kept", "kept"},
			"rewind":                        {broker.Rewind(9), "gone kept", "kept"},
		} {
			for m, want := range map[*member]string{old: c.old, late: c.late} {
				if got := m.starts(t, broker.Subscription{Topics: topics, Start: c.start}); got != want {
					t.Errorf("%s, with %s: got %q, want %q (the late node: %v)", name, topics, got, want, m == late)
				}
			}
		}
	}
}

// TestPositionOfEmptyEventLog starts a node after all entries have been removed from the
// event log. Its position has a higher number than that of the other node, which must
// accept it nevertheless.
func TestPositionOfEmptyEventLog(t *testing.T) {
	t.Parallel()
	external := natsServer(t)
	cfg := cluster.Config{Name: "test", Replicas: 1, External: &cluster.External{URL: external.ClientURL()}, Logger: logger(t)}
	old := start(t, cfg)
	serving(t, old)
	for i := range 3 {
		old.publish(t, toAll(fmt.Sprint(i)))
	}

	purge(t, external.ClientURL(), cfg.Name)
	late := start(t, cfg)
	serving(t, late)
	id := late.position(t)
	for _, m := range []*member{old, late} {
		if got := m.starts(t, broker.Subscription{LastEventID: id}); got != "" {
			t.Errorf("%s: got %q, want nothing before the live event", id, got)
		}
	}
}

// purge removes all entries from the event log, as if they had expired.
func purge(t *testing.T, url, name string) {
	t.Helper()
	conn, err := nats.Connect(url)
	must(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := js.Stream(ctx, name)
	must(t, err)
	must(t, stream.Purge(ctx))
}

// TestStartsBeforeNewEpoch checks that a stream that starts before the event log got a
// new epoch gets a reset, since events may be missing.
func TestStartsBeforeNewEpoch(t *testing.T) {
	t.Parallel()
	cfg := configs(t, 1)[0]
	m := start(t, cfg)
	serving(t, m)
	before := time.Now()
	m.publish(t, toAll("0"))
	m.publish(t, toAll("1"))
	for _, renew := range []bool{false, true} {
		want := "0 1"
		m.end(t)
		if renew {
			want = "[expired] 0 1"
			must(t, os.Remove(filepath.Join(cfg.Embedded.Dir, "mark")))
		}
		m = start(t, cfg)
		serving(t, m)
		if got := m.starts(t, broker.Subscription{Start: broker.SinceTime(before)}); got != want {
			t.Errorf("with a new epoch %v: got %q, want %q", renew, got, want)
		}
	}
	if got := m.starts(t, broker.Subscription{Start: broker.SinceTime(time.Now())}); got != "" {
		t.Errorf("after the new epoch: got %q, want nothing", got)
	}
}
