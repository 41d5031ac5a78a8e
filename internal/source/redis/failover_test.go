package redis_test

import (
	"errors"
	"net"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/sourcetest"
)

// A single node may serve all slots of a cluster. It rejects scripts whose keys are in
// different slots, just as a larger cluster does.
func TestRedisCluster(t *testing.T) {
	t.Parallel()

	s := sourcetest.StartRedis(t, "--cluster-enabled", "yes")
	client, to := s.Client(t), new(sourcetest.Publisher)
	if err := client.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the cluster is available", func() error { return client.Set(t.Context(), "x", 1, 0).Err() })

	cfg := config(s, "events", "{orders}:eu")
	cfg.Cluster, cfg.Delete, cfg.DeadLetter = true, true, "dead"
	cfg.URL = "redis://" + s.Addr
	run(t, "a", to, cfg).WaitForState(t, source.StateActive)

	for _, stream := range cfg.Streams {
		addNumbered(t, client, stream, 0, 100)
	}
	add(t, client, "events", "data", "for nobody")
	for _, stream := range cfg.Streams {
		awaitNumbered(t, to, stream, 100)
	}
	eventually(t, "the entry is in the dead-letter stream", func() error { return hasLength(t, client, "dead", 1) })
}

// Sentinels promote the replica when the master is killed. It may lack the last entries
// that the master has confirmed, because replication is asynchronous, so the test waits
// until the replica has them.
func TestFailover(t *testing.T) {
	t.Parallel()

	master := sourcetest.StartRedis(t)
	_, port, _ := net.SplitHostPort(master.Addr)
	replica := sourcetest.StartRedis(t, "--replicaof", "127.0.0.1", port)
	sentinel := sourcetest.StartSentinel(t, master)
	client, to := master.Client(t), new(sourcetest.Publisher)

	cfg := config(master, "events")
	cfg.URL = "redis://" + sentinel.Addr + "/0?master_name=main"
	n := run(t, "a", to, cfg)
	n.WaitForState(t, source.StateActive)

	addNumbered(t, client, "events", 0, 1000)
	awaitNumbered(t, to, "events", 1000)

	promoted := replica.Client(t)
	eventually(t, "the replica has all entries", func() error { return hasLength(t, promoted, "events", 1000) })

	asking := goredis.NewSentinelClient(&goredis.Options{Addr: sentinel.Addr})
	defer asking.Close()
	eventually(t, "the sentinel knows the replica", func() error {
		replicas, err := asking.Replicas(t.Context(), "main").Result()
		if err == nil && len(replicas) == 0 {
			return errors.New("it knows none")
		}

		return err
	})

	master.Kill()
	eventually(t, "the replica is promoted", func() error { return promoted.Set(t.Context(), "x", 1, 0).Err() })

	addNumbered(t, promoted, "events", 1000, 1000)
	awaitNumbered(t, to, "events", 2000)
	eventually(t, "all are acknowledged", func() error { return acknowledged(t, promoted, "events") })
}
