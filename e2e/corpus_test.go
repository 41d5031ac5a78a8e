package e2e_test

import (
	"strings"

	"github.com/peald/peald/internal/broker"
)

// message is a message to publish. Without an event type, it gets the default type
// for its audience.
type message struct{ event, data string }

// corpus returns messages that careless encoders and decoders get wrong.
func corpus() []message {
	const (
		bom           = "\ufeff"
		lineSeparator = "\u2028"
		nextLine      = "\u0085"
	)

	data := []string{
		"plain",

		// The three kinds of line breaks in the format.
		"lf\nlf", "cr\rcr", "crlf\r\ncrlf", "lfcr\n\rlfcr", "crcrlf\r\r\nend", "all\rof\nthem\r\nat once",
		"trailing lf\n", "trailing cr\r", "trailing crlf\r\n", "trailing three\n\n\n",
		"\nleading lf", "\rleading cr", "\r\nleading crlf",
		"\n", "\r", "\r\n", "\n\n", "\r\r",
		"empty\n\nline", "empty\r\rline", "empty\r\n\r\nline",
		strings.Repeat("short\n", 2000),

		// Line breaks in Go, JavaScript or Unicode, but not in the format.
		"line" + lineSeparator + "separator\u2029paragraph" + nextLine + "next line\vtab\ffeed",

		// Spaces and colons: the format strips one space and splits at one colon.
		" one space", "  two spaces", " ", "   ", "\ttab", "trailing space ", "line\n  indented\n\ttabbed",
		":", ": comment", ":\n:", "key: value", "::::",

		// Data that looks like fields.
		"data: injected", "x\ndata: injected", "x\n\ndata: injected\n\n", "x\r\revent: injected\r\r",
		"id: 7", "x\nid: 7", "x\nretry: 1", "event: injected\ndata: y", "x\n: comment\ny", "data", "x\ndata\ny",

		// Bytes that decoders treat specially.
		bom, bom + "at the start", "in" + bom + "side", "at the end" + bom, "line\n" + bom + "line", bom + bom,
		"nul\x00inside", "\x00", "controls \x01\x08\x1b\x7f\u009f",
		"replacement \ufffd, no characters \ufffe \uffff \U0010ffff",

		// Characters of several bytes, UTF-16 units or code points.
		"Grüße, 世界", "👋🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇺🇳", "e\u0301 ≠ é", "שלום \u202eעולם", "\U0001d54f",

		// The maximum length, in one line or next to a line break.
		strings.Repeat("x", broker.MaxData), strings.Repeat("🌍", broker.MaxData/len("🌍")),
		strings.Repeat("y", broker.MaxData-1) + "\r",

		`{"json": "with \"quotes\" and \\n", "n": [1, 2.5e3, null]}`, "<script>alert(1)</script>",
	}

	types := []string{
		"order.created", "with space", " leading space", "trailing space ", ":colon", "a: b", "data", "id",
		"message", "open", "Größe ☀ 🌍", bom + "type", "line" + lineSeparator + "separator", nextLine,
		strings.Repeat("t", 255), "\t", "__proto__",
	}

	var messages []message

	for _, d := range data {
		messages = append(messages, message{data: d})
	}

	for _, typ := range types {
		messages = append(messages, message{event: typ, data: "typed"})
	}

	// A short message after the long ones must contain no remnants of them.
	return append(messages, message{data: "end"})
}
