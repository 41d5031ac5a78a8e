// Package phrases finds phrases in texts for which the project has better terms.
package phrases

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Finding is a phrase to replace.
type Finding struct {
	Line    int // in the file, counting from 1
	Phrase  string
	Instead string // the terms to use instead
}

// Checker finds phrases to replace.
type Checker struct{ terms []term }

// term is a phrase to replace.
type term struct {
	phrase  *regexp.Regexp
	instead string
	// unless excludes lines in which the phrase has another meaning; nil excludes
	// none.
	unless *regexp.Regexp
}

// New returns a Checker.
func New() *Checker {
	c := &Checker{}

	for _, t := range glossary() {
		compiled := term{phrase: regexp.MustCompile(`(?i)\b(` + t.phrase + `)\b`), instead: t.instead}
		if t.unless != "" {
			compiled.unless = regexp.MustCompile(`(?i)` + t.unless)
		}

		c.terms = append(c.terms, compiled)
	}

	// A comment that defines a name instead of describing it.
	c.terms = append(c.terms, term{
		phrase:  regexp.MustCompile(`^\s*// \*?[A-Za-z_][\w.]* (is|are|was) (what|who|how|whether|why|where|when)\b`),
		instead: `what it does, holds or reports`,
		unless:  regexp.MustCompile(` is how (long|often) `),
	})

	return c
}

// Check returns the phrases to replace in the file called name, whose path is
// relative to the project's root. It reports each phrase once per line. It fails if
// text is a Go file with syntax errors.
func (c *Checker) Check(name string, text []byte) ([]Finding, error) {
	lines, err := textOf(name, text)
	if err != nil {
		return nil, err
	}

	var found []Finding

	for _, l := range lines {
		for _, t := range c.terms {
			phrase := t.phrase.FindString(l.text)
			if phrase != "" && (t.unless == nil || !t.unless.MatchString(l.text)) {
				found = append(found, Finding{Line: l.number, Phrase: strings.TrimSpace(phrase), Instead: t.instead})
			}
		}
	}

	return found, nil
}

// IsText reports whether a file contains text that people read and that the
// project's authors have written. Generated files, vendored files and the glossary
// itself don't.
func IsText(name string) bool {
	name = filepath.ToSlash(name)

	for _, dir := range []string{"gen/", "tools/glossary/"} {
		if strings.HasPrefix(name, dir) {
			return false
		}
	}

	for dir := range strings.SplitSeq(name, "/") {
		if dir == "testdata" || dir == "vendor" || dir == "node_modules" || dir == "package-lock.json" {
			return false
		}
	}

	if strings.Contains(name, ".min.") {
		return false
	}

	return slices.Contains([]string{
		".go", ".md", ".proto", ".yaml", ".yml", ".toml", ".html", ".css", ".js", ".ts", ".sh",
		".service", ".socket", ".conf", ".cfg", ".tmpl", ".json", ".py",
	}, filepath.Ext(name)) || filepath.Base(name) == "Makefile"
}

// glossary returns the phrases to replace, as regular expressions for whole words.
// A line that matches unless is not a finding.
func glossary() []struct{ phrase, instead, unless string } {
	return []struct{ phrase, instead, unless string }{
		{`(say|tell)s?|told|said`, `"reports whether", "reports", "names", "announces" or the fact itself`, `apart|tell \w+ from|--tell|oneof told`},
		{`com(e|es|ing) back|came back`, `"reconnect", "return" or "recover"`, ""},
		{`turn(s|ed|ing)? (it |them |\w+ )?away`, `"reject"`, ""},
		{`stay(s|ed|ing)? away`, `"ask to retry" or "banned"`, ""},
		{`forgiv(e|es|en|ing)|barred`, `"ban" or "unban"`, ""},
		{`parted|dismiss(es|ed|ing)?|sen[dt]s? (it |them )?away|farewell|shedding|sheds`, `"close", "closed", "disconnect" or "partitioned"`, `dismissible`},
		{`ends? well`, `"shut down"`, ""},
		{`tak(es?|en|ing) in`, `"accept", "apply" or "read"`, `tak(es?|en|ing) in (this|that|the same|any) order`},
		{`holes?`, `"gap"`, ""},
		{`doubl(ed|es)|a double`, `"duplicate"`, `doubles? (the|in|each|every|its|until|up)|doubled (each|on|until|in)`},
		{`tidings|in vain`, `"report", "query" or "failed"`, ""},
		{`figures`, `"metrics", "stats", "numbers" or "results"`, ""},
		{`mend(s|ed|ing)?|let(s|ting)? (it |them |\w+ )?go of`, `"fix", "remove" or "release"`, ""},
		{`befall(s|en)?|befell|what (becomes|became) of`, `"happens to"`, ""},
		{`(cannot|can't|doesn't|does not|don't|do not) keep up`, `"slow consumer" or "falls behind"`, ""},
		{`h(o|e)lds? up`, `"delay", "block" or "backpressure"`, ""},
		{`can't be had|cannot be had`, `"is unavailable" or "can't be read"`, ""},
		{`goes over to|go over to`, `"applies" or "switches to"`, ""},
		{`(is|are|was|were) to (be|have|go|come|get|give|end|start|take|hold|keep|send|do|make|stay|know|see|say)`, `"must", "may", "will" or the plain verb`, ""},
		{`(has|have|had) to (be|have|go|come|get|give|end|start|take|hold|keep|send|do|make|stay|know|see|say)`, `"must"`, ""},
		{`in good order`, `"cleanly" or "gracefully"`, ""},
		{`somebody else('s)?|nobody else('s)?`, `"another process", "external" or the party's name`, ""},
		{`hears?|heard (of|from)`, `"receive", "know" or "report"`, ""},
		{`as (the|a) \w+ has it`, `"as in …"`, ""},
		{`(it|they|which) (is|are) none`, `the plain negation`, ""},
	}
}
