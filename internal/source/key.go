package source

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/peald/peald/internal/broker"
)

// derivedPrefix is the prefix of the idempotency keys that a Sink derives. The rest is a
// hash, because names and offsets may be longer than a key.
const derivedPrefix = "peald-source:"

// derivedKey returns the idempotency key for a record of the given source.
func derivedKey(source string, r *Record) string {
	// Partitions and offsets come from readers and may contain any byte, but not the
	// source's name, so it comes first. The separator keeps different pairs apart.
	sum := sha256.Sum256([]byte(source + "\x00" + quoteZero(r.Partition) + "\x00" + r.Offset))

	return derivedPrefix + base64.RawURLEncoding.EncodeToString(sum[:])
}

// quoteZero makes the first zero byte after s the end of s.
func quoteZero(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\x01", "\x01\x01"), "\x00", "\x01\x02")
}

// isDerived reports whether a Sink may have derived key.
func isDerived(key string) bool {
	return len(key) <= broker.MaxKey && strings.HasPrefix(key, derivedPrefix)
}
