package main

import (
	"strconv"
	"strings"
	"unicode"
)

// escaped is text with its control characters made visible, so that whoever
// publishes an event can't drive the terminal of whoever watches.
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
