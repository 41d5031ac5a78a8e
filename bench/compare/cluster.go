//go:build linux

package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/peald/peald/internal/bench"
)

//go:embed benchmarks-cluster.md.tmpl
var clusterPage string

// ClusterResults holds the measurements of a cluster on this machine.
type ClusterResults struct {
	Machine  Machine
	Nodes    []NodeResult
	Load     bench.Load
	OpenTime time.Duration // until all streams of all nodes were open
	Slowest  float64       // ms from just before the POST until the last stream on the last node received the message
	Faults   string
}

// NodeResult holds the measurements of one node.
type NodeResult struct {
	Streams   int
	Delivered int64
	Expected  int64
	P50, P99  float64 // ms
	Max       float64 // ms
	CPU       float64 // µs per delivery
	Bytes     float64 // resident, per stream
}

// compareCluster starts a cluster of daemons and broadcasts through it.
func compareCluster(ctx context.Context, o options, stdout, progress io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()

	busy := loadAverage()
	dir, err := os.MkdirTemp("", "peald-bench-")
	if err != nil {
		return fmt.Errorf("create a working directory: %w", err)
	}
	defer os.RemoveAll(dir)
	if _, err := buildPeald(ctx, o.root, dir, certificate{}); err != nil {
		return err
	}

	results, err := measureCluster(ctx, filepath.Join(dir, "peald"), dir, o, progress)
	if err != nil {
		return err
	}

	results.Machine = describeMachine(ctx, o.root, nil)
	results.Machine.Busy = busy
	if o.docs == "" {
		_, err := fmt.Fprintln(stdout, results.table().Render())
		return err
	}

	t, err := template.New("benchmarks-cluster.md").Funcs(template.FuncMap{"count": count}).Parse(clusterPage)
	if err != nil {
		return fmt.Errorf("parse benchmarks-cluster.md.tmpl: %w", err)
	}

	return writeFile(filepath.Join(o.docs, "benchmarks-cluster.md"), func(w io.Writer) error { return t.Execute(w, results) })
}

// startNodes starts daemons that form a cluster.
func startNodes(ctx context.Context, program, dir string, nodes int) (started []*running, err error) {
	defer func() {
		if err != nil {
			stopAll(started)
		}
	}()

	var peers []string
	for range nodes {
		address, err := freeAddress(ctx)
		if err != nil {
			return nil, err
		}

		peers = append(peers, address)
	}

	// Nodes become ready only with a quorum, so start them all concurrently.
	type start struct {
		node *running
		err  error
	}

	starts := make(chan start, nodes)
	for i, address := range peers {
		go func() {
			home := filepath.Join(dir, fmt.Sprint("node-", i+1))
			node, err := startPeald(ctx, program, home+".json",
				"--cluster.mode=embedded", "--cluster.name=bench", "--cluster.addr="+address,
				"--cluster.peers="+strings.Join(peers, ","), "--cluster.dir="+home, "--log.level=warn")
			starts <- start{node, err}
		}()
	}

	var errs []error
	for range nodes {
		s := <-starts
		if s.err != nil {
			errs = append(errs, s.err)
			continue
		}

		started = append(started, s.node)
	}

	return started, errors.Join(errs...)
}

func stopAll(nodes []*running) {
	for _, n := range nodes {
		n.stop()
	}
}

