package cluster_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/cluster"
	"github.com/peald/peald/internal/testbed"
)

// natsServer starts an external NATS server.
func natsServer(t *testing.T, change ...func(*server.Options)) *server.Server {
	t.Helper()
	options := &server.Options{
		ServerName: "external", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, JetStream: true, StoreDir: t.TempDir(),
	}
	for _, f := range change {
		f(options)
	}
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the NATS server is not ready")
	}
	return s
}

func TestExternalServers(t *testing.T) {
	t.Parallel()
	external := natsServer(t)
	cfg := cluster.Config{
		Name: "test", MaxAge: time.Minute, MaxBytes: 64 << 20, Replicas: 1,
		External: &cluster.External{URL: external.ClientURL()}, Logger: logger(t),
	}
	a, b := start(t, cfg), start(t, cfg)
	serving(t, a, b)
	c := b.connect(t, broker.Subscription{User: "alice"})
	first := a.publish(t, toUser("alice", "one"))
	c.gets(t, "one")
	a.publish(t, toAll("two"))
	b.connect(t, broker.Subscription{LastEventID: first.ID}).gets(t, "two")
}

func TestDeletedEventLogIsCreatedAgain(t *testing.T) {
	t.Parallel()
	external := natsServer(t)
	cfg := cluster.Config{
		Name: "test", Replicas: 1, External: &cluster.External{URL: external.ClientURL()}, Logger: logger(t),
	}
	m := start(t, cfg)
	serving(t, m)
	old := m.publish(t, toAll("one"))
	c := m.connect(t, broker.Subscription{})
	m.DeleteLog(t)
	eventually(t, func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.ended }, func() string { return "the stream stays open" })
	serving(t, m)
	if r := m.publish(t, toAll("two")); r.ID == old.ID {
		t.Errorf("the new event log reuses the id %q", r.ID)
	}
	resumed := m.connect(t, broker.Subscription{LastEventID: old.ID})
	eventually(t, func() bool { return len(resumed.data()) > 0 }, func() string { return "the client gets no reset" })
	if got, want := resumed.data()[0], `{"reason":"unknown","last_event_id":"`+old.ID+`"}`; got != want {
		t.Errorf("a client that followed the old event log gets %s, want %s", got, want)
	}
}

// TestNodesAgreeOnIdempotencyKeys makes a message's entry expire from the event log
// before its idempotency key is forgotten, so that a node that starts in between
// doesn't know the key. When the message is repeated, all nodes must follow the
// verdict of the node on which it was published.
func TestNodesAgreeOnIdempotencyKeys(t *testing.T) {
	t.Parallel()
	external := natsServer(t)
	cfg := cluster.Config{
		Name: "test", MaxBytes: 2 << 20, Replicas: 1, External: &cluster.External{URL: external.ClientURL()}, Logger: logger(t),
	}
	old := start(t, cfg)
	serving(t, old)
	keyed := func(key, data string) broker.Message {
		m := toAll(data)
		m.IdempotencyKey = key
		return m
	}
	first := old.publish(t, keyed("a", "once"))
	old.publish(t, keyed("b", "twice"))
	large := strings.Repeat("x", 512<<10)
	for range 6 {
		old.publish(t, toAll(large))
	}
	mark := old.publish(t, toAll("mark"))
	late := start(t, cfg)
	serving(t, late)

	if again := old.publish(t, keyed("a", "once")); again.ID != first.ID {
		t.Errorf("on the node that knows the key, the repetition has the id %q, want %q", again.ID, first.ID)
	}
	if _, err := old.Publish(t.Context(), keyed("a", "else")); !errors.Is(err, broker.ErrKeyUsed) {
		t.Errorf("on the node that knows the key, another message: error %v", err)
	}

	// The other node can't know the key, so the message is new on both.
	second := late.publish(t, keyed("b", "twice"))
	if again := old.publish(t, keyed("b", "twice")); again.ID != second.ID {
		t.Errorf("the repetition has the id %q, want %q as on the other node", again.ID, second.ID)
	}
	last := late.publish(t, toAll("last"))
	for _, m := range []*member{old, late} {
		c := m.connect(t, broker.Subscription{LastEventID: mark.ID})
		m.broker.Await(t.Context(), last.ID)
		c.gets(t, "twice", "last")
	}
}

