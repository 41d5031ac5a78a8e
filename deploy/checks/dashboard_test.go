package checks_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

// dashboard is the part of Grafana's dashboard model that the tests check.
type dashboard struct {
	UID        string  `json:"uid"`
	Panels     []panel `json:"panels"`
	Templating struct {
		List []struct {
			Name  string          `json:"name"`
			Type  string          `json:"type"`
			Query json.RawMessage `json:"query"`
		} `json:"list"`
	} `json:"templating"`
}

type panel struct {
	ID         int        `json:"id"`
	Type       string     `json:"type"`
	Title      string     `json:"title"`
	Datasource datasource `json:"datasource"`
	GridPos    struct {
		X, Y, W, H int
	} `json:"gridPos"`
	Targets []struct {
		Expr         string     `json:"expr"`
		LegendFormat string     `json:"legendFormat"`
		Datasource   datasource `json:"datasource"`
	} `json:"targets"`
}

type datasource struct {
	UID string `json:"uid"`
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()

	var d dashboard
	if err := json.Unmarshal([]byte(read(t, "../grafana/peald.json")), &d); err != nil {
		t.Fatal(err)
	}

	return d
}

// TestDashboardIsValid checks for mistakes that Grafana would render as broken
// panels.
func TestDashboardIsValid(t *testing.T) {
	d := readDashboard(t)

	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name+" "+v.Type)
	}

	if !slices.Equal(variables, []string{"datasource datasource", "instance query"}) {
		t.Errorf("the variables are %q", variables)
	}

	ids := make(map[int]bool)

	for i, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 {
			t.Errorf("%s: ID %d is zero or used by another panel", p.Title, p.ID)
		}

		ids[p.ID] = true

		for _, other := range d.Panels[:i] {
			a, b := p.GridPos, other.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H || a.X+a.W > 24 {
				t.Errorf("%s overlaps %s or exceeds the page's width", p.Title, other.Title)
			}
		}

		if (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("%s, a %s, has %d queries", p.Title, p.Type, len(p.Targets))
		}

		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" || p.Datasource.UID != "${datasource}" {
				t.Errorf("%s doesn't use the selected data source", p.Title)
			}
		}
	}
}

// TestDashboardAndAlertsUseExistingMetrics checks that the daemon exports every
// metric and label that the dashboard and the alerts use, and that the dashboard
// shows every peald_ metric.
func TestDashboardAndAlertsUseExistingMetrics(t *testing.T) {
	families := scrape(t)
	shown := make(map[string]bool)

	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			uses := usesOf(t, p.Title, target.Expr)
			for name, used := range uses {
				shown[name] = true

				if !used["instance"] {
					t.Errorf("%s: %s isn't filtered by the selected instance", p.Title, name)
				}
			}

			for label := range legendLabels(target.LegendFormat) {
				for name := range uses {
					uses[name][label] = true
				}
			}

			checkUses(t, p.Title, uses, families)
		}
	}

	for name, rule := range alertRules(t, "../prometheus/alerts.yml") {
		checkUses(t, name, usesOf(t, name, rule.Expr), families)
	}

	for _, name := range slices.Sorted(maps.Keys(families)) {
		if strings.HasPrefix(name, "peald_") && !shown[name] {
			t.Errorf("%s is in no panel of deploy/grafana/peald.json", name)
		}
	}
}

// usesOf returns the metric families that a query selects, by name, and the
// labels that it uses in each.
func usesOf(t *testing.T, where, query string) map[string]map[string]bool {
	t.Helper()

	query = strings.ReplaceAll(query, "$__rate_interval", "5m")

	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		t.Fatalf("%s: %s: %v", where, query, err)
	}

	uses := make(map[string]map[string]bool)

	var grouped []string

	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			name := n.Name

			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				name = strings.TrimSuffix(name, suffix)
			}

			if uses[name] == nil {
				uses[name] = make(map[string]bool)
			}

			for _, by := range n.LabelMatchers {
				if by.Name != model.MetricNameLabel {
					uses[name][by.Name] = true
				}
			}
		case *parser.AggregateExpr:
			grouped = append(grouped, n.Grouping...)
		}

		return nil
	})

	for name := range uses {
		for _, label := range grouped {
			uses[name][label] = true
		}
	}

	return uses
}

// legendLabels returns the labels in a legend such as "{{instance}} {{shard}}".
func legendLabels(legend string) map[string]bool {
	found := make(map[string]bool)

	for _, part := range strings.Split(legend, "{{")[1:] {
		label, _, _ := strings.Cut(part, "}}")
		found[strings.TrimSpace(label)] = true
	}

	return found
}

// checkUses checks that the families have the labels that are used. Prometheus
// itself adds instance and job; histograms also have le.
func checkUses(t *testing.T, where string, uses map[string]map[string]bool, families map[string]*dto.MetricFamily) {
	t.Helper()

	for name, used := range uses {
		family, ok := families[name]
		if name == "up" {
			continue
		}

		if !ok {
			t.Errorf("%s uses the metric %s, which the daemon doesn't export", where, name)

			continue
		}

		has := map[string]bool{"instance": true, "job": true, "le": family.GetType() == dto.MetricType_HISTOGRAM}
		for _, label := range family.GetMetric()[0].GetLabel() {
			has[label.GetName()] = true
		}

		for label := range used {
			if !has[label] {
				t.Errorf("%s uses the label %s, which %s doesn't have", where, label, name)
			}
		}
	}
}

// scrape builds the daemon, runs it as a cluster of one node with a hook and a source so that
// it exports all its metrics, and returns them by name.
func scrape(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()

	folder := t.TempDir()
	daemon, ready := filepath.Join(built(t), "peald"), filepath.Join(folder, "ready.json")

	run := exec.CommandContext(t.Context(), daemon, "--sse.addr=127.0.0.1:0", "--grpc.addr=127.0.0.1:0", "--rest.addr=127.0.0.1:0", "--ready-file="+ready,
		"--cluster.mode=embedded", "--cluster.dir="+filepath.Join(folder, "cluster"),
		`--hooks=[{"url":"http://127.0.0.1:1/","secret":"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}]`,
		`--sources=[{"name":"outbox","postgres":{"url":"postgres://127.0.0.1:1/nowhere"}}]`)
	run.Cancel = func() error { return run.Process.Signal(os.Interrupt) }
	run.Dir = folder
	run.Stderr = t.Output()

	if err := run.Start(); err != nil {
		t.Fatal(err)
	}

	ended := make(chan struct{})

	go func() {
		defer close(ended)

		_ = run.Wait()
	}()

	t.Cleanup(func() { <-ended }) // the test's context has been canceled

	var addresses struct{ Rest string }

	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()

	for addresses.Rest == "" {
		select {
		case <-tick.C:
		case <-ended:
			t.Fatal("the daemon exited")
		}

		if content, err := os.ReadFile(ready); err == nil {
			_ = json.Unmarshal(content, &addresses)
		}
	}

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addresses.Rest+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}

	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()

	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}

	metrics := expfmt.NewTextParser(model.UTF8Validation)

	families, err := metrics.TextToMetricFamilies(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}

	return families
}
