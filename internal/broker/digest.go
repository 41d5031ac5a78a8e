package broker

import (
	"hash/maphash"
	"strings"
)

// digest summarizes an audience in 8 bytes, so that a stream with patterns can skip the
// audiences that it doesn't belong to without reading their names. The highest byte of
// a topic's digest is the number of its tokens. Each of the other bytes, starting with
// the lowest, is a hash of one of the first tokens, or 0 if the topic has fewer.
type digest uint64

const (
	digestTokens = 7                // tokens with a hash
	digestCount  = 8 * digestTokens // the position of the highest byte, in bits

	// The values of the highest byte.
	digestEveryone = 255
	digestUser     = 254
	digestMany     = 253 // a topic with at least as many tokens
)

// digester makes digests. Its hashes are random, so that nobody can choose names with
// the same digest.
type digester struct{ seed maphash.Seed }

func newDigester() digester { return digester{maphash.MakeSeed()} }

// of returns the digest of an audience.
func (d digester) of(a Audience) digest {
	switch a.kind {
	case everyone:
		return digestEveryone << digestCount
	case oneUser:
		return digestUser<<digestCount | digest(maphash.String(d.seed, a.name)>>8)
	case oneTopic:
		return d.pattern(a.name).want
	case nobody:
	}
	return 0
}

// pattern returns the digests of the topics that a pattern matches.
func (d digester) pattern(pattern string) (m digestMatch) {
	tokens := digest(0)
	for token := range strings.SplitSeq(pattern, ".") {
		if token == ">" {
			return m // any number of tokens may follow
		}
		if tokens < digestTokens && token != "*" {
			m.mask |= 0xff << (8 * tokens)
			m.want |= digest(maphash.String(d.seed, token)&0xff) << (8 * tokens)
		}
		tokens++
	}
	m.mask |= 0xff << digestCount
	m.want |= min(tokens, digestMany) << digestCount
	return m
}

// digestMatch matches digests by some of their bits.
type digestMatch struct{ mask, want digest }

// digestFilter matches a digest if one of its elements does. A nil filter matches every
// digest.
type digestFilter []digestMatch

// filter returns the filter of a stream with patterns, or nil for another stream. The
// caller holds b.mu.
func (b *Broker) filter(st *Stream) digestFilter {
	switch {
	case !st.hasPatterns():
		return nil
	case st.resume == nil:
		return b.digester.filter(st)
	case st.resume.filter == nil:
		st.resume.filter = b.digester.filter(st)
	}
	return st.resume.filter
}

// filter returns a filter that matches the digests of all audiences that a stream
// belongs to, and few others.
func (d digester) filter(st *Stream) digestFilter {
	const whole = ^digest(0)
	f := digestFilter{{whole, d.of(Everyone())}}
	if st.account != nil {
		f = append(f, digestMatch{whole, d.of(ToUser(st.account.id))})
	}
	if st.topics != nil {
		for _, name := range st.topics.names {
			f = append(f, d.pattern(name))
		}
	}
	return f
}

// matches reports whether a stream may belong to an audience with the given digest.
func (f digestFilter) matches(d digest) bool {
	for _, m := range f {
		if d&m.mask == m.want {
			return true
		}
	}
	return f == nil
}
