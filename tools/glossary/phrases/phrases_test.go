package phrases_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/peald/peald/tools/glossary/phrases"
)

// check returns the findings in a file as "line phrase", sorted by line.
func check(t *testing.T, name, text string) []string {
	t.Helper()

	findings, err := phrases.New().Check(name, []byte(text))
	if err != nil {
		t.Fatal(err)
	}

	slices.SortStableFunc(findings, func(a, b phrases.Finding) int { return a.Line - b.Line })

	var found []string

	for _, f := range findings {
		if f.Instead == "" {
			t.Errorf("%q has no replacement", f.Phrase)
		}

		found = append(found, fmt.Sprint(f.Line, " ", f.Phrase))
	}

	return found
}

func TestPhrases(t *testing.T) {
	t.Parallel()

	for line, want := range map[string]string{
		"The leader tells the others.":              "tells",
		"// Reports what was said.":                 "said",
		"Browsers come back by themselves.":         "come back",
		"It Came Back after a restart.":             "Came Back",
		"A limit turns streams away.":               "turns streams away",
		"It turns them away.":                       "turns them away",
		"Users stay away for a while.":              "stay away",
		"A user can be forgiven.":                   "forgiven",
		"The node is parted from the others.":       "parted",
		"It sends away the oldest one.":             "sends away",
		"The daemon ends well.":                     "ends well",
		"Entries that it took or is taking in.":     "taking in",
		"There are holes in the sequence.":          "holes",
		"The event was doubled.":                    "doubled",
		"It asks the others in vain.":               "in vain",
		"See the figures below.":                    "figures",
		"This mends the connection.":                "mends",
		"The queue lets go of events.":              "lets go of",
		"what becomes of the event":                 "what becomes of",
		"Streams that can't keep up are closed.":    "can't keep up",
		"A slow disk holds up publishers.":          "holds up",
		"The log can't be had.":                     "can't be had",
		"The setting goes over to new streams.":     "goes over to",
		"Streams are to be closed.":                 "are to be",
		"The token has to be valid.":                "has to be",
		"The daemon shuts down in good order.":      "in good order",
		"Somebody else has the file.":               "Somebody else",
		"It hears of the others.":                   "hears",
		"as the configuration has it":               "as the configuration has it",
		"Comments, which are none.":                 "which are none",
		"// limits is what a stream may use.":       "// limits is what",
		"\t// Tail.next is how many events follow.": "// Tail.next is how",
	} {
		if got := check(t, "docs/page.md", line); !slices.Equal(got, []string{"1 " + strings.TrimSpace(want)}) {
			t.Errorf("%q: found %q, want %q", line, got, want)
		}
	}
}

func TestOtherMeanings(t *testing.T) {
	t.Parallel()

	for _, line := range []string{
		"IDs tell them apart.",
		"peald can't tell tabs from windows.",
		"npm run build -- --tell",
		"The delay doubles each time, up to a minute.",
		"A doubled interval: it is doubled on each failure.",
		"Notices are dismissible.",
		"The whole is loopholed, and a foothold upon it.",
		"A saying, a telling detail, a configured figure.",
		"It has tokens to be used.",
		"git ls-files and git rev-parse",
		"// IsSlow reports whether the queue is full.",
		"// The limit is what the system allows.",
		"// pageTimeout is how long a node may take to send a page.",
		"  oneof told {",
		"Sockets are taken in this order.",
	} {
		if got := check(t, "docs/page.md", line); len(got) > 0 {
			t.Errorf("%q: found %q, want nothing", line, got)
		}
	}
}

func TestGo(t *testing.T) {
	t.Parallel()

	const source = `// Package figure is as others said.
package figure

import _ "example.com/told/said"

// said tells
// what is to be done.
type figures struct {
	Said string ` + "`" + `json:"said" yaml:"figures"` + "`" + ` // the figures
	/* a hole
	   and another hole */
}

const text = "it has to be said"

const lines = ` + "`" + `first
the second tells
` + "`" + `

func tells(figures func() (holes int)) { tells(func() int { return 1 }) }
`

	want := []string{
		"1 said", "6 said", "7 is to be", "9 figures", "10 hole", "11 hole",
		"14 said", "14 has to be", "17 tells",
	}
	if got := check(t, "daemon/told.go", source); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}

	if _, err := phrases.New().Check("daemon/told.go", []byte("package")); err == nil {
		t.Error("a file with a syntax error was checked without an error")
	}
}

func TestMarkdown(t *testing.T) {
	t.Parallel()

	const text = "# Figures\r\n\nStreams come back.\n\n    peald --tell # an example\n\nThe last line has to be valid, as told"

	want := []string{"1 Figures", "3 come back", "7 told", "7 has to be"}
	if got := check(t, "README.md", text); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

func TestIsText(t *testing.T) {
	t.Parallel()

	for name, want := range map[string]bool{
		"README.md":                             true,
		"Makefile":                              true,
		"daemon/config.go":                      true,
		"deploy/nginx/peald.conf":               true,
		"internal/console/page/index.html":      true,
		"proto/peal/v1/control.proto":           true,
		"gen/peal/v1/control.pb.go":             false,
		"tools/glossary/phrases/phrases.go":     false,
		"tools/openapi3/main.go":                true,
		"e2e/clients/testdata/node/driver.mjs":  false,
		"examples/node/package-lock.json":       false,
		"examples/node/package.json":            true,
		"docs/img/console.png":                  false,
		"internal/console/page/x/uPlot.min.css": false,
		"go.sum":                                false,
	} {
		if got := phrases.IsText(name); got != want {
			t.Errorf("IsText(%q) = %t, want %t", name, got, want)
		}
	}
}
