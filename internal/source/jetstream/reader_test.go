package jetstream_test

import (
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/jetstream"
	"github.com/peald/peald/internal/sourcetest"
	"github.com/peald/peald/internal/testbed"
)

func TestReadsMessages(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	js := connect(t, s)
	createStream(t, js)
	m := nats.NewMsg("orders.7")
	m.Data = []byte("paid")
	m.Header["type"] = []string{"created", "updated"}
	if _, err := js.PublishMsg(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	publish(t, js, "orders.8", "")

	var p sourcetest.Publisher
	src := from(s.ClientURL())
	src.Map = source.Map{Event: "{header.type}", ConflateKey: "{partition}"}
	n := sourcetest.Start(t, "a", &p, src)

	p.WaitFor(t, 1)
	first := p.Messages()[0]
	if name, _ := first.Audience.Topic(); name != "orders.7" || first.Data != "paid" || first.Event != "updated" || first.ConflateKey != stream {
		t.Errorf("the message is %+v, want topic orders.7, data paid, event updated and conflate_key %s", first, stream)
	}
	waitUntilAcknowledged(t, js)
	n.WaitForState(t, source.StateActive)
	n.WaitForLag(t, 0)
	if s := n.Status(); s.Published != 1 || s.Rejected != 1 {
		t.Errorf("%d messages are published and %d rejected, want one of each", s.Published, s.Rejected)
	}

	created := info(t, js).Config
	if created.MaxDeliver != -1 || created.PriorityPolicy != natsjs.PriorityPolicyPinned || created.Durable != consumer {
		t.Errorf("the consumer is %+v, want a durable one that pins a client and never gives up", created)
	}
}

func TestNoMessageIsReadAgainAfterAnOrderlyStop(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	js := connect(t, s)
	createStream(t, js)
	want := make(map[string][]string)
	var p sourcetest.Publisher

	for i := range 3 {
		publishNumbered(t, js, 5, 20*i, 20, want)
		n := sourcetest.Start(t, "a", &p, from(s.ClientURL()))
		p.WaitFor(t, 100*(i+1))
		n.Stop()
	}

	p.CheckOrder(t, want)
	if n := p.Repeats(); n > 0 {
		t.Errorf("%d messages were read again, want none", n)
	}
}

// TestNodesTakeOver stops the active node again and again while messages are written.
func TestNodesTakeOver(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	js := connect(t, s)
	createStream(t, js)
	want := make(map[string][]string)
	var p sourcetest.Publisher
	nodes := make([]*sourcetest.Node, 3)
	for i := range nodes {
		nodes[i] = sourcetest.Start(t, string(rune('a'+i)), &p, from(s.ClientURL()))
	}

	written := 0
	for range nodes {
		publishNumbered(t, js, 10, written, 100, want)
		written += 100
		p.WaitFor(t, 10*written)

		active := slices.IndexFunc(nodes, func(n *sourcetest.Node) bool {
			return n.Status().State == source.StateActive && n.Status().Published > 0
		})
		publishNumbered(t, js, 10, written, 20, want)
		written += 20
		nodes[active].Stop()
		nodes = slices.Delete(nodes, active, active+1)
		if len(nodes) == 0 {
			break
		}
	}
	sourcetest.Start(t, "d", &p, from(s.ClientURL()))

	p.WaitFor(t, 10*written)
	p.CheckOrder(t, want)
}

func TestOneNodeIsActive(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	js := connect(t, s)
	createStream(t, js)
	want := make(map[string][]string)
	var p sourcetest.Publisher
	a := sourcetest.Start(t, "a", &p, from(s.ClientURL()))
	publishNumbered(t, js, 1, 0, 100, want)
	p.WaitFor(t, 100)
	a.WaitForState(t, source.StateActive)

	b := sourcetest.Start(t, "b", &p, from(s.ClientURL()))
	b.WaitForState(t, source.StateStandby)
	publishNumbered(t, js, 1, 100, 100, want)
	p.WaitFor(t, 200)
	if n := b.Status().Published; n > 0 {
		t.Errorf("the node on standby publishes %d messages, want none", n)
	}
	p.CheckOrder(t, want)
}

// TestConnectionsAreCut cuts the connections of two nodes while messages are written.
func TestConnectionsAreCut(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	js := connect(t, s)
	createStream(t, js)
	want := make(map[string][]string)
	var p sourcetest.Publisher
	proxies := make([]*sourcetest.Proxy, 2)
	for i := range proxies {
		proxies[i] = sourcetest.NewProxy(t, s.Addr().String())
		sourcetest.Start(t, string(rune('a'+i)), &p, from("nats://"+proxies[i].Addr))
	}

	for i := range 30 {
		before := len(p.Messages())
		publishNumbered(t, js, 10, 20*i, 20, want)
		if i%3 == 0 && !testbed.Eventually(patience, func() bool { return len(p.Messages()) > before }) {
			t.Fatalf("nothing is published after %d messages", before)
		}
		cut := proxies[rand.IntN(2)]
		cut.Cut()
		cut.Heal()
	}

	p.WaitFor(t, 6000)
	p.CheckOrder(t, want)
	waitUntilAcknowledged(t, js)
}

// TestNodeFallsSilent pauses the connection of the active node without closing it.
func TestNodeFallsSilent(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	js := connect(t, s)
	createStream(t, js)
	want := make(map[string][]string)
	var p sourcetest.Publisher
	proxy := sourcetest.NewProxy(t, s.Addr().String())
	a := sourcetest.Start(t, "a", &p, from("nats://"+proxy.Addr))
	publishNumbered(t, js, 5, 0, 20, want)
	p.WaitFor(t, 100)
	a.WaitForState(t, source.StateActive)
	b := sourcetest.Start(t, "b", &p, from(s.ClientURL()))
	b.WaitForState(t, source.StateStandby)

	proxy.Freeze()
	publishNumbered(t, js, 5, 20, 500, want)
	p.WaitFor(t, 2600)
	b.WaitForState(t, source.StateActive)
	proxy.Heal()
	publishNumbered(t, js, 5, 520, 20, want)
	p.WaitFor(t, 2700)
	p.CheckOrder(t, want)
}

func TestServerRestarts(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	createStream(t, connect(t, s))
	want := make(map[string][]string)
	var p sourcetest.Publisher
	sourcetest.Start(t, "a", &p, from(s.ClientURL()))
	sourcetest.Start(t, "b", &p, from(s.ClientURL()))

	for i := range 3 {
		publishNumbered(t, connect(t, s), 5, 100*i, 100, want)
		s = restart(t, s)
	}
	publishNumbered(t, connect(t, s), 5, 300, 100, want)

	p.WaitFor(t, 2000)
	p.CheckOrder(t, want)
	waitUntilAcknowledged(t, connect(t, s))
}

func TestReportsLagWhileItWaits(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	js := connect(t, s)
	createStream(t, js)
	before := time.Now().Add(-time.Second)
	publishNumbered(t, js, 2, 0, 50, make(map[string][]string))

	var p sourcetest.Publisher
	p.SetDown(true)
	n := sourcetest.Start(t, "a", &p, from(s.ClientURL()))
	n.WaitForState(t, source.StateWaiting)
	n.WaitForLag(t, 100)
	if !testbed.Eventually(patience, func() bool { return !n.Status().Lag.Since.IsZero() }) {
		t.Fatal("the source doesn't report when the oldest message was written")
	}
	if since := n.Status().Lag.Since; since.Before(before) || since.After(time.Now()) {
		t.Errorf("the oldest message was written at %s, want the time of the test", since)
	}

	p.SetDown(false)
	p.WaitFor(t, 100)
	n.WaitForLag(t, 0)
	n.WaitForState(t, source.StateActive)
}

func TestFilterAndStart(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	js := connect(t, s)
	createStream(t, js)
	publish(t, js, "orders.a", "before")

	var p sourcetest.Publisher
	n := sourcetest.Start(t, "a", &p, from(s.ClientURL(), func(c *jetstream.Config) {
		c.Subjects, c.Start = []string{"orders.a", "orders.b"}, jetstream.StartNew
	}))
	n.WaitForState(t, source.StateActive)
	for _, subject := range []string{"orders.a", "orders.c", "orders.b"} {
		publish(t, js, subject, subject)
	}
	p.WaitFor(t, 2)
	if got := p.Data(); !slices.Equal(got, []string{"orders.a", "orders.b"}) {
		t.Errorf("the source publishes %q, want the new messages to its subjects", got)
	}
}

func TestStreamThatIsCreatedAgain(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	js := connect(t, s)
	var p sourcetest.Publisher
	n := sourcetest.Start(t, "a", &p, from(s.ClientURL()))

	for i, data := range []string{"first", "second"} {
		createStream(t, js)
		publish(t, js, "orders.1", data)
		p.WaitFor(t, i+1)
		if err := js.DeleteStream(t.Context(), stream); err != nil {
			t.Fatal(err)
		}
		n.WaitForError(t, stream)
	}
	if got := p.Data(); !slices.Equal(got, []string{"first", "second"}) {
		t.Errorf("the source publishes %q, want the messages of both streams", got)
	}
}

// withUser adds a user name and a password to a URL.
func withUser(t *testing.T, server, user, password string) string {
	t.Helper()

	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)

	return u.String()
}

// hasSecret reports whether the log of a node contains a secret.
func hasSecret(n *sourcetest.Node, secret string) bool {
	return strings.Contains(n.Log.String(), secret)
}
