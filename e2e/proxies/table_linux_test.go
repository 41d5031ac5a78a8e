package proxies_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

const (
	document   = "../../docs/proxies.md"
	tableBegin = "<!-- begin of the table that `go test ./e2e/proxies -update` writes -->\n"
	tableEnd   = "<!-- end of the table -->\n"
)

// cells returns the row's cells. The version comes last: another one doesn't
// make the table stale.
func (r *row) cells() []string {
	return []string{r.unbuffered, r.idle, r.down, r.drain, r.noticed1, r.noticed2, r.http2, r.version}
}

// checkTable compares the table in docs/proxies.md with what the test found, or
// writes it. Proxies that are not installed are not compared.
func checkTable(t *testing.T, rows map[string]*row) {
	t.Helper()

	content, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}

	before, rest, _ := strings.Cut(string(content), tableBegin)

	old, after, ok := strings.Cut(rest, tableEnd)
	if !ok {
		t.Fatalf("%s lacks the comments around the table", document)
	}

	var table strings.Builder

	table.WriteString("| proxy | unbuffered | idle past the timeout | no daemon answers | daemon drains | departure noticed, HTTP/1.1 | HTTP/2 | HTTP/2 to the client | tested version |\n")
	table.WriteString("|---|---|---|---|---|---|---|---|---|\n")

	for _, k := range kinds() {
		r := rows[k.name]

		if *update {
			if r == nil {
				t.Fatalf("%s is not installed", k.name)
			}

			fmt.Fprintf(&table, "| [%s](../deploy/%s) | %s |\n", k.name, k.file, strings.Join(r.cells(), " | "))

			continue
		}

		if r == nil {
			continue
		}

		cells := r.cells()
		want := fmt.Sprintf("| [%s](../deploy/%s) | %s |", k.name, k.file, strings.Join(cells[:len(cells)-1], " | "))

		if !strings.Contains(old, want) {
			t.Errorf("the table in %s lacks the row\n%s\n(go test ./e2e/proxies -update writes it)", document, want)
		}
	}

	if *update {
		if err := os.WriteFile(document, []byte(before+tableBegin+table.String()+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
