package checks_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/template"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
	"go.yaml.in/yaml/v2"
)

// alertTests is a file of alert tests: the subset of promtool's format that
// alerts_test.yml uses. Promtool isn't a library, and its packages depend on the
// SDKs of several clouds. Rules, PromQL and templates are evaluated by
// Prometheus's own packages.
type alertTests struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	Tests              []alertTest    `yaml:"tests"`
}

type alertTest struct {
	Interval    model.Duration `yaml:"interval"`
	InputSeries []struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	} `yaml:"input_series"`
	AlertRuleTest []struct {
		EvalTime  model.Duration `yaml:"eval_time"`
		Alertname string         `yaml:"alertname"`
		ExpAlerts []alert        `yaml:"exp_alerts"`
	} `yaml:"alert_rule_test"`
}

// alert is a firing alert.
type alert struct {
	Labels      map[string]string `yaml:"exp_labels"`
	Annotations map[string]string `yaml:"exp_annotations"`
}

func alertRules(t *testing.T, path string) map[string]rulefmt.Rule {
	t.Helper()

	groups, errs := rulefmt.ParseFile(path, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}

	if t.Failed() {
		t.FailNow()
	}

	rules := make(map[string]rulefmt.Rule)

	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			rules[rule.Alert] = rule
		}
	}

	return rules
}

func TestAlertsAreActionable(t *testing.T) {
	for name, rule := range alertRules(t, "../prometheus/alerts.yml") {
		if !strings.HasPrefix(name, "Peald") || rule.Annotations["summary"] == "" || len(rule.Annotations["description"]) < 80 ||
			!slices.Contains([]string{"warning", "critical"}, rule.Labels["severity"]) {
			t.Errorf("%s needs a severity, a summary, and a description with the steps to take: %v %v", name, rule.Labels, rule.Annotations)
		}
	}
}

func TestAlerts(t *testing.T) {
	const file = "../prometheus/alerts_test.yml"

	var tests alertTests
	if err := yaml.UnmarshalStrict([]byte(read(t, file)), &tests); err != nil {
		t.Fatal(err)
	}

	rules := make(map[string]rulefmt.Rule)
	for _, name := range tests.RuleFiles {
		maps.Copy(rules, alertRules(t, filepath.Join(filepath.Dir(file), name)))
	}

	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1e6, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, Parser: parser.NewParser(parser.Options{}),
	})

	t.Cleanup(func() { _ = engine.Close() })

	fired := make(map[string]bool)

	for _, test := range tests.Tests {
		series := test.series(t)

		for _, expected := range test.AlertRuleTest {
			rule, ok := rules[expected.Alertname]
			if !ok {
				t.Errorf("unknown alert %s", expected.Alertname)

				continue
			}

			run := evaluation{engine: engine, series: series, rule: rule, every: time.Duration(tests.EvaluationInterval)}
			got := run.firing(t, time.Duration(expected.EvalTime))
			fired[rule.Alert] = fired[rule.Alert] || len(got) > 0

			if !alertsMatch(got, expected.ExpAlerts) {
				t.Errorf("%s after %s: %v, want %v", rule.Alert, expected.EvalTime, got, expected.ExpAlerts)
			}
		}
	}

	for name := range rules {
		if !fired[name] {
			t.Errorf("%s fires in no test", name)
		}
	}
}

// alertsMatch reports whether got contains exactly the expected alerts. Only the
// annotations that an expected alert lists are compared.
func alertsMatch(got, expected []alert) bool {
	return len(got) == len(expected) && !slices.ContainsFunc(expected, func(want alert) bool {
		return !slices.ContainsFunc(got, func(a alert) bool {
			for name, text := range want.Annotations {
				if a.Annotations[name] != text {
					return false
				}
			}

			return maps.Equal(a.Labels, want.Labels)
		})
	})
}

// inMemory holds the input series of a test.
type inMemory []storage.Series

