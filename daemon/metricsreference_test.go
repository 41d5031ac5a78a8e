package daemon_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/peald/peald/daemon"
)

var update = flag.Bool("update", false, "update the table of metrics")

// TestMetricsAreDocumented compares the table in docs/metrics.md with the metrics
// of a daemon.
func TestMetricsAreDocumented(t *testing.T) {
	const (
		file  = "../docs/metrics.md"
		begin = "<!-- metrics: go generate ./daemon -->\n"
		end   = "<!-- end -->\n"
	)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	head, rest, ok := strings.Cut(string(content), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no markers for the table", file)
	}

	fresh := head + begin + metricsTable(t) + end + tail
	if *update {
		if err := os.WriteFile(file, []byte(fresh), 0o644); err != nil {
			t.Fatal(err)
		}

		return
	}
	if fresh != string(content) {
		t.Errorf("%s is outdated: run go generate ./daemon", file)
	}
}

func metricsTable(t *testing.T) string {
	t.Helper()
	families := scrape(t, start(t, func(cfg *daemon.Config) {
		cfg.Broker.Shards = 1
		cfg.Cluster.Mode, cfg.Cluster.Dir = daemon.ClusterEmbedded, t.TempDir()
		hook(daemon.Hook{URL: "http://127.0.0.1:1/"})(cfg) // nothing listens there
		cfg.Sources = []daemon.Source{{Name: "outbox", Postgres: &daemon.PostgresSource{URL: "postgres://127.0.0.1:1/nowhere"}}}
	}))
	var table strings.Builder
	table.WriteString("| metric | kind | label: values | description |\n|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if !strings.HasPrefix(name, "peald_") {
			continue
		}
		family := families[name]
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", name, strings.ToLower(family.GetType().String()), labelsOf(family), family.GetHelp())
	}
	return table.String()
}

// labelsOf returns the labels of a family. If there is one label with several
// values, it includes the values, except for the methods of the control plane,
// which docs/control.md lists.
func labelsOf(family *dto.MetricFamily) string {
	values := make(map[string][]string)
	for _, m := range family.GetMetric() {
		for _, label := range m.GetLabel() {
			values[label.GetName()] = append(values[label.GetName()], label.GetValue())
		}
	}
	var shown []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		text := "`" + name + "`"
		if of := values[name]; len(values) == 1 && len(of) > 1 && name != "method" {
			slices.Sort(of)
			text += ": " + strings.Join(slices.Compact(of), ", ")
		}
		shown = append(shown, text)
	}
	return strings.Join(shown, ", ")
}
