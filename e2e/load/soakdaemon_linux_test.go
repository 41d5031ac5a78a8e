package load_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/peald/peald/internal/pealdtest"
	"github.com/peald/peald/internal/testbed"
)

// daemonProcess is a daemon that runs in a separate process.
type daemonProcess struct {
	SSE  string `json:"sse"`
	GRPC string `json:"grpc"`
	REST string `json:"rest"`

	cmd    *exec.Cmd
	log    *testbed.Log
	exited chan struct{}
	client *http.Client // with one connection, so that it uses only one of the daemon's descriptors
}

// startDaemon starts a daemon on free ports that accepts tokens signed with
// pealdtest.Secret.
func startDaemon(t *testing.T, program string, args ...string) *daemonProcess {
	t.Helper()

	cmd := exec.Command(program, append(args, "--sse.addr=127.0.0.1:0", "--grpc.addr=127.0.0.1:0", "--rest.addr=127.0.0.1:0")...)
	// The race detector's shadow memory is several times as large as the heap and
	// is never released. A low GOGC limits the heap's peaks.
	cmd.Env = append(os.Environ(), "PEALD_AUTH_JWT_HMAC_SECRET="+pealdtest.Secret, "GOGC=50")

	return startCommand(t, cmd)
}

// startCommand starts a daemon with a command that takes its flags, and waits
// until it accepts connections. It is killed when the test ends.
func startCommand(t *testing.T, cmd *exec.Cmd) *daemonProcess {
	t.Helper()

	ready := filepath.Join(t.TempDir(), "ready.json")
	d := &daemonProcess{
		cmd: cmd, log: &testbed.Log{}, exited: make(chan struct{}),
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
		close(d.exited)
	}()

	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-d.exited
		d.client.CloseIdleConnections()

		if t.Failed() {
			t.Logf("the daemon's log:\n%s", d.log)
		}
	})

	for deadline := time.Now().Add(90 * time.Second); ; {
		text, err := os.ReadFile(ready)
		if err == nil && json.Unmarshal(text, d) == nil {
			return d
		}

		if !d.wait(10*time.Millisecond) || time.Now().After(deadline) {
			t.Fatalf("the daemon doesn't start; its log:\n%s", d.log)
		}
	}
}

// wait waits for the pause. It returns false if the daemon exits first.
func (d *daemonProcess) wait(pause time.Duration) bool {
	select {
	case <-time.After(pause):
		return true
	case <-d.exited:
		return false
	}
}

// stop terminates the daemon. It must exit with status 0 and without a panic or
// data race in its log.
func (d *daemonProcess) stop(t *testing.T) {
	t.Helper()

	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}

	select {
	case <-d.exited:
	case <-time.After(time.Minute):
		t.Fatal("the daemon is still running a minute after SIGTERM")
	}

	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the daemon exited with status %d", code)
	}

	if log := d.log.String(); strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic:") {
		t.Error("the daemon's log contains a panic or a data race")
	}
}

// resources returns the daemon's resources, from its metrics and /proc.
func (d *daemonProcess) resources(t *testing.T) resources {
	t.Helper()

	r, err := d.readResources()
	if err != nil {
		t.Fatalf("reading the daemon's metrics: %v", err)
	}

	return r
}

func (d *daemonProcess) readResources() (r resources, err error) {
	response, err := d.client.Get("http://" + d.REST + "/metrics")
	if err != nil {
		return r, err
	}
	defer response.Body.Close()

	parser := expfmt.NewTextParser(model.UTF8Validation)

	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return r, err
	}

	gauge := func(name string) int64 {
		metrics := families[name].GetMetric()
		if len(metrics) != 1 {
			err = errors.Join(err, fmt.Errorf("%d series for %s, want 1", len(metrics), name))

			return 0
		}

		return int64(metrics[0].GetGauge().GetValue())
	}

	r = resources{
		streams:     int(gauge("peald_connections")),
		goroutines:  int(gauge("go_goroutines")),
		descriptors: int(gauge("process_open_fds")),
		resident:    gauge("process_resident_memory_bytes"),
	}

	r.closed = map[string]int64{}
	for _, metric := range families["peald_disconnects_total"].GetMetric() {
		r.closed[metric.GetLabel()[0].GetValue()] = int64(metric.GetCounter().GetValue())
	}

	open, dirErr := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))

	// The daemon's count includes the descriptor that it uses for counting.
	r.descriptors = min(r.descriptors, len(open)+1)

	return r, errors.Join(err, dirErr)
}

// settle waits until the daemon has no streams and its resources are within the
// given limits, but no longer than patience. It returns the resources.
func (d *daemonProcess) settle(t *testing.T, patience time.Duration, goroutines, descriptors int, resident int64) resources {
	t.Helper()

	began := time.Now()

	for {
		r := d.resources(t)
		r.took = time.Since(began).Round(time.Millisecond)

		if r.streams == 0 && r.goroutines <= goroutines && r.descriptors <= descriptors && r.resident <= resident {
			return r
		}

		if r.took > patience {
			return r
		}

		if !d.wait(50 * time.Millisecond) {
			t.Fatal("the daemon exited")
		}
	}
}
