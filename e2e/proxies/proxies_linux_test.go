// Package proxies_test runs proxies with their configurations in deploy/ in front
// of daemons, and generates the table in docs/proxies.md.
package proxies_test

import (
	"flag"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/peald/peald/daemon"
	"github.com/peald/peald/internal/browsertest"
	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

var update = flag.Bool("update", false, "update the table in docs/proxies.md")

func TestMain(m *testing.M) {
	if configuration := os.Getenv(asDaemonVariable); configuration != "" {
		os.Exit(runDaemon(configuration))
	}

	os.Exit(browsertest.Main(m, browsertest.WholeChromium()...))
}

// origin is the allowed origin of pages.
const origin = "https://app.example.org"

// TestProxies runs each proxy with its file in deploy/.
func TestProxies(t *testing.T) {
	t.Parallel()

	var (
		mu   sync.Mutex
		rows = map[string]*row{}
	)

	var all sync.WaitGroup

	for _, k := range kinds() {
		run(t, &all, k.name, func(t *testing.T) {
			r := &row{version: k.installed(t), http2: "no", detected2: "–"}

			k.test(t, r)

			mu.Lock()
			defer mu.Unlock()

			rows[k.name] = r
		})
	}

	all.Wait()

	if !t.Failed() {
		checkTable(t, rows)
	}
}

// row holds a proxy's cells in the table.
type row struct {
	version, unbuffered, idle, down, drain, detected1, detected2, http2 string
}

// test runs all tests of a proxy and fills in its row.
func (k kind) test(t *testing.T, r *row) {
	t.Helper()

	var both sync.WaitGroup

	run(t, &both, "idle", func(t *testing.T) { r.idle = k.testIdle(t) })
	run(t, &both, "streams", func(t *testing.T) {
		// The second daemon is started later; until then it refuses connections.
		backends := []string{loopback() + ":18080", loopback() + ":18080"}
		first := startDaemon(t, backends[0])
		f := k.start(t, setup{origin: origin, backends: backends})

		r.unbuffered = f.testUnbuffered(t, first)
		r.detected1 = f.testDisconnect(t, first, http1)

		if k.http2 {
			r.http2 = "yes"
			r.detected2 = f.testDisconnect(t, first, http2)
		}

		f.testStatuses(t, first)
		f.testAddresses(t)

		r.drain = f.testDrain(t, first, backends)
		r.down = f.testDown(t)

		// The proxy recovers when a daemon is reachable again.
		f.testUnbuffered(t, startDaemon(t, backends[0]))
	})

	both.Wait()
}

// run runs a subtest concurrently with others, regardless of the number of CPUs,
// because all of them mostly wait.
func run(t *testing.T, others *sync.WaitGroup, name string, test func(t *testing.T)) {
	t.Helper()
	others.Go(func() { t.Run(name, test) })
}

// installed returns the version of the installed proxy.
func (k kind) installed(t *testing.T) string {
	t.Helper()

	out, err := exec.CommandContext(t.Context(), testbed.Program(t, k.programs...), k.versionFlag).CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}

	return regexp.MustCompile(`\d+(\.\d+)+`).FindString(string(out))
}

// startDaemon starts a daemon that trusts the proxy and sends no heartbeats during
// the test.
func startDaemon(t *testing.T, addr string, changes ...func(*daemon.Config)) *pealdtest.Daemon {
	t.Helper()

	return pealdtest.Start(t, append([]func(*daemon.Config){func(cfg *daemon.Config) {
		cfg.SSE.Addr = addr
		cfg.SSE.Heartbeat = time.Hour
		cfg.SSE.AllowedOrigins = []string{origin}
		cfg.SSE.TrustedProxies = []string{"127.0.0.1"}
		cfg.SSE.MaxConnectionsPerIP = 1
	}}, changes...)...)
}

// TestCaddyfile checks the unmodified file for warnings.
func TestCaddyfile(t *testing.T) {
	t.Parallel()

	cmd := exec.CommandContext(t.Context(), testbed.Program(t, "caddy"), "validate", "--adapter", "caddyfile", "--config", deploy("caddy/Caddyfile"))
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir())

	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), `"level":"warn"`) {
		t.Errorf("caddy validate: %v\n%s", err, out)
	}
}
