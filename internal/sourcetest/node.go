package sourcetest

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/testbed"
)

// nodePatience is the time limit for operations that take moments on an idle machine.
const nodePatience = 2 * time.Minute

// Publisher is a [source.Publisher] that records messages. Like a broker, it publishes a
// message with the same idempotency key only once. Several nodes may share it, as the
// nodes of a cluster share the event log.
type Publisher struct {
	mu       sync.Mutex
	keys     map[string]bool
	messages []broker.Message
	repeats  int
	down     bool
}

// Ready implements [source.Publisher].
func (p *Publisher) Ready() error { return nil }

// PublishInOrder implements [source.Publisher].
func (p *Publisher) PublishInOrder(_ context.Context, messages []broker.Message) (results []error, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if p.down {
		return nil, &broker.UnavailableError{Reason: "unavailable for a test"}
	}
	if p.keys == nil {
		p.keys = make(map[string]bool)
	}

	for _, m := range messages {
		if p.keys[m.IdempotencyKey] {
			p.repeats++
			continue
		}
		p.keys[m.IdempotencyKey] = true
		p.messages = append(p.messages, m)
	}

	return make([]error, len(messages)), nil
}

// SetDown makes the publisher unavailable, or available again.
func (p *Publisher) SetDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.down = down
}

// Messages returns the messages so far, in order.
func (p *Publisher) Messages() []broker.Message {
	p.mu.Lock()
	defer p.mu.Unlock()

	return slices.Clone(p.messages)
}

// Repeats returns how many messages were published again and ignored.
func (p *Publisher) Repeats() int {
	p.mu.Lock()
	defer p.mu.Unlock()

	return p.repeats
}

// Data returns the data of the messages so far, in order.
func (p *Publisher) Data() []string {
	var data []string
	for _, m := range p.Messages() {
		data = append(data, m.Data)
	}

	return data
}

// WaitFor waits until n messages have been published, and fails the test if there are more.
func (p *Publisher) WaitFor(tb testing.TB, n int) {
	tb.Helper()

	enough := testbed.Eventually(nodePatience, func() bool { return len(p.Messages()) >= n })
	if got := len(p.Messages()); !enough || got > n {
		tb.Fatalf("%d messages are published, want %d", got, n)
	}
}

// CheckOrder fails the test unless the messages are want, in order for each topic.
func (p *Publisher) CheckOrder(tb testing.TB, want map[string][]string) {
	tb.Helper()

	got := make(map[string][]string)
	for _, m := range p.Messages() {
		topic, _ := m.Audience.Topic()
		got[topic] = append(got[topic], m.Data)
	}

	for topic, data := range want {
		if !slices.Equal(got[topic], data) {
			tb.Errorf("topic %s gets %d messages, want %d; the first difference: %s", topic, len(got[topic]), len(data), difference(got[topic], data))
		}
	}
	for topic := range got {
		if _, ok := want[topic]; !ok {
			tb.Errorf("topic %s gets messages, want none", topic)
		}
	}
}

// difference describes where two lists differ first.
func difference(got, want []string) string {
	for i := range got {
		if i == len(want) || got[i] != want[i] {
			return "got " + strings.Join(got[i:min(i+3, len(got))], ", ") + "; want " + strings.Join(want[min(i, len(want)):min(i+3, len(want))], ", ")
		}
	}

	return "the last ones are missing"
}

// Node runs one source.
type Node struct {
	*source.Manager

	// Log has what the source has logged, including debug messages.
	Log *testbed.Log

	stop context.CancelFunc
	done chan struct{}
}

// Start runs a source until the test ends. Name is the name of the node.
func Start(tb testing.TB, name string, p source.Publisher, s source.Source) *Node {
	tb.Helper()

	if err := s.Validate(); err != nil {
		tb.Fatal(err)
	}

	log := new(testbed.Log)
	handler := slog.NewTextHandler(io.MultiWriter(log, tb.Output()), &slog.HandlerOptions{Level: slog.LevelDebug})
	ctx, stop := context.WithCancel(context.WithoutCancel(tb.Context()))
	n := &Node{
		Manager: source.NewManager(source.Config{Publisher: p, Node: name, Logger: slog.New(handler).With("node", name)}),
		Log:     log, stop: stop, done: make(chan struct{}),
	}
	n.Reconfigure([]source.Source{s})

	go func() {
		defer close(n.done)
		n.Run(ctx)
	}()
	tb.Cleanup(n.Stop)

	return n
}

// Stop stops the source as a shutdown would, and waits until it has stopped.
func (n *Node) Stop() {
	n.stop()
	<-n.done
}

// Status returns the source's status.
func (n *Node) Status() source.Status {
	statuses := n.Statuses()
	if len(statuses) == 0 {
		return source.Status{}
	}

	return statuses[0]
}

// WaitForState waits until the source is in a state.
func (n *Node) WaitForState(tb testing.TB, state source.State) {
	tb.Helper()

	if !testbed.Eventually(nodePatience, func() bool { return n.Status().State == state }) {
		tb.Fatalf("the source is %s, want %s; its last error: %s", n.Status().State, state, n.Status().LastError)
	}
}

// WaitForLag waits until the source reports n records that aren't settled.
func (n *Node) WaitForLag(tb testing.TB, records int64) {
	tb.Helper()

	if !testbed.Eventually(nodePatience, func() bool { return n.Status().Lag.Records == records }) {
		tb.Fatalf("the source has a lag of %d records, want %d", n.Status().Lag.Records, records)
	}
}

// WaitForError waits until the source's last error contains all parts.
func (n *Node) WaitForError(tb testing.TB, parts ...string) {
	tb.Helper()

	if !testbed.Eventually(nodePatience, func() bool {
		last := n.Status().LastError
		return last != "" && !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(last, part) })
	}) {
		tb.Fatalf("the source's last error is %q, want one with %q", n.Status().LastError, parts)
	}
}
