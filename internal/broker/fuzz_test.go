package broker_test

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/peald/peald/internal/broker"
)

// FuzzEventIDs checks that only ids in the broker's own format are valid, and that
// each number has only one valid spelling.
func FuzzEventIDs(f *testing.F) {
	form := regexp.MustCompile(`^([0-9a-z]+)-(0|[1-9][0-9]*)$`)
	for _, id := range []string{
		"mwtr2ou1-1041", "0-0", "a-18446744073709551615", "a-18446744073709551616", "a-01", "a-", "-1", "a--1", "a-1\n", "a-+1", "A-1", "a-1-1", "\xff-1", "",
		strings.Repeat("a", 62) + "-1", strings.Repeat("a", 63) + "-1",
	} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		parts := form.FindStringSubmatch(id)
		want := parts != nil && len(id) <= broker.MaxEventID
		if want {
			_, err := strconv.ParseUint(parts[2], 10, 64)
			want = err == nil
		}
		err := broker.ValidEventID(id)
		if (err == nil) != want {
			t.Errorf("ValidEventID(%q) = %v, want valid %t", id, err, want)
		}
		if invalid, ok := errors.AsType[*broker.InvalidError](err); err != nil && (!ok || !utf8.ValidString(invalid.Reason) || len(invalid.Reason) > 1000) {
			t.Errorf("ValidEventID(%q) = %v", id, err)
		}
	})
}

// FuzzPatterns checks that a pattern that an allowed one covers never matches a
// topic that the allowed one doesn't match.
func FuzzPatterns(f *testing.F) {
	for _, c := range [][3]string{
		{"orders.>", "orders.*.eu", "orders.1.eu"},
		{">", "a.>", "a.b"},
		{"*", ">", "a"},
		{"a.*", "a.>", "a.b.c"},
		{"a..b", "a.*.b", "a..b"},
		{"a.>", "a", "a"},
		{"*.b", "a*.b", "a*.b"},
		{"a.", ".a", ""},
		{">.a", "*.>", "x.y"},
	} {
		f.Add(c[0], c[1], c[2])
	}

	f.Fuzz(func(t *testing.T, allowed, asked, topic string) {
		if broker.ValidPattern(allowed) != nil || broker.ValidPattern(asked) != nil {
			return
		}

		for _, p := range []string{allowed, asked} {
			if !broker.Covers(p, p) {
				t.Errorf("%q does not cover itself", p)
			}
		}

		if broker.ValidTopic(topic) != nil {
			return
		}

		if broker.ValidPattern(topic) != nil {
			t.Errorf("the topic %q is not a valid pattern", topic)
		}

		if got, want := broker.Covers(asked, topic), matches(asked, topic); got != want {
			t.Errorf("Covers(%q, %q) = %t, want %t", asked, topic, got, want)
		}

		if broker.Covers(allowed, asked) && matches(asked, topic) && !matches(allowed, topic) {
			t.Errorf("%q covers %q, but only the latter matches %q", allowed, asked, topic)
		}
	})
}

// matches reports whether a pattern matches a topic, as documented.
func matches(pattern, topic string) bool {
	if pattern == topic {
		return true
	}
	patterns, tokens := strings.Split(pattern, "."), strings.Split(topic, ".")
	for i, p := range patterns {
		switch {
		case p == ">":
			return len(tokens) > i && !hasEmpty(tokens)
		case i >= len(tokens) || p != "*" && p != tokens[i]:
			return false
		}
	}
	return len(patterns) == len(tokens) && !hasEmpty(tokens)
}

func hasEmpty(tokens []string) bool { return slices.Contains(tokens, "") }
