package main

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
	"text/template"

	"github.com/peald/peald/daemon"
)

var update = flag.Bool("update", false, "update the settings reference")

func TestReferenceIsUpToDate(t *testing.T) {
	const reference = "../../docs/configuration.md"
	want := configurationReference(t)

	if *update {
		const readableByAll = 0o644
		if err := os.WriteFile(reference, want, readableByAll); err != nil {
			t.Fatal(err)
		}
	}

	have, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Fatalf("%s is out of date; run go generate ./cmd/peald", reference)
	}
}

func configurationReference(t *testing.T) []byte {
	t.Helper()
	type setting struct{ Key, Default, Accepts, Change, Doc string }

	type section struct {
		Name     string
		Settings []setting
	}

	var sections []section
	for _, s := range daemon.Defaults().Settings() {
		if s.Doc == "" {
			t.Errorf("%s has no doc", s.Key)
		}

		name, _, _ := strings.Cut(s.Key, ".")
		if len(sections) == 0 || sections[len(sections)-1].Name != name {
			sections = append(sections, section{Name: name})
		}

		text := "(empty)"
		if def := textOf(s.Value); def != "" {
			text = "`" + def + "`"
		}

		change := "restart"
		if s.Reload {
			change = "reload"
		}

		last := &sections[len(sections)-1]
		last.Settings = append(last.Settings, setting{s.Key, text, s.Accepts(), change, s.Doc})
	}

	var b bytes.Buffer
	if err := template.Must(template.ParseFiles("testdata/configuration.md.tmpl")).Execute(&b, sections); err != nil {
		t.Fatal(err)
	}

	return b.Bytes()
}
