//go:build linux

// Command compare compares peald with other servers for event streams and with
// a minimal C program. It runs the servers in turn, several times, each in a
// separate process on the loopback interface, and holds the streams itself.
//
// It writes benchmarks.md and its plots to the directory given by -docs, or
// tables to standard output without -docs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

type options struct {
	root    string
	docs    string
	results string
	from    string
	quick   bool
	only    string
	rounds  int
	timeout time.Duration
	secure  bool
	others  bool
	nodes   int
	streams int
	hold    string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.root, "root", "..", "`directory` of the peald module")
	flags.StringVar(&o.docs, "docs", "", "write benchmarks.md and its plots to this `directory`")
	flags.StringVar(&o.results, "results", "", "write the results to this `file`, as JSON")
	flags.StringVar(&o.from, "from", "", "report the results in this `file` instead of measuring")
	flags.StringVar(&o.only, "only", "", "measure only the servers in this comma-separated `list`, and the C limit")
	flags.BoolVar(&o.quick, "quick", false, "measure less, in about six minutes")
	flags.BoolVar(&o.secure, "transports", false, "measure only the transports: TLS and HTTP/2")
	flags.BoolVar(&o.others, "others", false, "also build Centrifugo from the Go module proxy, and measure it")
	flags.IntVar(&o.rounds, "rounds", 0, "number of rounds (default: 3, or 2 with -quick)")
	flags.DurationVar(&o.timeout, "timeout", time.Hour, "give up after this time")
	flags.IntVar(&o.nodes, "nodes", 0, "broadcast through a cluster of this number of `daemons` instead, and write benchmarks-cluster.md")
	flags.IntVar(&o.streams, "streams", 15_000, "streams on each daemon of the cluster")
	flags.StringVar(&o.hold, holdFlag, "", "hold part of a cluster's streams; for internal use")
	if err := flags.Parse(args); err != nil {
		return err
	}

	switch {
	case o.hold != "":
		return hold(ctx, o.hold, os.Stdin, stdout)
	case o.secure && o.docs != "":
		return errors.New("-transports and -docs can't be combined: the page needs all measurements")
	case o.nodes > 0:
		return compareCluster(ctx, o, stdout, stderr)
	}

	results, err := obtain(ctx, o, stderr)
	if err != nil {
		return err
	}

	if o.results != "" {
		if err := writeJSON(o.results, results); err != nil {
			return err
		}
	}

	if o.docs == "" {
		return report(stdout, results)
	}

	return writeDocs(o.docs, results)
}

// obtain measures, or reads the results of an earlier run.
func obtain(ctx context.Context, o options, progress io.Writer) (*Results, error) {
	if o.from != "" {
		return readJSON(o.from)
	}

	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()

	busy := loadAverage()
	dir, err := os.MkdirTemp("", "peald-bench-")
	if err != nil {
		return nil, fmt.Errorf("create a working directory: %w", err)
	}
	defer os.RemoveAll(dir)

	targets, err := buildTargets(ctx, o, dir, progress)
	if err != nil {
		return nil, err
	}

	m := &measurement{plan: fullPlan(), targets: targets, progress: progress, began: time.Now()}
	if o.quick {
		m.plan = quickPlan()
	}

	if o.secure {
		m.plan.scales, m.plan.alone = nil, false
	}

	if o.rounds > 0 {
		m.plan.rounds = o.rounds
	}

	results, err := m.run(ctx)
	if err != nil {
		return nil, err
	}

	results.Machine = describeMachine(ctx, o.root, targets)
	results.Machine.Busy = busy
	return results, nil
}

func writeJSON(path string, results *Results) error {
	text, err := json.MarshalIndent(results, "", "\t") //nolint:musttag // Only this program reads it.
	if err != nil {
		return fmt.Errorf("encode the results: %w", err)
	}
	return os.WriteFile(path, append(text, '\n'), 0o644) //nolint:gosec // The results aren't secret.
}

func readJSON(path string) (*Results, error) {
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	results := &Results{}
	if err := json.Unmarshal(text, results); err != nil { //nolint:musttag // This program wrote it.
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return results, nil
}
