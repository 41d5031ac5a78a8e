package load_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/bench"
	"github.com/peald/peald/internal/testbed"
)

const (
	// maxPollExtra is the maximum number of bytes of the heap that a poll that waits
	// may take more than a stream. A stream doesn't keep what is needed to read another
	// request from its connection.
	maxPollExtra = 1500

	// maxGoroutines is the maximum number of goroutines that a daemon may start on demand
	// for any number of clients.
	maxGoroutines = 20
)

// TestPolls compares the cost of polls that wait with that of streams, in a daemon of its
// own each, over plain text and over TLS. All of them must get a broadcast, and none of
// them may cost a goroutine.
//
// With SOAK, each daemon holds 15,000 clients, and polls may take only a little more
// memory than streams.
func TestPolls(t *testing.T) {
	// Handshakes take long with the race detector.
	plain, overTLS := 200, 60

	soaking := os.Getenv("SOAK") != ""
	if soaking {
		plain, overTLS = 15_000, 15_000
	}

	program := testbed.BuildDaemon(t)

	for name, clients := range map[string]int{"plain": plain, "TLS": overTLS} {
		t.Run(name, func(t *testing.T) {
			stream := holdClients(t, program, clients, name == "TLS", false)
			t.Logf("a stream takes %s", stream)

			poll := holdClients(t, program, clients, name == "TLS", true)
			t.Logf("a poll takes   %s", poll)

			if extra := poll.heap - stream.heap; soaking && extra > maxPollExtra {
				t.Errorf("a poll that waits takes %d bytes more than a stream, want at most %d", extra, maxPollExtra)
			}
		})
	}
}

// clientCost holds the cost of a client for a daemon, in bytes.
type clientCost struct {
	heap, resident int64
	kernel         int64 // slabs for both ends of its connection
	connecting     time.Duration
	latency        bench.Distribution
	goroutines     int // of all clients
}

// String implements fmt.Stringer.
func (c clientCost) String() string {
	return fmt.Sprintf("%d bytes of the heap and stacks, %d resident, %d in slabs of the kernel for both ends, %s of CPU time to connect; %d goroutines more for all; an event reached them within %.0f ms (p50 %.0f ms)",
		c.heap, c.resident, c.kernel, c.connecting, c.goroutines, c.latency.Max, c.latency.P50)
}

// holdClients has a daemon hold clients, and sends them a broadcast.
func holdClients(t *testing.T, program string, clients int, secure, polls bool) (cost clientCost) {
	t.Helper()

	var args []string

	cfg := bench.Config{Poll: polls, Patience: time.Minute}
	scheme := "http"

	if secure {
		certificate := testbed.NewCertificate(t)
		args = append(args, "--sse.tls.cert_file="+certificate.CertFile, "--sse.tls.key_file="+certificate.KeyFile)
		cfg.TLS, scheme = certificate.Client(), "https"
	}

	d := startDaemon(t, program, args...)
	cfg.URL = scheme + "://" + d.SSE + "/events"

	conn, err := grpc.NewClient(d.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	control := broadcaster{pealv1.NewControlServiceClient(conn)}

	// What is allocated once isn't part of a client's cost.
	cfg.Clients = clients / 10
	warmUp := openClients(t, cfg, control)
	control.await(t, cfg)
	warmUp.Close()

	cfg.Clients = 0
	control.await(t, cfg)

	before := d.consumption(t)

	cfg.Clients = clients
	all := openClients(t, cfg, control)
	defer all.Close()
	control.await(t, cfg)

	after := d.consumption(t)
	n := int64(clients)
	cost = clientCost{
		heap: (after.heap - before.heap) / n, resident: (after.resident - before.resident) / n, kernel: (after.kernel - before.kernel) / n,
		connecting: (after.cpu - before.cpu) / time.Duration(n), goroutines: after.goroutines - before.goroutines,
	}

	if cost.goroutines > maxGoroutines {
		t.Errorf("%d clients cost %d goroutines, want at most %d", clients, cost.goroutines, maxGoroutines)
	}

	result, err := all.Measure(t.Context(), bench.Load{Burst: 1})
	if err != nil {
		t.Fatal(err)
	}

	if faults := result.Faults(); faults != "" || result.Delivered != n {
		t.Errorf("%d of %d clients got the broadcast; faults: %q", result.Delivered, clients, faults)
	}

	cost.latency = result.Latency

	control.await(t, cfg) // polls wait for the next event

	return cost
}

func openClients(t *testing.T, cfg bench.Config, control broadcaster) *bench.Streams {
	t.Helper()

	opened, err := bench.Open(t.Context(), cfg, control)
	if err != nil {
		t.Fatal(err)
	}

	return opened
}

// broadcaster implements [bench.Publisher].
type broadcaster struct{ pealv1.ControlServiceClient }

func (b broadcaster) Publish(ctx context.Context, _, data string) error {
	_, err := b.Broadcast(ctx, &pealv1.BroadcastRequest{Data: data})

	return err
}

func (broadcaster) Token(context.Context, string) (string, error) { return "", nil }

// await waits until the daemon holds the clients of cfg.
func (b broadcaster) await(t *testing.T, cfg bench.Config) {
	t.Helper()

	var stats *pealv1.StatsResponse

	if !eventually(time.Minute, func() bool {
		var err error
		if stats, err = b.Stats(t.Context(), &pealv1.StatsRequest{}); err != nil {
			t.Fatal(err)
		}

		waiting := 0
		if cfg.Poll {
			waiting = cfg.Clients
		}

		return int(stats.GetTotal().GetConnections()) == cfg.Clients && int(stats.GetPolls().GetWaiting()) == waiting
	}) {
		t.Fatalf("the daemon has %v, want %d clients (poll: %t)", stats, cfg.Clients, cfg.Poll)
	}
}

// consumption holds the resources that a daemon uses. Memory is in bytes.
type consumption struct {
	heap, resident, kernel int64
	cpu                    time.Duration
	goroutines             int
}

// consumption returns the resources that the daemon uses after a garbage collection.
func (d *daemonProcess) consumption(t *testing.T) (c consumption) {
	t.Helper()

	process, err := procfs.NewProc(d.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}

	stat, err := process.Stat()
	if err != nil {
		t.Fatal(err)
	}

	c.cpu = time.Duration(stat.CPUTime() * float64(time.Second))

	// The second collection frees what the first one has found in pools.
	for range 2 {
		d.get(t, "/debug/pprof/heap?gc=1")
	}

	metrics := d.get(t, "/metrics")
	c.heap = metric(t, metrics, "go_memstats_heap_alloc_bytes") + metric(t, metrics, "go_memstats_stack_inuse_bytes")
	c.goroutines = int(metric(t, metrics, "go_goroutines"))
	c.resident = metric(t, metrics, "process_resident_memory_bytes")

	fs, err := procfs.NewDefaultFS()
	if err != nil {
		t.Fatal(err)
	}

	memory, err := fs.Meminfo()
	if err != nil {
		t.Fatal(err)
	}

	if memory.SlabBytes != nil {
		c.kernel = int64(*memory.SlabBytes)
	}

	return c
}

// get returns the body of a page of the REST listener.
func (d *daemonProcess) get(t *testing.T, path string) []byte {
	t.Helper()

	response, err := d.client.Get("http://" + d.REST + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()

	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, response.Status, err)
	}

	return text
}

// metric returns the value of a metric without labels.
func metric(t *testing.T, metrics []byte, name string) int64 {
	t.Helper()

	found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(metrics)
	if found == nil {
		t.Fatalf("no metric %s", name)
	}

	value, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		t.Fatal(err)
	}

	return int64(value)
}
