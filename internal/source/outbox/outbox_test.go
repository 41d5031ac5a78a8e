package outbox_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/peald/peald/internal/source/outbox"
)

func TestParseTable(t *testing.T) {
	t.Parallel()

	for name, want := range map[string][]string{
		"peald_outbox":            {"peald_outbox"},
		"app.outbox":              {"app", "outbox"},
		"My App.Große Ereignisse": {"My App", "Große Ereignisse"},
		"":                        nil,
		".outbox":                 nil,
		"app.":                    nil,
		"a.b.c":                   nil,
		`a"; DROP TABLE b; --`:    nil,
		"a'b":                     nil,
		"a\x00":                   nil,
		strings.Repeat("x", 64):   nil,
	} {
		got, ok := outbox.ParseTable(name)
		if ok != (want != nil) || !slices.Equal(got, want) && ok {
			t.Errorf("%q: %q, %t; want %q", name, got, ok, want)
		}
	}
}

// TestSchema checks where names appear. The tests of the reader run the statements.
func TestSchema(t *testing.T) {
	t.Parallel()

	text := outbox.Schema([]string{"app", "Outbox"}, []string{"rejected"})
	for _, want := range []string{
		`CREATE TABLE "app"."Outbox" (`, `OWNED BY "app"."Outbox".id`, `FUNCTION "app"."peald_outbox_number"('Outbox_id_seq')`,
		`CREATE SEQUENCE "app"."Outbox_id_seq"`, `CREATE TABLE "rejected" (`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the statements lack %s:\n%s", want, text)
		}
	}
	if without := outbox.Schema([]string{"peald_outbox"}, nil); strings.Contains(without, "rejected") || strings.Contains(without, "_NAME") || strings.Contains(without, "_FUNCTION") {
		t.Errorf("statements without a dead-letter table:\n%s", without)
	}
}
