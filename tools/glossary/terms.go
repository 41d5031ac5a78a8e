package main

import "regexp"

// term is a phrase that is not used, and what is written instead.
type term struct {
	phrase  *regexp.Regexp
	instead string
	// unless excludes lines in which the phrase means something else; nil for
	// none.
	unless *regexp.Regexp
}

// finding is a phrase of a line that is to be replaced.
type finding struct{ phrase, instead string }

// check returns what is to be replaced in a line.
func check(text string) (found []finding) {
	for _, t := range terms() {
		phrase := t.phrase.FindString(text)
		if phrase != "" && (t.unless == nil || !t.unless.MatchString(text)) {
			found = append(found, finding{phrase, t.instead})
		}
	}

	return found
}

//nolint:gochecknoglobals // Compiled once.
var compiled = compile()

func terms() []term { return compiled }

func compile() []term {
	var terms []term

	for _, t := range []struct{ phrase, instead, unless string }{
		{`(say|tell)s?|told|said`, `"reports whether", "reports", "names", "announces" or the fact itself`, `(?i)apart|tell \w+ from|--tell`},
		{`com(e|es|ing) back|came back`, `"reconnect", "return" or "recover"`, ""},
		{`turn(s|ed|ing)? (it |them |\w+ )?away`, `"reject"`, ""},
		{`stay(s|ed|ing)? away`, `"ask to retry" or "banned"`, ""},
		{`forgiv(e|es|en|ing)|barred`, `"ban" or "unban"`, ""},
		{`parted|dismiss(es|ed|ing)?|sen[dt]s? (it |them )?away|farewell|shedding|sheds`, `"close", "closed", "disconnect" or "partitioned"`, `(?i)dismissible`},
		{`ends? well`, `"shut down"`, ""},
		{`tak(es?|en|ing) in`, `"accept", "apply" or "read"`, ""},
		{`holes?`, `"gap"`, ""},
		{`doubl(ed|es)|a double`, `"duplicate"`, `(?i)doubles? (the|in|each|every|its|until|up)|doubled (each|on|until|in)`},
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
	} {
		c := term{phrase: regexp.MustCompile(`(?i)\b(` + t.phrase + `)\b`), instead: t.instead}
		if t.unless != "" {
			c.unless = regexp.MustCompile(t.unless)
		}

		terms = append(terms, c)
	}

	// A comment that defines a name instead of describing it.
	return append(terms, term{
		phrase:  regexp.MustCompile(`^\s*// \*?[A-Za-z_][\w.]* (is|are|was) (what|who|how|whether|why|where|when)\b`),
		instead: `what it does, holds or reports`,
	})
}