func (test *alertTest) series(t *testing.T) inMemory {
	t.Helper()

	var all inMemory

	for _, input := range test.InputSeries {
		lset, values, err := parser.NewParser(parser.Options{}).ParseSeriesDesc(input.Series + " " + input.Values)
		if err != nil {
			t.Fatalf("%s %s: %v", input.Series, input.Values, err)
		}

		var samples []chunks.Sample

		for i, value := range values {
			if !value.Omitted {
				samples = append(samples, sample{at: int64(i) * time.Duration(test.Interval).Milliseconds(), value: value.Value})
			}
		}

		all = append(all, storage.NewListSeries(lset, samples))
	}

	return all
}

// Querier implements [storage.Queryable].
func (m inMemory) Querier(int64, int64) (storage.Querier, error) {
	return &storage.MockQuerier{SelectMockFunction: func(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
		found := slices.DeleteFunc(slices.Clone(m), func(s storage.Series) bool {
			return slices.ContainsFunc(matchers, func(by *labels.Matcher) bool { return !by.Matches(s.Labels().Get(by.Name)) })
		})

		return &seriesSet{rest: found}
	}}, nil
}

// seriesSet is a [storage.SeriesSet].
type seriesSet struct {
	at   storage.Series
	rest []storage.Series
}

func (s *seriesSet) Next() bool {
	if len(s.rest) == 0 {
		return false
	}

	s.at, s.rest = s.rest[0], s.rest[1:]

	return true
}

func (s *seriesSet) At() storage.Series                { return s.at }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

// evaluation evaluates a rule like Prometheus, at a fixed interval from time 0.
type evaluation struct {
	engine *promql.Engine
	series inMemory
	rule   rulefmt.Rule
	every  time.Duration
}

// firing returns the alerts that are firing at the given time.
func (e *evaluation) firing(t *testing.T, at time.Duration) []alert {
	t.Helper()

	var firing []alert

	since := make(map[uint64]time.Duration) // when each alert became active

	for now := time.Duration(0); now <= at; now += e.every {
		active := make(map[uint64]time.Duration)
		firing = nil

		for _, s := range e.query(t, now) {
			lset := labels.NewBuilder(s.Metric).Del(model.MetricNameLabel).Labels()
			began, ok := since[lset.Hash()]

			if !ok {
				began = now
			}

			active[lset.Hash()] = began

			if now-began >= time.Duration(e.rule.For) {
				firing = append(firing, e.alert(t, lset, s.F))
			}
		}

		since = active
	}

	return firing
}

func (e *evaluation) query(t *testing.T, at time.Duration) promql.Vector {
	t.Helper()

	query, err := e.engine.NewInstantQuery(t.Context(), e.series, nil, e.rule.Expr, time.UnixMilli(at.Milliseconds()))
	if err != nil {
		t.Fatalf("%s: %v", e.rule.Expr, err)
	}
	defer query.Close()

	result := query.Exec(t.Context())
	if result.Err != nil || len(result.Warnings) > 0 {
		t.Fatalf("%s: %v %v", e.rule.Expr, result.Err, result.Warnings)
	}

	vector, err := result.Vector()
	if err != nil {
		t.Fatalf("%s: %v", e.rule.Expr, err)
	}

	return slices.Clone(vector)
}

// alert returns the alert that the rule raises for a sample.
func (e *evaluation) alert(t *testing.T, lset labels.Labels, value float64) alert {
	t.Helper()

	found := alert{Labels: lset.Map(), Annotations: make(map[string]string)}
	maps.Copy(found.Labels, e.rule.Labels)

	const definitions = "{{$labels := .Labels}}{{$value := .Value}}"

	data := template.AlertTemplateData(lset.Map(), nil, "", promql.Sample{F: value})

	for name, text := range e.rule.Annotations {
		noQueries := func(context.Context, string, time.Time) (promql.Vector, error) {
			return nil, fmt.Errorf("%s runs a query", name)
		}

		expanded, err := template.NewTemplateExpander(t.Context(), definitions+text, name, data, 0, noQueries, nil, nil).Expand()
		if err != nil {
			t.Fatalf("%s of %s: %v", name, e.rule.Alert, err)
		}

		found.Annotations[name] = expanded
	}

	return found
}

// sample is a float sample. It implements [chunks.Sample].
type sample struct {
	at    int64 // milliseconds
	value float64
}

func (s sample) T() int64                      { return s.at }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.value }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }
