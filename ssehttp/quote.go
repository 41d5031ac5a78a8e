package ssehttp

import "unicode/utf8"

// maxQuoted limits how many bytes of a URL or a header are quoted in a response or a
// log line. Escapes can make the quote four times as long.
const maxQuoted = 200

// shortened returns text, or its first maxQuoted bytes and an ellipsis if it is
// longer.
func shortened(text string) string {
	if len(text) <= maxQuoted {
		return text
	}

	end := maxQuoted
	for end > maxQuoted-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}

	return text[:end] + "…"
}