func measureCluster(ctx context.Context, program, dir string, o options, progress io.Writer) (*ClusterResults, error) {
	began := time.Now()
	progressf := func(what string) {
		fmt.Fprintf(progress, "%5s  %s\n", time.Since(began).Round(time.Second), what)
	}

	progressf(fmt.Sprintf("starting %d daemons", o.nodes))
	nodes, err := startNodes(ctx, program, dir, o.nodes)
	if err != nil {
		return nil, err
	}
	defer stopAll(nodes)

	for i, n := range nodes {
		if err := n.await(ctx, func() error { return serves(ctx, n) }); err != nil {
			return nil, fmt.Errorf("node %d: %w", i+1, err)
		}
	}

	before, err := usages(nodes)
	if err != nil {
		return nil, err
	}

	r := &ClusterResults{Load: bench.Load{Size: small, Rate: 0.5, Duration: 20 * time.Second}}
	shared := bench.NewShared()
	progressf(fmt.Sprintf("opening %s streams on each", count(o.streams)))
	opening := time.Now()
	holders, err := holdAll(ctx, nodes, part{
		Streams: o.streams, Run: shared.Run, Started: shared.Started, Load: r.Load, Patience: 15 * time.Second,
	})
	defer endAll(holders)
	if err != nil {
		return nil, err
	}

	r.OpenTime = time.Since(opening)
	if err := sleep(ctx, settle); err != nil {
		return nil, err
	}

	idle, err := usages(nodes)
	if err != nil {
		return nil, err
	}

	progressf("broadcasting")
	for _, h := range holders {
		if err := h.begin(); err != nil {
			return nil, err
		}
	}

	var faults []string
	for i, h := range holders {
		got, err := h.result()
		if err != nil {
			return nil, err
		}

		r.Nodes = append(r.Nodes, NodeResult{
			Streams: o.streams, Delivered: got.Delivered, Expected: got.Expected,
			P50: got.Latency.P50, P99: got.Latency.P99, Max: got.Latency.Max,
			Bytes: float64(idle[i].rss-before[i].rss) / float64(o.streams),
		})
		r.Slowest = max(r.Slowest, got.Latency.Max)
		if f := got.Faults(); f != "" {
			faults = append(faults, fmt.Sprintf("node %d: %s", i+1, f))
		}
	}

	after, err := usages(nodes)
	if err != nil {
		return nil, err
	}

	for i := range r.Nodes {
		r.Nodes[i].CPU = micros(after[i].cpu-idle[i].cpu) / float64(max(1, r.Nodes[i].Delivered))
	}

	r.Faults = strings.Join(faults, "; ")
	progressf("done")
	return r, nil
}

// holdAll starts a process for each node's streams. The first process also
// publishes. If holdAll fails, it returns the processes that it has started so far.
func holdAll(ctx context.Context, nodes []*running, p part) (holders []*holder, err error) {
	for i, n := range nodes {
		if p.URL, p.Publish = n.streams, ""; i == 0 {
			p.Publish = n.publish
		}

		h, err := startHolder(ctx, p)
		if err != nil {
			return holders, err
		}

		holders = append(holders, h)
		if err := h.opened(); err != nil {
			return holders, err
		}
	}

	return holders, nil
}

func endAll(holders []*holder) {
	for _, h := range holders {
		h.end()
	}
}

// serves returns an error unless the daemon accepts a message.
func serves(ctx context.Context, n *running) error {
	p := newPublisher(n)
	defer p.close()
	return p.Publish(ctx, "", "hello")
}

func usages(nodes []*running) ([]usage, error) {
	var all []usage
	for _, n := range nodes {
		u, err := n.usage()
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

// table returns a table of the nodes' measurements.
func (r *ClusterResults) table() table.Writer {
	t := newTable(table.Row{"node", "streams", "delivered", "of", "p50 ms", "p99 ms", "last ms", "µs CPU per delivery", "bytes per stream"})
	for i, n := range r.Nodes {
		t.AppendRow(table.Row{
			i + 1, count(n.Streams), count(int(n.Delivered)), count(int(n.Expected)),
			fmt.Sprintf("%.0f", n.P50), fmt.Sprintf("%.0f", n.P99), fmt.Sprintf("%.0f", n.Max),
			fmt.Sprintf("%.2f", n.CPU), fmt.Sprintf("%.0f", n.Bytes),
		})
	}
	return t
}

// Table returns the table in Markdown.
func (r *ClusterResults) Table() string { return r.table().RenderMarkdown() }

// Streams returns the number of streams on all nodes.
func (r *ClusterResults) Streams() (n int) {
	for _, node := range r.Nodes {
		n += node.Streams
	}
	return n
}
