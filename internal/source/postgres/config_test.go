package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/peald/peald/internal/source"
	"github.com/peald/peald/internal/source/postgres"
)

func TestValidate(t *testing.T) {
	t.Parallel()

	valid := postgres.Config{URL: "postgres://u:secret@localhost/shop", Table: "peald_outbox", DeadLetter: "app.rejected"}
	if err := valid.Validate(); err != nil {
		t.Fatal(err)
	}

	for name, test := range map[string]struct {
		change func(*postgres.Config)
		want   string
	}{
		"no URL":           {func(c *postgres.Config) { c.URL = "" }, `postgres.url: given ""; want a URL such as postgres://`},
		"invalid URL":      {func(c *postgres.Config) { c.URL = "postgres://u:secret@localhost:port/shop" }, "postgres.url: given ***; want a URL"},
		"other scheme":     {func(c *postgres.Config) { c.URL = "mysql://u:secret@localhost/shop" }, "postgres.url: given ***; want a URL"},
		"no table":         {func(c *postgres.Config) { c.Table = "" }, `postgres.table: given ""; want the name of a table`},
		"three names":      {func(c *postgres.Config) { c.Table = "a.b.c" }, `postgres.table: given "a.b.c"`},
		"quote in a name":  {func(c *postgres.Config) { c.Table = `a"b` }, "postgres.table: given"},
		"long name":        {func(c *postgres.Config) { c.Table = strings.Repeat("x", 64) }, "postgres.table: given"},
		"bad dead letter":  {func(c *postgres.Config) { c.DeadLetter = "a." }, `postgres.dead_letter: given "a."`},
		"same dead letter": {func(c *postgres.Config) { c.DeadLetter = c.Table }, `postgres.dead_letter: given "peald_outbox"; want a table other than`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			cfg := valid
			test.change(&cfg)
			err := cfg.Validate()
			if _, ok := errors.AsType[*source.SettingError](err); !ok || !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}
