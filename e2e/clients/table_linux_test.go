package clients_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	document   = "../../docs/clients.md"
	tableBegin = "<!-- Written by `go test ./e2e/clients -update`. -->\n"
	tableEnd   = "<!-- The end of what is written. -->\n"
)

// row is a line of the table: a client's label, the version that was run, and a
// cell per column.
type row struct {
	label, version string
	cells          []string
}

// compare compares the rows of the clients that have run, and the code that
// docs/clients.md quotes, with what it has. Rows of other clients stay as they
// are, and so do versions, which are those of the machine that wrote the table.
func compare(t *testing.T, clients []client, cells map[string][]string) {
	t.Helper()

	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}

	before, rest, begins := strings.Cut(string(text), tableBegin)
	table, after, ends := strings.Cut(rest, tableEnd)

	if !begins || !ends {
		t.Fatalf("%s has no table between %q and %q", document, tableBegin, tableEnd)
	}

	rows := parseTable(table)

	for _, c := range clients {
		got := row{label: c.label, cells: cells[c.name]}
		at := slices.IndexFunc(rows, func(r row) bool { return r.label == c.label })

		switch {
		case *update:
			got.version = version(t, c)

			if at < 0 {
				rows = append(rows, got)
			} else {
				rows[at] = got
			}
		case at < 0:
			t.Errorf("%s has no row for %s; -update writes it", document, c.label)
		case !slices.Equal(rows[at].cells, got.cells):
			t.Errorf("%s says of %s\n%q\nand it does\n%q\n-update writes that", document, c.label, rows[at].cells, got.cells)
		}
	}

	written := quote(t, before) + tableBegin + formatTable(rows) + tableEnd + quote(t, after)

	switch {
	case *update && written != string(text):
		if err := os.WriteFile(document, []byte(written), 0o644); err != nil {
			t.Fatal(err)
		}
	case !*update && written != string(text):
		t.Errorf("the code in %s is not that of testdata; -update writes it", document)
	}
}

func parseTable(text string) (rows []row) {
	const heads = 2 // the titles and the line below them

	lines := strings.Split(strings.TrimSpace(text), "\n")

	for _, line := range lines[min(heads, len(lines)):] {
		fields := strings.Split(strings.Trim(line, "| "), " | ")
		rows = append(rows, row{fields[0], fields[1], fields[2:]})
	}

	return rows
}

func formatTable(rows []row) string {
	titles := []string{"client", "version"}
	for _, c := range columns() {
		titles = append(titles, c.title)
	}

	var text strings.Builder

	fmt.Fprintf(&text, "| %s |\n|%s\n", strings.Join(titles, " | "), strings.Repeat("---|", len(titles)))

	for _, r := range rows {
		fmt.Fprintf(&text, "| %s | %s | %s |\n", r.label, r.version, strings.Join(r.cells, " | "))
	}

	return text.String()
}

// version returns the version of a client that is installed.
func version(t *testing.T, c client) string {
	t.Helper()

	out, err := exec.CommandContext(t.Context(), c.version[0], c.version[1:]...).Output()
	if err != nil {
		t.Logf("the version of %s: %v", c.name, err)
	}

	return strings.TrimPrefix(strings.TrimSpace(string(out)), "v")
}

// quote replaces each block of code that follows a comment like
//
//	<!-- testdata/node/eventsource.mjs: eventsource -->
//
// by the lines of that file between "docs: eventsource" and "docs: end".
func quote(t *testing.T, text string) string {
	t.Helper()

	block := regexp.MustCompile("(?s)(<!-- testdata/(\\S+): (\\S+) -->\n```\\w+\n).*?(```\n)")

	return block.ReplaceAllStringFunc(text, func(found string) string {
		parts := block.FindStringSubmatch(found)

		source, err := os.ReadFile(filepath.Join("testdata", parts[2]))
		if err != nil {
			t.Fatal(err)
		}

		_, code, ok := strings.Cut(string(source), "docs: "+parts[3]+"\n")
		if !ok {
			t.Fatalf("%s has no %q", parts[2], "docs: "+parts[3])
		}

		code, _, _ = strings.Cut(code, "docs: end\n")
		code = code[:strings.LastIndexByte(code, '\n')+1]

		return parts[1] + strings.TrimSpace(code) + "\n" + parts[4]
	})
}
