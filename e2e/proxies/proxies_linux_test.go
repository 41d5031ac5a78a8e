// Package proxies_test runs the proxies for which deploy/ has configurations in
// front of daemons, and writes the table in docs/proxies.md.
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
)

var update = flag.Bool("update", false, "write the table in docs/proxies.md")

func TestMain(m *testing.M) {
	if configuration := os.Getenv(asDaemonVariable); configuration != "" {
		os.Exit(runDaemon(configuration))
	}

	os.Exit(browsertest.Main(m))
}

// origin is that of the pages that may read streams.
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
			r := &row{version: k.installed(t), http2: "no", noticed2: "–"}

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
	version, unbuffered, idle, down, drain, noticed1, noticed2, http2 string
}

// test fills in the row.
func (k kind) test(t *testing.T, r *row) {
	t.Helper()

	var both sync.WaitGroup

	run(t, &both, "idle", func(t *testing.T) { r.idle = k.testIdle(t) })
	run(t, &both, "streams", func(t *testing.T) {
		// Whatever is sent to the second one fails until it is there.
		backends := []string{loopback() + ":18080", loopback() + ":18080"}
		first := startDaemon(t, backends[0])
		f := k.start(t, setup{origin: origin, backends: backends})

		r.unbuffered = f.testUnbuffered(t, first)
		r.noticed1 = f.testDeparture(t, first, http1)

		if k.http2 {
			r.http2 = "yes"
			r.noticed2 = f.testDeparture(t, first, http2)
		}

		f.testStatuses(t, first)
		f.testAddresses(t)

		r.drain = f.testDrain(t, first, backends)
		r.down = f.testDown(t)

		// It is there again.
		f.testUnbuffered(t, startDaemon(t, backends[0]))
	})

	both.Wait()
}

// run runs a subtest beside others, however few processors there are: all of
// them mostly wait.
func run(t *testing.T, others *sync.WaitGroup, name string, test func(t *testing.T)) {
	t.Helper()
	others.Go(func() { t.Run(name, test) })
}

// installed returns the version of the installed proxy.
func (k kind) installed(t *testing.T) string {
	t.Helper()

	out, err := exec.CommandContext(t.Context(), pealdtest.Program(t, k.programs...), k.versionFlag).CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}

	return regexp.MustCompile(`\d+(\.\d+)+`).FindString(string(out))
}

// startDaemon starts a daemon that sends no heartbeats in this test's time, and
// trusts the proxy.
func startDaemon(t *testing.T, addr string) *pealdtest.Daemon {
	t.Helper()

	return pealdtest.Start(t, func(cfg *daemon.Config) {
		cfg.SSE.Addr = addr
		cfg.SSE.Heartbeat = time.Hour
		cfg.SSE.AllowedOrigins = []string{origin}
		cfg.SSE.TrustedProxies = []string{"127.0.0.1"}
		cfg.SSE.MaxConnectionsPerIP = 1
	})
}

// TestCaddyfile finds warnings, which TestProxies has others of.
func TestCaddyfile(t *testing.T) {
	t.Parallel()

	cmd := exec.CommandContext(t.Context(), pealdtest.Program(t, "caddy"), "validate", "--adapter", "caddyfile", "--config", deploy("caddy/Caddyfile"))
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir())

	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), `"level":"warn"`) {
		t.Errorf("caddy validate: %v\n%s", err, out)
	}
}
