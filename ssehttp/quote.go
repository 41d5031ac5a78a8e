package ssehttp

import "unicode/utf8"

// maxQuoted limits the bytes of a URL or a header that a response or a log line
// quotes. Escapes can make them four times as long.
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
