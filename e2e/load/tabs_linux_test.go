package load_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/testbed"
)

// tabsPerBrowser is the number of tabs that share a stream in TestTabs.
const tabsPerBrowser = 5

// TestTabs opens the tabs of many simulated browsers in Node. They run the JavaScript
// client, with simulated Web Locks and channels between the tabs of a browser. There must
// be one stream for each browser, also after leaders were closed, frozen or have crashed,
// and every event must reach each tab once and in order.
//
// It takes a few seconds with 100 tabs, or a minute with SOAK and 10,000.
func TestTabs(t *testing.T) {
	browsers := 20
	if os.Getenv("SOAK") != "" {
		browsers = 2000
	}

	d := startDaemon(t, testbed.BuildDaemon(t), "--auth.anonymous_topics=news,tabs.*")

	conn, err := grpc.NewClient(d.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	c := &crowdedSite{daemon: d, control: pealv1.NewControlServiceClient(conn), tabs: openTabs(t, d.SSE, browsers)}
	c.wanted = make([][]string, tabsPerBrowser)

	c.do(t, "open", true)
	c.awaitStreams(t, browsers)
	c.publish(t)

	// Each of these concerns a tenth of the browsers.
	c.do(t, "close", 1)
	c.do(t, "crash", 2)
	c.do(t, "freeze", 3)
	c.publish(t)
	c.do(t, "thaw", 0)
	c.awaitStreams(t, browsers)
	c.publish(t)
	c.awaitStreams(t, browsers)

	d.stop(t)
}

// crowdedSite is a daemon whose streams are shared by tabs.
type crowdedSite struct {
	daemon  *daemonProcess
	control pealv1.ControlServiceClient
	tabs    *tabs
	wanted  [][]string // the data that the tabs with each number must have received
	number  int        // of events
}

// do makes the tabs do something, and logs how long it takes.
func (c *crowdedSite) do(t *testing.T, command string, argument any) {
	t.Helper()

	began := time.Now()
	reply := c.tabs.call(t, command, argument)
	t.Logf("%s: %s; %d tabs; so far, they took %.1f s of CPU time and %d MiB, and the daemon %.1f s of CPU time",
		command, time.Since(began).Round(time.Millisecond), reply.Tabs, reply.CPUSeconds, reply.Bytes>>20, c.daemon.cpuSeconds(t))

	for _, fault := range reply.Faults {
		t.Error(fault)
	}
}

// publish publishes events to all tabs and to the tabs with each number, and waits until
// all tabs have them.
func (c *crowdedSite) publish(t *testing.T) {
	t.Helper()

	for to := range tabsPerBrowser + 1 {
		c.number++

		topic, data := "news", strconv.Itoa(c.number)
		if to < tabsPerBrowser {
			topic = fmt.Sprint("tabs.", to)
		}

		if _, err := c.control.Publish(t.Context(), &pealv1.PublishRequest{Topic: topic, Data: data}); err != nil {
			t.Fatal(err)
		}

		for i := range c.wanted {
			if i == to || to == tabsPerBrowser {
				c.wanted[i] = append(c.wanted[i], data)
			}
		}
	}

	c.do(t, "receive", c.wanted)
}

// awaitStreams waits until the daemon has n streams.
func (c *crowdedSite) awaitStreams(t *testing.T, n int) {
	t.Helper()

	var stats *pealv1.StatsResponse

	if !eventually(time.Minute, func() (done bool) {
		var err error
		if stats, err = c.control.Stats(t.Context(), &pealv1.StatsRequest{}); err != nil {
			t.Fatal(err)
		}

		return int(stats.GetTotal().GetConnections()) == n
	}) {
		t.Fatalf("the daemon has %d streams, want %d", stats.GetTotal().GetConnections(), n)
	}

	t.Logf("%d streams; %d have been opened", n, stats.GetTotal().GetConnected())
}

// cpuSeconds returns the CPU time that the daemon has used.
func (d *daemonProcess) cpuSeconds(t *testing.T) float64 {
	t.Helper()

	process, err := procfs.NewProc(d.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}

	stat, err := process.Stat()
	if err != nil {
		t.Fatal(err)
	}

	return stat.CPUTime()
}

// tabs is the process with the tabs.
type tabs struct {
	calls   *json.Encoder
	replies *bufio.Scanner
}

// tabsReply is the reply to a command.
type tabsReply struct {
	Faults     []string
	Tabs       int
	CPUSeconds float64 `json:"cpuSeconds"`
	Bytes      int
}

// openTabs starts the process with the tabs, which is killed when the test ends.
func openTabs(t *testing.T, sse string, browsers int) *tabs {
	t.Helper()

	node, project := testbed.Program(t, "node"), testbed.JavaScriptClient(t)
	program := filepath.Join(t.TempDir(), "load.mjs")

	if out, err := exec.CommandContext(t.Context(), node, filepath.Join(project, "scripts", "load.mjs"), program).CombinedOutput(); err != nil {
		t.Fatalf("bundle the tabs: %v\n%s", err, out)
	}

	// The process outlives the test's context, so that its end isn't a failure.
	ctx, kill := context.WithCancel(context.WithoutCancel(t.Context()))
	command := exec.CommandContext(ctx, node, program, "http://"+sse, strconv.Itoa(browsers), strconv.Itoa(tabsPerBrowser))
	command.Stderr = t.Output()

	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}

	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := command.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		kill()

		_, _ = io.Copy(io.Discard, stdout)
		_ = command.Wait()
	})

	return &tabs{json.NewEncoder(stdin), bufio.NewScanner(stdout)}
}

// call makes the tabs do something and waits for that.
func (p *tabs) call(t *testing.T, command string, argument any) (reply tabsReply) {
	t.Helper()

	if err := p.calls.Encode(map[string]any{command: argument}); err != nil {
		t.Fatal(err)
	}

	// If something never happens, the test's timeout shows where.
	if !p.replies.Scan() {
		t.Fatalf("%s: the tabs have ended: %v", command, p.replies.Err())
	}

	if err := json.Unmarshal(p.replies.Bytes(), &reply); err != nil {
		t.Fatal(err)
	}

	return reply
}
