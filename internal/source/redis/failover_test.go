package redis_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/source"
)

// A single node may serve all slots of a cluster. It rejects scripts whose keys are in
// different slots, just as a larger cluster does.
func TestRedisCluster(t *testing.T) {
	t.Parallel()

	s := startServer(t, "--cluster-enabled", "yes")
	client, to := s.client(t), newPublisher()
	if err := client.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the cluster is available", func() error { return client.Set(t.Context(), "x", 1, 0).Err() })

	cfg := config(s, "events", "{orders}:eu")
	cfg.Cluster, cfg.Delete, cfg.DeadLetter = true, true, "dead"
	cfg.URL = "redis://" + s.addr
	run(t, "a", to, cfg).awaitState(t, source.StateActive)

	for _, stream := range cfg.Streams {
		addNumbered(t, client, stream, 0, 100)
	}
	add(t, client, "events", "data", "for nobody")
	for _, stream := range cfg.Streams {
		to.awaitNumbered(t, stream, 100)
	}
	eventually(t, "the entry is in the dead-letter stream", func() error { return hasLength(t, client, "dead", 1) })
}

// Sentinels promote the replica when the master is killed. It may lack the last entries
// that the master has confirmed, because replication is asynchronous, so the test waits
// until the replica has them.
func TestFailover(t *testing.T) {
	t.Parallel()

	master := startServer(t)
	_, port, _ := net.SplitHostPort(master.addr)
	replica := startServer(t, "--replicaof", "127.0.0.1", port)
	sentinel := startSentinel(t, master)
	client, to := master.client(t), newPublisher()

	cfg := config(master, "events")
	cfg.URL = "redis://" + sentinel.addr + "/0?master_name=main"
	n := run(t, "a", to, cfg)
	n.awaitState(t, source.StateActive)

	addNumbered(t, client, "events", 0, 1000)
	to.awaitNumbered(t, "events", 1000)

	promoted := replica.client(t)
	eventually(t, "the replica has all entries", func() error { return hasLength(t, promoted, "events", 1000) })

	asking := goredis.NewSentinelClient(&goredis.Options{Addr: sentinel.addr})
	defer asking.Close()
	eventually(t, "the sentinel knows the replica", func() error {
		replicas, err := asking.Replicas(t.Context(), "main").Result()
		if err == nil && len(replicas) == 0 {
			return errors.New("it knows none")
		}

		return err
	})

	master.kill()
	eventually(t, "the replica is promoted", func() error { return promoted.Set(t.Context(), "x", 1, 0).Err() })

	addNumbered(t, promoted, "events", 1000, 1000)
	to.awaitNumbered(t, "events", 2000)
	eventually(t, "all are acknowledged", func() error { return acknowledged(t, promoted, "events") })
}

// startSentinel starts a sentinel that alone decides about the master.
func startSentinel(tb testing.TB, master *server) *server {
	tb.Helper()

	host, port, _ := net.SplitHostPort(master.addr)
	addr := pealdtest.FreeAddrs(tb, 1)[0]
	_, own, _ := net.SplitHostPort(addr)

	s := &server{addr: addr, path: master.path, dir: tb.TempDir()}
	file := filepath.Join(s.dir, "sentinel.conf")
	text := fmt.Sprintf("port %s\nbind 127.0.0.1\ndir %s\nsentinel monitor main %s %s 1\n"+
		"sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 3000\n", own, s.dir, host, port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}

	s.args = []string{file, "--sentinel"}
	s.start(tb)
	tb.Cleanup(s.kill)

	return s
}
