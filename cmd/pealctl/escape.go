package main

import (
	"strconv"
	"strings"
	"unicode"
)

// escaped returns text with its control characters escaped, so that a published
// event can't send control sequences to the terminal that displays it.
func escaped(text string) string {
	if !strings.ContainsFunc(text, needsEscape) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if needsEscape(r) {
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func needsEscape(r rune) bool { return r != '\t' && unicode.IsControl(r) }
