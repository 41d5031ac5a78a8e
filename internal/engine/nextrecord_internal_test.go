//go:build linux

package engine

import (
	"bytes"
	"testing"

	"github.com/peald/peald/internal/tlsrecord"
)

// TestNextRecord splits two pieces of any sizes into records. If the socket accepts
// only a part of a record, one byte of it counts as not accepted. That byte's piece
// must count as begun, or the broker could drop it.
func TestNextRecord(t *testing.T) {
	t.Parallel()

	const most = tlsrecord.MaxPlaintext
	var buf scratch
	data := bytes.Repeat([]byte("0123456789abcdef"), most/4)
	for first := 1; first <= most+3; first++ {
		for _, second := range []int{2, 3, most - 1, most, most + 1, most + 2} {
			for skip := range 2 {
				if first == 1 && skip == 0 {
					continue // Only the rest of an event may be that short.
				}
				checkRecords(t, &buf, [][]byte{data[:first], data[first : first+second]}, skip)
			}
		}
	}
}

// checkRecords splits pieces, which follow each other in memory, into records.
func checkRecords(t *testing.T, buf *scratch, pieces [][]byte, skip int) {
	t.Helper()

	sizes := []int{len(pieces[0]), len(pieces[1]), skip}
	next := &pieces[0][:skip+1][skip] // the address of the next byte
	for sent := 0; len(pieces) > 0; {
		record, rest, size := buf.nextRecord(pieces, skip)
		inRecord := 0
		for _, part := range record {
			if len(part) == 0 {
				continue
			}
			if &part[0] != next {
				t.Fatalf("%v: a record doesn't continue where the previous part ended", sizes)
			}
			inRecord += len(part)
			next = &part[:len(part)+1][len(part)]
		}
		if inRecord != size-skip || size < 1 || size > tlsrecord.MaxPlaintext {
			t.Fatalf("%v: a record of %d bytes counts as %d", sizes, inRecord, size)
		}
		if sent += size; sent-1 == sizes[0] {
			t.Fatalf("%v: a record ends at %d, one byte into a piece", sizes, sent)
		}
		if len(rest) == 0 && sent != sizes[0]+sizes[1] {
			t.Fatalf("%v: the records end at %d", sizes, sent)
		}
		pieces, skip = rest, 0
	}
}
