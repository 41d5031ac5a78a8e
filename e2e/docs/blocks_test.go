package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// pages returns the paths of the documents, relative to the root.
func pages(t *testing.T) []string {
	t.Helper()

	paths, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}

	names := []string{"README.md"}
	for _, path := range paths {
		names = append(names, "docs/"+filepath.Base(path))
	}

	return names
}

// command is a command on a page, with the output that the page shows.
type command struct {
	line int // in the page
	text string
	want []string

	background bool // it runs while the rest of the page is tested
}

// commandsOf returns the commands on a page in order, without those in skipped
// blocks.
func commandsOf(page string) ([]command, error) {
	setupComment := regexp.MustCompile(`^<!-- test: setup: (.+) -->$`)
	blockComment := regexp.MustCompile(`^<!-- test: (background|skip: .+) -->$`)

	var found []command

	lines := strings.Split(page, "\n")
	mode := ""

	for i := 0; i < len(lines); i++ {
		line := lines[i]

		if m := setupComment.FindStringSubmatch(line); m != nil {
			found = append(found, command{line: i + 1, text: m[1], background: true})

			continue
		}

		if m := blockComment.FindStringSubmatch(line); m != nil {
			mode = m[1]

			continue
		}

		if strings.HasPrefix(line, "<!-- test:") {
			return nil, fmt.Errorf("line %d: unknown comment %q", i+1, line)
		}

		language, isFence := strings.CutPrefix(line, "```")
		if !isFence {
			continue
		}

		start := i + 1
		for i = start; i < len(lines) && lines[i] != "```"; {
			i++
		}

		commands, err := commandsIn(language, lines[start:i], start)
		if err != nil && !strings.HasPrefix(mode, "skip: ") {
			return nil, err
		}

		for _, c := range commands {
			c.background = mode == "background"

			if !strings.HasPrefix(mode, "skip: ") {
				found = append(found, c)
			}
		}

		mode = ""
	}

	return found, nil
}

// commandsIn returns the commands of a block whose first line has the index
// start.
func commandsIn(language string, block []string, start int) ([]command, error) {
	switch language {
	case "sh":
		return []command{{line: start + 1, text: strings.Join(block, "\n")}}, nil
	case "console":
	default:
		return nil, nil
	}

	var commands []command

	for i, line := range block {
		text, isCommand := strings.CutPrefix(line, "$ ")
		last := len(commands) - 1

		switch {
		case isCommand:
			commands = append(commands, command{line: start + i + 1, text: text})
		case last < 0 || strings.HasPrefix(line, "# "):
			return nil, fmt.Errorf("line %d: not a user's command: %q", start+i+1, line)
		case strings.HasSuffix(commands[last].text, `\`) && len(commands[last].want) == 0:
			commands[last].text += "\n" + line
		default:
			commands[last].want = append(commands[last].want, line)
		}
	}

	return commands, nil
}

// newNormalizer returns a function that replaces everything that differs from run
// to run: ids, tokens, numbers, times and the widths of columns.
func newNormalizer() func(line string) string {
	date := regexp.MustCompile(`\b[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} `)
	token := regexp.MustCompile(`eyJ[\w.-]+`)
	eventID := regexp.MustCompile(`\b[0-9a-z]{6,}-\d+\b`)
	number := regexp.MustCompile(`\d+(?:[.,:]\d+)*`)

	return func(line string) string {
		line = date.ReplaceAllString(line, "")
		line = token.ReplaceAllString(line, "TOKEN")
		line = eventID.ReplaceAllString(line, "ID")
		line = number.ReplaceAllString(line, "0")

		return strings.Join(strings.Fields(line), " ")
	}
}

// missingFrom returns the first line of want that output doesn't have, in the
// order of want. Output may have other lines in between. An ellipsis in want
// stands for any text.
func missingFrom(output string, want []string) (line string, missing bool) {
	normalize := newNormalizer()
	have := strings.Split(output, "\n")

	for i := range have {
		have[i] = normalize(have[i])
	}

	for _, line := range want {
		var parts []string
		for part := range strings.SplitSeq(normalize(strings.ReplaceAll(line, "TOKEN…", "…")), "…") {
			parts = append(parts, regexp.QuoteMeta(part))
		}

		pattern := regexp.MustCompile("^" + strings.Join(parts, ".*") + "$")
		at := slices.IndexFunc(have, pattern.MatchString)

		if at < 0 {
			return line, true
		}

		have = have[at+1:]
	}

	return "", false
}

func TestCommandsOf(t *testing.T) {
	t.Parallel()

	page := strings.ReplaceAll(`<!-- test: setup: serve -->
'''console
$ first \
    --flag
output 1
$ second
'''

<!-- test: background -->
'''sh
third
fourth
'''

<!-- test: skip: needs root -->
'''console
# fifth
'''
`, "'''", "```")

	commands, err := commandsOf(page)
	if err != nil {
		t.Fatal(err)
	}

	var have []string
	for _, c := range commands {
		have = append(have, fmt.Sprintf("%d %q %q %v", c.line, c.text, c.want, c.background))
	}

	want := []string{
		`1 "serve" [] true`,
		`3 "first \\\n    --flag" ["output 1"] false`,
		`6 "second" [] false`,
		`11 "third\nfourth" [] true`,
	}
	if !slices.Equal(have, want) {
		t.Errorf("commands are\n%s\nwant\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}

	for _, page := range []string{"```console\n# root\n```\n", "```console\noutput\n```\n", "<!-- test: later -->\n"} {
		if commands, err := commandsOf(page); err == nil {
			t.Errorf("%q has the commands %v, want an error", page, commands)
		}
	}
}

func TestMissingFrom(t *testing.T) {
	t.Parallel()

	const output = "retry: 2511\nid: mwtr2ou1-7\n\nNAME    STREAMS\nbox-1        12\n"

	for _, test := range []struct {
		want    []string
		missing bool
	}{
		{nil, false},
		{[]string{"retry: 1", "NAME STREAMS", "box-2 3"}, false},
		{[]string{"id: abcdefg-1", ""}, false},
		{[]string{"…TREAM…"}, false},
		{[]string{"box-2 3", "retry: 1"}, true},
		{[]string{"retry"}, true},
	} {
		if line, missing := missingFrom(output, test.want); missing != test.missing {
			t.Errorf("missing of %q is %v (%q), want %v", test.want, missing, line, test.missing)
		}
	}
}

// read returns the text of a document.
func read(t *testing.T, name string) string {
	t.Helper()

	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}

	return string(text)
}
