package kafka_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/kafka"
	"github.com/peald/peald/internal/sourcetest"
)

func TestReadsRecords(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, kfake.SeedTopics(1, topic))
	client := producer(t, c)
	produce(t, client,
		&kgo.Record{Key: []byte("7"), Value: []byte("paid"), Headers: []kgo.RecordHeader{
			{Key: "type", Value: []byte("created")}, {Key: "type", Value: []byte("updated")}, {Key: "other", Value: []byte{0xff}},
		}},
		&kgo.Record{Value: []byte("without a key")},
	)

	var p sourcetest.Publisher
	s := keyed(c)
	s.Map = source.Map{Topic: "{topic}.{key}", Event: "{header.type}", ConflateKey: "{partition}", UserID: ""}
	n := sourcetest.Start(t, "a", &p, s)

	p.WaitFor(t, 1)
	m := p.Messages()[0]
	if name, _ := m.Audience.Topic(); name != "orders.7" || m.Data != "paid" || m.Event != "updated" || m.ConflateKey != "orders-0" {
		t.Errorf("the message is %+v, want topic orders.7, data paid, event updated and conflate_key orders-0", m)
	}

	waitForCommit(t, c, 2)
	n.WaitForState(t, source.StateActive)
	n.WaitForLag(t, 0)
	if s := n.Status(); s.Published != 1 || s.Rejected != 1 {
		t.Errorf("%d records are published and %d rejected, want one of each", s.Published, s.Rejected)
	}
}

func TestContinuesAfterCommittedOffsets(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, kfake.SeedTopics(4, topic))
	client := producer(t, c)
	want := make(map[string][]string)
	produce(t, client, numbered(5, 0, 20, want)...)

	var p sourcetest.Publisher
	sourcetest.Start(t, "a", &p, keyed(c))
	p.WaitFor(t, 100)
	waitForCommit(t, c, 100)
}

func TestNoRecordIsReadAgainAfterAnOrderlyStop(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, kfake.SeedTopics(4, topic))
	client := producer(t, c)
	want := make(map[string][]string)
	var p sourcetest.Publisher

	for i := range 3 {
		produce(t, client, numbered(5, 20*i, 20, want)...)
		n := sourcetest.Start(t, "a", &p, keyed(c))
		p.WaitFor(t, 100*(i+1))
		n.Stop()
	}

	p.CheckOrder(t, want)
	if n := p.Repeats(); n > 0 {
		t.Errorf("%d records were read again, want none", n)
	}
}

// TestMembersShareTopic lets members join and leave while records are written.
func TestMembersShareTopic(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, kfake.SeedTopics(6, topic))
	client := producer(t, c)
	want := make(map[string][]string)
	var p sourcetest.Publisher
	written := 0
	write := func() {
		produce(t, client, numbered(10, written, 30, want)...)
		written += 30
	}

	a := sourcetest.Start(t, "a", &p, keyed(c))
	write()
	b := sourcetest.Start(t, "b", &p, keyed(c))
	write()
	waitForMembers(t, c, 2)
	write()
	third := sourcetest.Start(t, "c", &p, keyed(c))
	write()
	waitForMembers(t, c, 3)
	for _, n := range []*sourcetest.Node{a, b, third} {
		n.WaitForState(t, source.StateActive)
	}
	write()
	a.Stop()
	write()
	waitForMembers(t, c, 2)
	b.Stop()
	write()

	p.WaitFor(t, 10*written)
	p.CheckOrder(t, want)
	if n := p.Repeats(); n > 0 {
		t.Errorf("%d records were read again, want none", n)
	}
}

func TestMemberWithoutPartitionsIsOnStandby(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, kfake.SeedTopics(1, topic))
	client := producer(t, c)
	var p sourcetest.Publisher

	a := sourcetest.Start(t, "a", &p, keyed(c))
	a.WaitForState(t, source.StateActive)
	b := sourcetest.Start(t, "b", &p, keyed(c))
	waitForMembers(t, c, 2)
	produce(t, client, &kgo.Record{Key: []byte("x"), Value: []byte("1")})
	p.WaitFor(t, 1)

	active, standby := a, b
	if a.Status().State != source.StateActive {
		active, standby = b, a
	}
	standby.WaitForState(t, source.StateStandby)
	if lag := standby.Status().Lag.Records; lag >= 0 {
		t.Errorf("the member on standby reports a lag of %d, want none", lag)
	}

	active.Stop()
	standby.WaitForState(t, source.StateActive)
	produce(t, client, &kgo.Record{Key: []byte("x"), Value: []byte("2")})
	p.WaitFor(t, 2)
}

// TestMemberThatCannotPublishGivesUpItsPartitions checks that a node without the cluster's
// leader blocks nobody.
func TestMemberThatCannotPublishGivesUpItsPartitions(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, kfake.SeedTopics(2, topic))
	client := producer(t, c)
	want := make(map[string][]string)

	var p sourcetest.Publisher
	produce(t, client, numbered(2, 0, 50, want)...)
	sourcetest.Start(t, "a", partitioned{}, keyed(c)).WaitForState(t, source.StateWaiting)
	sourcetest.Start(t, "b", &p, keyed(c))

	p.WaitFor(t, 100)
	p.CheckOrder(t, want)
}

func TestReportsLagWhileItWaits(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, kfake.SeedTopics(2, topic))
	client := producer(t, c)
	before := time.Now().Add(-time.Second)
	produce(t, client, numbered(2, 0, 50, make(map[string][]string))...)

	var p sourcetest.Publisher
	p.SetDown(true)
	n := sourcetest.Start(t, "a", &p, keyed(c))
	n.WaitForLag(t, 100)
	n.WaitForState(t, source.StateWaiting)
	if since := n.Status().Lag.Since; since.Before(before) || since.After(time.Now()) {
		t.Errorf("the oldest record was written at %s, want the time of the test", since)
	}

	p.SetDown(false)
	p.WaitFor(t, 100)
	n.WaitForLag(t, 0)
}

func TestBrokersRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, err := kfake.NewCluster(kfake.DataDir(dir), kfake.NumBrokers(2), kfake.SeedTopics(4, topic))
	if err != nil {
		t.Fatal(err)
	}
	addrs := c.ListenAddrs()
	ports := make([]int, len(addrs))
	for i, addr := range addrs {
		if _, err := fmt.Sscanf(addr[strings.LastIndex(addr, ":")+1:], "%d", &ports[i]); err != nil {
			t.Fatal(err)
		}
	}

	want := make(map[string][]string)
	var p sourcetest.Publisher
	s := keyed(c)
	sourcetest.Start(t, "a", &p, s)
	sourcetest.Start(t, "b", &p, s)
	produce(t, producer(t, c), numbered(5, 0, 50, want)...)
	p.WaitFor(t, 250)

	c.Close()
	c = startBrokers(t, kfake.DataDir(dir), kfake.NumBrokers(2), kfake.Ports(ports...))
	produce(t, producer(t, c), numbered(5, 50, 50, want)...)
	p.WaitFor(t, 500)
	p.CheckOrder(t, want)
}

func TestPartitionsMoveBetweenBrokers(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, kfake.SeedTopics(6, topic))
	client := producer(t, c)
	want := make(map[string][]string)
	var p sourcetest.Publisher
	sourcetest.Start(t, "a", &p, keyed(c))
	sourcetest.Start(t, "b", &p, keyed(c))

	for i := range 10 {
		produce(t, client, numbered(10, 20*i, 20, want)...)
		c.ShufflePartitionLeaders()
		if i%3 == 0 {
			c.RehashCoordinators()
		}
	}

	p.WaitFor(t, 2000)
	p.CheckOrder(t, want)
}

func TestAbortedTransactionsAreNotPublished(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, kfake.SeedTopics(1, topic))
	client := producer(t, c, kgo.TransactionalID("test"))
	transaction := func(value string, end kgo.TransactionEndTry) {
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		produce(t, client, &kgo.Record{Key: []byte("k"), Value: []byte(value)})
		if err := client.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	transaction("one", kgo.TryCommit)
	transaction("two", kgo.TryAbort)
	transaction("three", kgo.TryCommit)
	transaction("four", kgo.TryAbort)

	var p sourcetest.Publisher
	n := sourcetest.Start(t, "a", &p, keyed(c))
	p.WaitFor(t, 2)
	p.CheckOrder(t, map[string][]string{"k": {"one", "three"}})
	// Four records, and a marker for the end of each transaction.
	waitForCommit(t, c, 8)
	n.WaitForLag(t, 0)
}

func TestStartLatest(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, kfake.SeedTopics(2, topic))
	client := producer(t, c)
	produce(t, client, &kgo.Record{Key: []byte("k"), Value: []byte("before"), Timestamp: time.Now().Add(-time.Hour)})

	var p sourcetest.Publisher
	n := sourcetest.Start(t, "a", &p, keyed(c, func(cfg *kafka.Config) { cfg.Start = kafka.StartLatest }))
	n.WaitForState(t, source.StateActive)
	produce(t, client, &kgo.Record{Key: []byte("k"), Value: []byte("after")})
	p.WaitFor(t, 1)
	if got := p.Data(); got[0] != "after" {
		t.Errorf("the source publishes %q, want only the record that was written after its start", got)
	}
}

func TestTopicThatIsCreatedAgain(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, kfake.SeedTopics(1, topic))
	var p sourcetest.Publisher

	for i, value := range []string{"first", "second"} {
		client := producer(t, c)
		produce(t, client, &kgo.Record{Key: []byte("k"), Value: []byte(value)})
		n := sourcetest.Start(t, "a", &p, keyed(c))
		p.WaitFor(t, i+1)
		n.Stop()
		if err := c.DeleteTopic(topic); err != nil {
			t.Fatal(err)
		}
		if err := c.CreateTopic(topic, 1, nil); err != nil {
			t.Fatal(err)
		}
	}

	if got := p.Data(); !slices.Equal(got, []string{"first", "second"}) {
		t.Errorf("the source publishes %q, want the records of both topics", got)
	}
}

func TestRecordsDeletedBeforeTheyAreRead(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, kfake.SeedTopics(1, topic))
	client := producer(t, c)
	var p sourcetest.Publisher
	produce(t, client, numbered(1, 0, 10, make(map[string][]string))...)
	n := sourcetest.Start(t, "a", &p, keyed(c))
	p.WaitFor(t, 10)
	n.Stop()

	produce(t, client, numbered(1, 10, 10, make(map[string][]string))...)
	if err := c.DeleteRecords(topic, 0, 15); err != nil {
		t.Fatal(err)
	}
	n = sourcetest.Start(t, "a", &p, keyed(c))
	p.WaitFor(t, 15)
	if found := n.Log.With("source lost records", "read_to=10", "continue_at=15"); len(found) != 1 {
		t.Errorf("the log has %d lines about lost records, want one:\n%s", len(found), n.Log)
	}
}

// partitioned is a publisher on a node that is partitioned from the others, and hasn't
// noticed it.
type partitioned struct{}

func (partitioned) Ready() error { return nil }

func (partitioned) PublishInOrder(context.Context, []broker.Message) (results []error, err error) {
	return nil, &broker.UnavailableError{Reason: "the event log has no leader"}
}
