package kafka_test

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/kafka"
	"github.com/peald/peald/internal/testbed"
)

const (
	topic = "orders"
	group = "peald"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startBrokers starts a fake cluster of three brokers.
func startBrokers(t *testing.T, options ...kfake.Opt) *kfake.Cluster {
	t.Helper()

	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.GroupMinSessionTimeout(time.Second)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)

	return c
}

// producer returns a client for producing. Records with the same key go to the same
// partition.
func producer(t *testing.T, c *kfake.Cluster, options ...kgo.Opt) *kgo.Client {
	t.Helper()

	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic(topic)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)

	return client
}

// produce stores records and waits until they are stored.
func produce(t *testing.T, client *kgo.Client, records ...*kgo.Record) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// numbered returns n records for each of some keys, with numbers as values that begin with
// first, and adds to want what the topics named after the keys should get.
func numbered(keys, first, n int, want map[string][]string) (records []*kgo.Record) {
	for i := first; i < first+n; i++ {
		for k := range keys {
			key := "key." + strconv.Itoa(k)
			value := fmt.Sprintf("%d-%d", k, i)
			records = append(records, &kgo.Record{Key: []byte(key), Value: []byte(value)})
			want[key] = append(want[key], value)
		}
	}

	return records
}

// keyed returns a source that publishes each record to the topic named like its key.
func keyed(c *kfake.Cluster, changes ...func(*kafka.Config)) source.Source {
	cfg := kafka.Config{Brokers: c.ListenAddrs(), Topics: []string{topic}, Group: group}
	for _, change := range changes {
		change(&cfg)
	}

	return source.Source{Name: "test", Kind: cfg, Map: source.Map{Topic: "{key}"}}
}

// waitForCommit waits until the group has committed n records of the topic.
func waitForCommit(t *testing.T, c *kfake.Cluster, n int64) {
	t.Helper()

	committed := func() (sum int64) {
		if info := c.GroupInfo(group); info != nil {
			for _, commit := range info.Commits[topic] {
				sum += commit.Offset
			}
		}
		return sum
	}
	if !testbed.Eventually(time.Minute, func() bool { return committed() == n }) {
		t.Fatalf("the group has committed %d records, want %d", committed(), n)
	}
}

// waitForMembers waits until the group has n members and isn't rebalancing.
func waitForMembers(t *testing.T, c *kfake.Cluster, n int) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.WaitGroupStable(ctx, group, n); err != nil {
		t.Fatalf("wait for %d members: %v", n, err)
	}
}

// createTopic creates a topic with one partition.
func createTopic(t *testing.T, c *kfake.Cluster, name string, configs map[string]*string) {
	t.Helper()

	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 1, -1, configs, name); err != nil {
		t.Fatal(err)
	}
}

// newSwitch makes the brokers reject what is written, until the switch is turned off.
func newSwitch(c *kfake.Cluster) *atomic.Bool {
	on := new(atomic.Bool)
	on.Store(true)
	c.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if !on.Load() {
			return nil, nil, false //nolint:nilnil // The brokers handle the request.
		}

		produce := request.(*kmsg.ProduceRequest)
		response := produce.ResponseKind().(*kmsg.ProduceResponse)
		for _, t := range produce.Topics {
			rejected := kmsg.NewProduceResponseTopic()
			rejected.Topic, rejected.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				partition := kmsg.NewProduceResponseTopicPartition()
				partition.Partition, partition.ErrorCode = p.Partition, kerr.TopicAuthorizationFailed.Code
				rejected.Partitions = append(rejected.Partitions, partition)
			}
			response.Topics = append(response.Topics, rejected)
		}

		return response, nil, true
	})

	return on
}
