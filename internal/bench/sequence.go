package bench

import "slices"

// sequence records which numbered messages have arrived on one stream. As long as
// they arrive in order, it consists of one number.
type sequence struct {
	next    uint32 // one more than the highest number so far
	missing []span // missing numbers below next, ascending and disjoint
}

// span is the half-open range of numbers from first to end.
type span struct{ first, end uint32 }

// arrival classifies a message in relation to those that arrived before it.
type arrival int

const (
	inOrder   arrival = iota
	late              // a later message arrived first
	duplicate         // the same message arrived before
)

// add records the arrival of message n.
func (s *sequence) add(n uint32) arrival {
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
		return duplicate
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

// lost returns how many of the first sent messages have not arrived.
func (s *sequence) lost(sent uint32) int64 {
	lost := int64(sent) - int64(s.next)
	for _, m := range s.missing {
		lost += int64(m.end - m.first)
	}
	return lost
}
