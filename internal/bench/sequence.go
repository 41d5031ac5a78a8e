package bench

import "slices"

// sequence is which messages of a numbered series have come on one stream. As
// long as they come in order it is one number.
type sequence struct {
	next    uint32 // one more than the highest that has come
	missing []span // below next, ascending and apart
}

// span is the numbers from first up to and without end.
type span struct{ first, end uint32 }

// verdict is what a message is to those before it.
type verdict int

const (
	inOrder verdict = iota
	late            // a later one came first
	again           // it has come before
)

func (s *sequence) take(n uint32) verdict {
	if n >= s.next {
		if n > s.next {
			s.missing = append(s.missing, span{s.next, n})
		}
		s.next = n + 1
		return inOrder
	}

	i, gap := slices.BinarySearchFunc(s.missing, n, func(m span, n uint32) int {
		switch {
		case m.end <= n:
			return -1
		case m.first > n:
			return 1
		default:
			return 0
		}
	})
	if !gap {
		return again
	}

	m := s.missing[i]
	rest := make([]span, 0, 2)

	if m.first < n {
		rest = append(rest, span{m.first, n})
	}
	if n+1 < m.end {
		rest = append(rest, span{n + 1, m.end})
	}

	s.missing = slices.Replace(s.missing, i, i+1, rest...)
	return late
}

// lost is how many of the first sent have not come.
func (s *sequence) lost(sent uint32) int64 {
	lost := int64(sent) - int64(s.next)
	for _, m := range s.missing {
		lost += int64(m.end - m.first)
	}
	return lost
}
