package e2e_test

import (
	"strings"

	"github.com/peald/peald/internal/broker"
)

// message is one to be published; without an event it has its audience's.
type message struct{ event, data string }

// corpus is messages that a careless encoder or decoder gets wrong.
func corpus() []message {
	const (
		bom           = "\ufeff"
		lineSeparator = "\u2028"
		nextLine      = "\u0085"
	)

	data := []string{
		"plain",

		// Line breaks, which the format has three of.
		"lf\nlf", "cr\rcr", "crlf\r\ncrlf", "lfcr\n\rlfcr", "crcrlf\r\r\nend", "all\rof\nthem\r\nat once",
		"trailing lf\n", "trailing cr\r", "trailing crlf\r\n", "trailing three\n\n\n",
		"\nleading lf", "\rleading cr", "\r\nleading crlf",
		"\n", "\r", "\r\n", "\n\n", "\r\r",
		"empty\n\nline", "empty\r\rline", "empty\r\n\r\nline",
		strings.Repeat("short\n", 2000),

		// What looks like a break in Go, JavaScript or Unicode, and is none.
		"line" + lineSeparator + "separator\u2029paragraph" + nextLine + "next line\vtab\ffeed",

		// Spaces and colons, of which the format strips one and cuts at one.
		" one space", "  two spaces", " ", "   ", "\ttab", "trailing space ", "line\n  indented\n\ttabbed",
		":", ": comment", ":\n:", "key: value", "::::",

		// Fields that are none.
		"data: injected", "x\ndata: injected", "x\n\ndata: injected\n\n", "x\r\revent: injected\r\r",
		"id: 7", "x\nid: 7", "x\nretry: 1", "event: injected\ndata: y", "x\n: comment\ny", "data", "x\ndata\ny",

		// Bytes that decoders treat apart.
		bom, bom + "at the start", "in" + bom + "side", "at the end" + bom, "line\n" + bom + "line", bom + bom,
		"nul\x00inside", "\x00", "controls \x01\x08\x1b\x7f\u009f",
		"replacement \ufffd, no characters \ufffe \uffff \U0010ffff",

		// More than one byte, one UTF-16 unit, one code point.
		"Grüße, 世界", "👋🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇺🇳", "e\u0301 ≠ é", "שלום \u202eעולם", "\U0001d54f",

		// As long as it may be, in one line or next to nothing but lines.
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

	// A short one behind the long: nothing of them is left over.
	return append(messages, message{data: "end"})
}
