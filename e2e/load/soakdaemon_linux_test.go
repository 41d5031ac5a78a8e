package load_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/peald/peald/internal/pealdtest"
)

// buildDaemon returns the path of a daemon that looks for data races if this
// test does.
func buildDaemon(tb testing.TB) string {
	tb.Helper()

	path := filepath.Join(tb.TempDir(), "peald")
	args := []string{"build", "-o", path}

	if raceEnabled() {
		args = append(args, "-race")
	}

	build := exec.CommandContext(tb.Context(), pealdtest.Program(tb, "go"), append(args, "github.com/peald/peald/cmd/peald")...)
	if output, err := build.CombinedOutput(); err != nil {
		tb.Fatalf("build the daemon: %v\n%s", err, output)
	}

	return path
}

func raceEnabled() bool {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}

	return false
}

// soaked is a daemon in a process of its own.
type soaked struct {
	SSE  string `json:"sse"`
	GRPC string `json:"grpc"`
	REST string `json:"rest"`

	cmd    *exec.Cmd
	log    *pealdtest.Log
	gone   chan struct{}
	client *http.Client // of one connection, so that it counts for one descriptor
}

// startDaemon starts a daemon on free ports, whose tokens are signed with
// pealdtest.Secret.
func startDaemon(t *testing.T, program string, args ...string) *soaked {
	t.Helper()

	cmd := exec.Command(program, append(args, "--sse.addr=127.0.0.1:0", "--grpc.addr=127.0.0.1:0", "--rest.addr=127.0.0.1:0")...)
	// The race detector has a shadow of memory, several times as large, which it
	// never gives back: so the collector is kept from being generous in storms.
	cmd.Env = append(os.Environ(), "PEALD_AUTH_JWT_HMAC_SECRET="+pealdtest.Secret, "GOGC=50")

	return startCommand(t, cmd)
}

// startCommand starts a daemon by a command that takes its flags, and waits until
// it accepts. It ends with the test at the latest.
func startCommand(t *testing.T, cmd *exec.Cmd) *soaked {
	t.Helper()

	ready := filepath.Join(t.TempDir(), "ready.json")
	d := &soaked{
		cmd: cmd, log: &pealdtest.Log{}, gone: make(chan struct{}),
		client: &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}},
	}
	cmd.Args = append(cmd.Args, "--ready-file="+ready)
	cmd.Stdout, cmd.Stderr = d.log, d.log
	cmd.Env = append(cmd.Env, "GORACE=halt_on_error=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	go func() {
		_ = cmd.Wait()
		close(d.gone)
	}()

	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-d.gone
		d.client.CloseIdleConnections()

		if t.Failed() {
			t.Logf("the daemon said:\n%s", d.log)
		}
	})

	for deadline := time.Now().Add(90 * time.Second); ; {
		text, err := os.ReadFile(ready)
		if err == nil && json.Unmarshal(text, d) == nil {
			return d
		}

		if !d.wait(10*time.Millisecond) || time.Now().After(deadline) {
			t.Fatalf("the daemon doesn't start:\n%s", d.log)
		}
	}
}

// wait returns false if the daemon has ended meanwhile.
func (d *soaked) wait(pause time.Duration) bool {
	select {
	case <-time.After(pause):
		return true
	case <-d.gone:
		return false
	}
}

// stop ends the daemon as a signal does, and has it end without an error.
func (d *soaked) stop(t *testing.T) {
	t.Helper()

	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}

	select {
	case <-d.gone:
	case <-time.After(time.Minute):
		t.Fatal("the daemon has not ended a minute after it was told to")
	}

	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the daemon ended with status %d", code)
	}

	if log := d.log.String(); strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic:") {
		t.Error("the daemon's log tells of a fault")
	}
}

// vitals reads what the daemon says of itself, and /proc of its descriptors.
func (d *soaked) vitals(t *testing.T) vitals {
	t.Helper()

	v, err := d.readVitals()
	if err != nil {
		t.Fatalf("the daemon's metrics: %v", err)
	}

	return v
}

func (d *soaked) readVitals() (v vitals, err error) {
	response, err := d.client.Get("http://" + d.REST + "/metrics")
	if err != nil {
		return v, err
	}
	defer response.Body.Close()

	parser := expfmt.NewTextParser(model.UTF8Validation)

	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return v, err
	}

	gauge := func(name string) int64 {
		metrics := families[name].GetMetric()
		if len(metrics) != 1 {
			err = errors.Join(err, fmt.Errorf("there are %d metrics %s", len(metrics), name))

			return 0
		}

		return int64(metrics[0].GetGauge().GetValue())
	}

	v = vitals{
		streams:     int(gauge("peald_connections")),
		goroutines:  int(gauge("go_goroutines")),
		descriptors: int(gauge("process_open_fds")),
		resident:    gauge("process_resident_memory_bytes"),
	}

	v.ended = map[string]int64{}
	for _, metric := range families["peald_disconnects_total"].GetMetric() {
		v.ended[metric.GetLabel()[0].GetValue()] = int64(metric.GetCounter().GetValue())
	}

	open, dirErr := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
	// The daemon's count holds the descriptor that it counts with.
	v.descriptors = min(v.descriptors, len(open)+1)

	return v, errors.Join(err, dirErr)
}

// settle waits until the daemon holds no stream and no more than that, or for
// as long as patience says, and returns what it holds.
func (d *soaked) settle(t *testing.T, patience time.Duration, goroutines, descriptors int, resident int64) vitals {
	t.Helper()

	began := time.Now()

	for {
		v := d.vitals(t)
		v.took = time.Since(began).Round(time.Millisecond)

		if v.streams == 0 && v.goroutines <= goroutines && v.descriptors <= descriptors && v.resident <= resident {
			return v
		}

		if v.took > patience {
			return v
		}

		if !d.wait(50 * time.Millisecond) {
			t.Fatal("the daemon has ended")
		}
	}
}