// TestMaxPayloadOfServers uses servers with a small max_payload. A message that is too
// large for them must be rejected immediately without delaying others, and a batch
// must not exceed the limit.
func TestMaxPayloadOfServers(t *testing.T) {
	t.Parallel()
	external := natsServer(t, func(o *server.Options) { o.MaxPayload = 64 << 10 })
	log := new(testbed.Log)
	m := start(t, cluster.Config{
		Name: "test", Replicas: 1, External: &cluster.External{URL: external.ClientURL()}, Logger: loggingTo(log),
	})
	serving(t, m)
	_, err := m.Publish(t.Context(), toAll(strings.Repeat("x", 64<<10)))
	if invalid, ok := errors.AsType[*broker.InvalidError](err); !ok || invalid.Field != "data" || !strings.Contains(invalid.Reason, "max_payload") {
		t.Errorf("a message that is too large for the servers: error %v", err)
	}
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			if _, err := m.Publish(t.Context(), toAll(strings.Repeat("x", 20<<10))); err != nil {
				t.Errorf("a message that fits: error %v", err)
			}
		})
	}
	all.Wait()
	if len(log.With("level=WARN", "max_payload=65536")) != 1 {
		t.Errorf("want one warning about max_payload, got\n%s", log.String())
	}
}

// limitedServer starts a NATS server whose only user may publish on some subjects,
// and returns how to connect as that user.
func limitedServer(t *testing.T, allow ...string) *cluster.External {
	t.Helper()
	external := natsServer(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "peald", Password: "peald", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: allow},
		}}}
	})
	return &cluster.External{URL: strings.Replace(external.ClientURL(), "nats://", "nats://peald:peald@", 1)}
}

// TestErrorsNameMissingPermissions allows a node to read the event log, but not to
// append to it.
func TestErrorsNameMissingPermissions(t *testing.T) {
	t.Parallel()
	m := start(t, cluster.Config{
		Name: "test", Replicas: 1, External: limitedServer(t, "_INBOX.>", "$JS.API.>"), Logger: logger(t),
	})
	serving(t, m)
	_, err := m.Publish(t.Context(), toAll("one"))
	if err == nil || !strings.Contains(err.Error(), "permission denied") || !strings.Contains(err.Error(), "test.entries") {
		t.Errorf("publishing without the permission: error %v, want one that names the subject", err)
	}
}

// TestRetainedValuesNeedPermission runs a node that may use the event log, but not the
// stream with the retained values, as before there were any.
func TestRetainedValuesNeedPermission(t *testing.T) {
	t.Parallel()
	m := start(t, cluster.Config{
		Name: "test", Replicas: 1, Logger: logger(t),
		External: limitedServer(t, "test.>", "_INBOX.>", "$JS.API.STREAM.*.test", "$JS.API.STREAM.MSG.GET.test", "$JS.API.DIRECT.GET.test"),
	})
	serving(t, m)
	m.publish(t, retained("t", "", "1"))
	m.connect(t, broker.Subscription{Topics: []string{"t"}}).gets(t, "1")
}

// TestReasonWithoutEventLog starts nodes that can't create an event log.
func TestReasonWithoutEventLog(t *testing.T) {
	t.Parallel()
	awaitReason := func(m *member, parts ...string) {
		t.Helper()
		var reason string
		eventually(t, func() bool {
			_, reason = m.Serving()
			return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(reason, part) })
		}, func() string { return fmt.Sprintf("the reason is %q, want %q", reason, parts) })
	}
	external := natsServer(t)
	awaitReason(start(t, cluster.Config{Name: "test", External: &cluster.External{URL: external.ClientURL()}, Logger: logger(t)}),
		"replicas > 1 not supported")
	log, denied := new(testbed.Log), limitedServer(t, "test.>", "_INBOX.>", "$JS.API.STREAM.INFO.test")
	awaitReason(start(t, cluster.Config{Name: "test", Replicas: 1, External: denied, Logger: loggingTo(log)}),
		"permission denied", "$JS.API.STREAM.CREATE.test")
	if lines := log.With("level=WARN", "permission denied", "$JS.API.STREAM.CREATE.test"); len(lines) != 1 {
		t.Errorf("want one warning about the permission, got\n%s", strings.Join(lines, ""))
	}
	cfgs := configs(t, 3)
	one, two := start(t, cfgs[0]), start(t, cfgs[1])
	awaitReason(one, "connected to 1 other nodes", "all of cluster.peers must be running")
	awaitReason(two, "connected to 1 other nodes", "all of cluster.peers must be running")
	three := start(t, cfgs[2])
	serving(t, one, two, three)
}
