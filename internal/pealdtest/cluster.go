package pealdtest

import (
	"math/rand/v2"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"go.uber.org/goleak"

	"github.com/peald/peald/daemon"
)

// FreeAddrs returns n different unused loopback addresses.
func FreeAddrs(tb testing.TB, n int) []string {
	tb.Helper()

	addrs := make([]string, 0, n)

	for len(addrs) < n {
		addr, err := FreeAddr()
		if err != nil {
			tb.Fatal(err)
		}

		if !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}

	return addrs
}

// FreeAddr returns an unused loopback address. Its port is below the range that
// systems use for outgoing connections and for port 0. Otherwise, other tests
// could occupy it before it is used.
func FreeAddr() (string, error) {
	const lowest, ports, tries = 12000, 20000, 100

	for try := 0; ; try++ {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(lowest+rand.IntN(ports)))
		listener, err := net.Listen("tcp", addr) //nolint:noctx // returns immediately

		switch {
		case err == nil:
			return addr, listener.Close()
		case try == tries:
			return "", err
		}
	}
}

// InCluster returns configuration changes, one for each daemon, that make n
// daemons form a cluster. Their directories are removed after the test.
func InCluster(tb testing.TB, n int) []func(*daemon.Config) {
	tb.Helper()

	dir, addrs := tb.TempDir(), FreeAddrs(tb, n)
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

// LeftByNATS returns options that ignore goroutines leaked by embedded NATS
// servers. Before it starts routing, one goroutine waits for the client port,
// which is never opened. If a server shuts down before it has connected to
// another one, the store of a group that never ran also leaks goroutines. A
// client that is closed right after its first publish may leak a goroutine that
// waits on a channel.
func LeftByNATS() []goleak.Option {
	const server = "github.com/nats-io/nats-server/v2/server"

	return []goleak.Option{
		goleak.IgnoreAnyFunction(server + ".(*Server).StartRouting"),
		goleak.IgnoreAnyFunction(server + ".(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreAnyFunction(server + "/ats.Register.func1"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"),
	}
}
