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
	"github.com/peald/peald/internal/pealdtest"
)

// natsServer starts a NATS server as somebody else would run one.
func natsServer(t *testing.T, change ...func(*server.Options)) *server.Server {
	t.Helper()
	options := &server.Options{
		ServerName: "theirs", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, JetStream: true, StoreDir: t.TempDir(),
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

func TestNodesMeetOverSomebodyElsesServers(t *testing.T) {
	t.Parallel()
	theirs := natsServer(t)
	cfg := cluster.Config{
		Name: "test", MaxAge: time.Minute, MaxBytes: 64 << 20, Replicas: 1,
		External: &cluster.External{URL: theirs.ClientURL()}, Logger: logger(t),
	}
	a, b := start(t, cfg), start(t, cfg)
	serving(t, a, b)
	c := b.connect(t, broker.Subscription{User: "alice"})
	first := a.publish(t, toUser("alice", "one"))
	c.gets(t, "one")
	a.publish(t, toAll("two"))
	b.connect(t, broker.Subscription{LastEventID: first.ID}).gets(t, "two")
}

func TestALogThatIsDeletedIsMadeAnew(t *testing.T) {
	t.Parallel()
	theirs := natsServer(t)
	cfg := cluster.Config{
		Name: "test", Replicas: 1, External: &cluster.External{URL: theirs.ClientURL()}, Logger: logger(t),
	}
	m := start(t, cfg)
	serving(t, m)
	old := m.publish(t, toAll("one"))
	c := m.connect(t, broker.Subscription{})
	m.DeleteLog(t)
	eventually(t, func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.ended }, func() string { return "the stream goes on" })
	serving(t, m)
	if r := m.publish(t, toAll("two")); r.ID == old.ID {
		t.Errorf("the new log has an event %q, as the old one had", r.ID)
	}
	resumed := m.connect(t, broker.Subscription{LastEventID: old.ID})
	eventually(t, func() bool { return len(resumed.data()) > 0 }, func() string { return "no reset" })
	if got, want := resumed.data()[0], `{"reason":"unknown","last_event_id":"`+old.ID+`"}`; got != want {
		t.Errorf("a client of the old log gets %s, want %s", got, want)
	}
}

// TestNodesThatKnowOtherKeysAnswerAlike has a message's entry leave the log
// before its idempotency key is forgotten, so that a node that starts then
// doesn't know it: when it comes again, both do with it what is right by the
// node that it came to.
func TestNodesThatKnowOtherKeysAnswerAlike(t *testing.T) {
	t.Parallel()
	theirs := natsServer(t)
	cfg := cluster.Config{
		Name: "test", MaxBytes: 2 << 20, Replicas: 1, External: &cluster.External{URL: theirs.ClientURL()}, Logger: logger(t),
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
		t.Errorf("by the node that knows the key the repetition is %q, want %q", again.ID, first.ID)
	}
	if _, err := old.Publish(t.Context(), keyed("a", "else")); !errors.Is(err, broker.ErrKeyUsed) {
		t.Errorf("by the node that knows the key another message is taken: %v", err)
	}
	// The other one can't know, and so it is new, on both.
	second := late.publish(t, keyed("b", "twice"))
	if again := old.publish(t, keyed("b", "twice")); again.ID != second.ID {
		t.Errorf("the repetition is %q, want %q, which the other node has made of it", again.ID, second.ID)
	}
	last := late.publish(t, toAll("last"))
	for _, m := range []*member{old, late} {
		c := m.connect(t, broker.Subscription{LastEventID: mark.ID})
		m.broker.Await(t.Context(), last.ID)
		c.gets(t, "twice", "last")
	}
}

// TestWhatTheServersDontTakeIsRefused has servers that take little: a message
// that is too large for them is refused at once, and holds up nobody; small ones
// that come together are parted.
func TestWhatTheServersDontTakeIsRefused(t *testing.T) {
	t.Parallel()
	theirs := natsServer(t, func(o *server.Options) { o.MaxPayload = 64 << 10 })
	log := new(pealdtest.Log)
	m := start(t, cluster.Config{
		Name: "test", Replicas: 1, External: &cluster.External{URL: theirs.ClientURL()}, Logger: loggingTo(log),
	})
	serving(t, m)
	_, err := m.Publish(t.Context(), toAll(strings.Repeat("x", 64<<10)))
	if invalid, ok := errors.AsType[*broker.InvalidError](err); !ok || invalid.Field != "data" || !strings.Contains(invalid.Reason, "max_payload") {
		t.Errorf("a message that is too large for the servers gets %v", err)
	}
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			if _, err := m.Publish(t.Context(), toAll(strings.Repeat("x", 20<<10))); err != nil {
				t.Errorf("a message that fits gets %v", err)
			}
		})
	}
	all.Wait()
	if len(log.With("level=WARN", "max_payload=65536")) != 1 {
		t.Errorf("nothing is said of what the servers take:\n%s", log.String())
	}
}

// limited is a NATS server whose one user may publish to some subjects only, and
// a way to connect as that user.
func limited(t *testing.T, allow ...string) *cluster.External {
	t.Helper()
	theirs := natsServer(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "peald", Password: "peald", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: allow},
		}}}
	})
	return &cluster.External{URL: strings.Replace(theirs.ClientURL(), "nats://", "nats://peald:peald@", 1)}
}

// TestAMissingPermissionIsNamed has servers that let a node read the log and not
// append to it.
func TestAMissingPermissionIsNamed(t *testing.T) {
	t.Parallel()
	m := start(t, cluster.Config{
		Name: "test", Replicas: 1, External: limited(t, "_INBOX.>", "$JS.API.>"), Logger: logger(t),
	})
	serving(t, m)
	_, err := m.Publish(t.Context(), toAll("one"))
	if err == nil || !strings.Contains(err.Error(), "deny a permission") || !strings.Contains(err.Error(), "test.entries") {
		t.Errorf("a message that may not be appended gets %v, want the permission", err)
	}
}

// TestWhyThereIsNoLogIsSaid has nodes that can't make one.
func TestWhyThereIsNoLogIsSaid(t *testing.T) {
	t.Parallel()
	waits := func(m *member, why ...string) {
		t.Helper()
		var reason string
		eventually(t, func() bool {
			_, reason = m.Serving()
			return !slices.ContainsFunc(why, func(part string) bool { return !strings.Contains(reason, part) })
		}, func() string { return fmt.Sprintf("the reason is %q, want %q", reason, why) })
	}
	theirs := natsServer(t)
	waits(start(t, cluster.Config{Name: "test", External: &cluster.External{URL: theirs.ClientURL()}, Logger: logger(t)}),
		"replicas > 1 not supported")
	log, denied := new(pealdtest.Log), limited(t, "test.>", "_INBOX.>", "$JS.API.STREAM.INFO.test")
	waits(start(t, cluster.Config{Name: "test", Replicas: 1, External: denied, Logger: loggingTo(log)}),
		"deny a permission", "$JS.API.STREAM.CREATE.test")
	if said := log.With("level=WARN", "permission denied", "$JS.API.STREAM.CREATE.test"); len(said) != 1 {
		t.Errorf("want one warning of the permission, got\n%s", strings.Join(said, ""))
	}
	cfgs := configs(t, 3)
	one, two := start(t, cfgs[0]), start(t, cfgs[1])
	waits(one, "connected to 1 others", "all of cluster.peers must be there")
	waits(two, "connected to 1 others", "all of cluster.peers must be there")
	three := start(t, cfgs[2])
	serving(t, one, two, three)
}
