package kafka_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/source/kafka"
	"github.com/peald/peald/internal/sourcetest"
)

const dead = "orders.dead"

// deadLetters returns the first n records of the dead-letter topic.
func deadLetters(t *testing.T, c *kfake.Cluster, n int) (letters []*kgo.Record) {
	t.Helper()

	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics(dead))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for len(letters) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d of %d dead letters: %v", len(letters), n, err)
		}
		letters = append(letters, fetches.Records()...)
	}

	return letters
}

// headers returns the last value of each header.
func headers(r *kgo.Record) map[string]string {
	all := make(map[string]string)
	for _, h := range r.Headers {
		all[h.Key] = string(h.Value)
	}

	return all
}

func TestRejectedRecordsAreStored(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, kfake.SeedTopics(1, topic, dead))
	client := producer(t, c)
	produce(t, client,
		&kgo.Record{Key: []byte("k"), Value: []byte("one")},
		&kgo.Record{Key: []byte("a.*"), Value: []byte("two"), Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte("abc")}}},
		&kgo.Record{Key: []byte("k"), Value: []byte("not UTF-8: \xff")},
		&kgo.Record{Key: []byte("k"), Value: []byte("three")},
	)

	var p sourcetest.Publisher
	n := sourcetest.Start(t, "a", &p, keyed(c, func(cfg *kafka.Config) { cfg.DeadLetter = dead }))
	p.WaitFor(t, 2)
	p.CheckOrder(t, map[string][]string{"k": {"one", "three"}})
	waitForCommit(t, c, 4)

	letters := deadLetters(t, c, 2)
	if got := string(letters[0].Value); got != "two" || string(letters[0].Key) != "a.*" {
		t.Errorf("the first dead letter is %s=%s, want the rejected record", letters[0].Key, got)
	}
	found := headers(letters[0])
	for name, want := range map[string]string{
		"trace": "abc", "peald-source": "test", "peald-topic": topic, "peald-partition": "0", "peald-offset": "1",
	} {
		if found[name] != want {
			t.Errorf("header %s is %q, want %q", name, found[name], want)
		}
	}
	if found["peald-error"] == "" || found["peald-timestamp"] == "" {
		t.Errorf("the dead letter has the headers %v, want the error and the timestamp too", found)
	}
	if s := n.Status(); s.Rejected != 2 || s.Published != 2 {
		t.Errorf("%d records are published and %d rejected, want two of each", s.Published, s.Rejected)
	}
}

// TestRecordTooLargeForDeadLetterTopic checks that a record that can be stored nowhere
// blocks no other.
func TestRecordTooLargeForDeadLetterTopic(t *testing.T) {
	t.Parallel()
	c := startBrokers(t)
	large := map[string]*string{"max.message.bytes": new("8000000")}
	for name, configs := range map[string]map[string]*string{topic: large, dead: nil} {
		createTopic(t, c, name, configs)
	}
	client := producer(t, c, kgo.ProducerBatchMaxBytes(8<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
	size := broker.MaxData + 1<<20
	produce(t, client,
		&kgo.Record{Key: []byte("k"), Value: []byte(strings.Repeat("x", size))},
		&kgo.Record{Key: []byte("k"), Value: []byte("next")},
	)

	var p sourcetest.Publisher
	sourcetest.Start(t, "a", &p, keyed(c, func(cfg *kafka.Config) { cfg.DeadLetter = dead }))
	p.WaitFor(t, 1)
	waitForCommit(t, c, 2)
	letter := deadLetters(t, c, 1)[0]
	if len(letter.Value) != 0 && len(letter.Value) != size {
		t.Errorf("the dead letter has %d bytes, want all or none", len(letter.Value))
	}
	if found := headers(letter); len(letter.Value) == 0 && found["peald-value-bytes"] == "" {
		t.Errorf("the dead letter has the headers %v, want the size of the value", found)
	}
}

// TestDeadLetterTopicThatFails checks that a record isn't given up while it can't be
// stored.
func TestDeadLetterTopicThatFails(t *testing.T) {
	t.Parallel()
	c := startBrokers(t, kfake.SeedTopics(1, topic, dead))
	client := producer(t, c)
	produce(t, client,
		&kgo.Record{Key: []byte("k"), Value: []byte("one")},
		&kgo.Record{Key: []byte("a.*"), Value: []byte("two")},
	)
	fail := newSwitch(c)

	var p sourcetest.Publisher
	n := sourcetest.Start(t, "a", &p, keyed(c, func(cfg *kafka.Config) { cfg.DeadLetter = dead }))
	n.WaitForError(t, `dead-letter topic "orders.dead"`)
	waitForCommit(t, c, 1)

	fail.Store(false)
	if got := string(deadLetters(t, c, 1)[0].Value); got != "two" {
		t.Errorf("the dead letter is %q, want the rejected record", got)
	}
	waitForCommit(t, c, 2)
}
