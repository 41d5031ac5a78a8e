package pealdtest

import (
	"path/filepath"
	"strconv"
	"testing"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/testbed"
)

// InCluster returns configuration changes, one for each daemon, that make n
// daemons form a cluster. Their directories are removed after the test.
func InCluster(tb testing.TB, n int) []func(*daemon.Config) {
	tb.Helper()

	dir, addrs := tb.TempDir(), testbed.FreeAddrs(tb, n)
	changes := make([]func(*daemon.Config), 0, n)

	for i, addr := range addrs {
		changes = append(changes, func(cfg *daemon.Config) {
			cfg.Cluster.Mode = daemon.ClusterEmbedded
			cfg.Cluster.Addr, cfg.Cluster.Peers = addr, addrs
			cfg.Cluster.Dir = filepath.Join(dir, strconv.Itoa(i))
			cfg.Cluster.Secret = "only for tests"
			cfg.Cluster.Sync = false
		})
	}

	return changes
}

// StartCluster starts a cluster of n daemons and waits until all are ready.
func StartCluster(tb testing.TB, n int, changes ...func(*daemon.Config)) []*Daemon {
	tb.Helper()

	daemons := make([]*Daemon, 0, n)
	for _, change := range InCluster(tb, n) {
		daemons = append(daemons, Start(tb, append([]func(*daemon.Config){change}, changes...)...))
	}

	for _, d := range daemons {
		d.WaitUntilReady(tb)
	}

	return daemons
}
