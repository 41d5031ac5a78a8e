package postgres

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/source/outbox"
)

// simulation is a table and the transactions that write to it.
type simulation struct {
	nextID       int64
	transactions map[string]*simulated
	visible      map[int64]int // buckets by id
	pending      map[int64]int // of transactions that haven't ended
	names        int
}

// simulated is a transaction. It gets an id for a row after it has locked the row's
// bucket.
type simulated struct {
	prepared bool
	locked   map[int]bool
	rows     map[int64]int
}

// TestBarriers checks that rows are never complete while a transaction may still add a
// row before them to their bucket, and that all rows are complete in the end, even if
// other transactions are always open.
func TestBarriers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, checkBarriers)
}

func checkBarriers(t *rapid.T) {
	s := &simulation{transactions: make(map[string]*simulated), visible: make(map[int64]int), pending: make(map[int64]int)}
	buckets := rapid.IntRange(1, 3).Draw(t, "buckets")
	var b barriers
	var largest int64

	names := func() []string { return slices.Collect(maps.Keys(s.transactions)) }

	for range rapid.IntRange(1, 60).Draw(t, "steps") {
		switch rapid.IntRange(0, 6).Draw(t, "step") {
		case 0:
			s.begin()
		case 1, 2:
			if all := names(); len(all) > 0 {
				s.step(s.transactions[sampled(t, all)], rapid.IntRange(0, buckets-1).Draw(t, "bucket"), rapid.Bool().Draw(t, "lock only"))
			}
		case 3:
			if all := names(); len(all) > 0 {
				s.end(sampled(t, all), rapid.Bool().Draw(t, "commit"))
			}
		case 4:
			if all := names(); len(all) > 0 {
				name := sampled(t, all)
				x := s.transactions[name]
				delete(s.transactions, name)
				x.prepared = true
				s.transactions["-1/"+name] = x
			}
		case 5:
			largest = s.largest() // and time passes before the locks are read
		case 6:
			b.advance(largest, s.holders())
			s.check(t, &b)
		}
	}

	// Later transactions don't delay earlier rows, even if there is always one.
	wanted := s.largest()
	b.advance(wanted, s.holders())
	for range 2 {
		earlier := names()
		late := s.begin()
		for bucket := range buckets {
			s.step(late, bucket, false)
		}
		for _, name := range earlier {
			s.end(name, true)
		}
		b.advance(s.largest(), s.holders())
		s.check(t, &b)
	}
	if b.smallest() < wanted {
		t.Fatalf("complete up to %d, want %d", b.smallest(), wanted)
	}
}

// sampled draws one of the names, whose order may differ when the test is repeated.
func sampled(t *rapid.T, names []string) string {
	slices.Sort(names)

	return rapid.SampledFrom(names).Draw(t, "transaction")
}

func (s *simulation) begin() *simulated {
	s.names++
	x := &simulated{locked: make(map[int]bool), rows: make(map[int64]int)}
	s.transactions[fmt.Sprint(s.names)] = x

	return x
}

// step locks a bucket and, unless lockOnly is true, adds a row to it.
func (s *simulation) step(x *simulated, bucket int, lockOnly bool) {
	if x.prepared {
		return
	}

	x.locked[bucket] = true
	if !lockOnly {
		s.nextID++
		x.rows[s.nextID] = bucket
		s.pending[s.nextID] = bucket
	}
}

func (s *simulation) end(name string, commit bool) {
	x := s.transactions[name]
	for id, bucket := range x.rows {
		delete(s.pending, id)
		if commit {
			s.visible[id] = bucket
		}
	}
	delete(s.transactions, name)
}

func (s *simulation) largest() (id int64) {
	for visible := range s.visible {
		id = max(id, visible)
	}

	return id
}

func (s *simulation) holders() (all []holder) {
	for name, x := range s.transactions {
		for bucket := range x.locked {
			all = append(all, holder{bucket, name, x.prepared})
		}
	}

	return all
}

// check checks that no row that isn't visible yet is behind a barrier.
func (s *simulation) check(t *rapid.T, b *barriers) {
	for id, bucket := range s.pending {
		if id <= b.complete[bucket] {
			t.Fatalf("bucket %d is complete up to %d, but row %d isn't visible yet", bucket, b.complete[bucket], id)
		}
	}
	if b.smallest() > s.nextID {
		t.Fatalf("complete up to %d of %d", b.smallest(), s.nextID)
	}
	for bucket := range outbox.Buckets {
		if b.complete[bucket] > s.nextID {
			t.Fatalf("bucket %d is complete up to %d of %d", bucket, b.complete[bucket], s.nextID)
		}
	}
}
