package daemon_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/peald/peald/daemon"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/testbed"
)

func outboxSource(name string) daemon.Source {
	return daemon.Source{Name: name, Postgres: &daemon.PostgresSource{URL: "postgres://shop:hunter2@db.example/shop"}}
}

func TestInvalidSources(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		change func(s *daemon.Source)
		want   string // the error; empty if the source is valid
	}{
		"valid": {func(*daemon.Source) {}, ""},
		"everything": {func(s *daemon.Source) {
			s.Postgres.Table, s.Postgres.DeadLetter, s.Map.Event = "app.outbox", "app.rejected", "{column.type}"
		}, ""},
		"no name":            {func(s *daemon.Source) { s.Name = "" }, `sources[1].name: given ""; want 1 to 63 characters`},
		"invalid name":       {func(s *daemon.Source) { s.Name = "My source" }, `sources[1].name: given "My source"`},
		"same name":          {func(s *daemon.Source) { s.Name = "first" }, `sources[1].name: given "first", which an earlier source has too`},
		"no kind":            {func(s *daemon.Source) { s.Postgres = nil }, "sources[1]: given settings of 0 kinds; want the settings of one kind"},
		"no URL":             {func(s *daemon.Source) { s.Postgres.URL = "" }, `sources[1].postgres.url: given ""; want a URL`},
		"invalid URL":        {func(s *daemon.Source) { s.Postgres.URL = "postgres://u:hunter2@h:port/d" }, "sources[1].postgres.url: given ***; want a URL"},
		"invalid table":      {func(s *daemon.Source) { s.Postgres.Table = "a.b.c" }, `sources[1].postgres.table: given "a.b.c"; want the name of a table`},
		"unknown placholder": {func(s *daemon.Source) { s.Map.Topic = "orders.{key}" }, `sources[1].map.topic: given "orders.{key}"; want only placeholders that the source has: {table}, {column.NAME}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			cfg := daemon.Defaults()
			cfg.Sources = []daemon.Source{outboxSource("first"), outboxSource("second")}
			test.change(&cfg.Sources[1])
			err := cfg.Validate()
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}

				return
			}
			if _, ok := errors.AsType[*daemon.SettingError](err); !ok || !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}

	cfg := daemon.Defaults()
	cfg.Sources = make([]daemon.Source, 101)
	if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), "sources: given 101 sources; want at most 100") {
		t.Errorf("error %v for 101 sources", err)
	}
}

// TestSourcesAreReloaded checks that sources come and go with reloads, that secrets stay
// out of the log, and that line breaks after them are ignored.
func TestSourcesAreReloaded(t *testing.T) {
	t.Parallel()

	r := startReloadable(t, daemon.Options{}, func(*daemon.Config) {})
	logged := r.reload(t, func(cfg *daemon.Config) {
		s := outboxSource("orders")
		s.Postgres.URL = "postgres://shop:hunter2@127.0.0.1:1/shop?sslmode=disable\n"
		cfg.Sources = []daemon.Source{s}
	})
	if !strings.Contains(logged, "changed=sources") || !strings.Contains(logged, "setting=sources") {
		t.Errorf("log of the reload:\n%s", logged)
	}
	if !testbed.Eventually(patience, func() bool { return len(r.log.With("source failed", "source=orders", "connection refused")) > 0 }) {
		t.Errorf("log without the failure:\n%s", r.log.String())
	}
	control, _ := controlClient(t, r.GRPC)
	stats, err := control.Stats(t.Context(), &pealv1.StatsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if all := stats.GetSources(); len(all) != 1 || all[0].GetName() != "orders" || all[0].GetKind() != "postgres" ||
		all[0].GetState() != pealv1.SourceState_SOURCE_STATE_FAILED || !strings.Contains(all[0].GetLastError(), "connection refused") ||
		all[0].GetLastErrorAt() == nil || all[0].GetLag() != nil || all[0].GetFailures() == 0 {
		t.Errorf("stats of sources: %v", all)
	}
	all := r.log.String()

	logged = r.reload(t, func(cfg *daemon.Config) { cfg.Sources = nil })
	if !strings.Contains(logged, "changed=sources") {
		t.Errorf("log of the reload:\n%s", logged)
	}
	if all += logged; strings.Contains(all, "hunter2") {
		t.Errorf("secret in the log:\n%s", all)
	}
}
