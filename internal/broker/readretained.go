package broker

import (
	"bytes"
	"cmp"
	"sort"
)

// beginRetained sets the positions that r starts from, in the order of retained values.
// It doesn't read past r.position, so that values published while pages are being read
// don't move to another page. The caller holds b.mu.
func (b *Broker) beginRetained(r *reader) error {
	end := b.seq
	for _, at := range []struct {
		id  string
		set func(seq uint64)
	}{
		{r.After, func(seq uint64) { r.after = orderOf(seq) }},
		{r.Position, func(seq uint64) { end = seq }},
	} {
		if at.id == "" {
			continue
		}
		seq, err := b.positionOf(r.Audience, at.id)
		if err != nil {
			return err
		}
		at.set(seq)
	}
	r.before, r.position = orderOf(end)+1, b.id(end)
	if r.Cursor == "" {
		return nil
	}

	below, above := b.around(b.retained.lanes[r.Audience], r.Cursor)
	if r.Newest {
		r.before = min(r.before, above)
	} else {
		r.after = max(r.after, below)
	}
	return nil
}

// around returns the orders of the last value in l up to the given id, and of the first
// one at or after it. For an id of the current log, both are the id's own order. The
// caller holds b.mu.
func (b *Broker) around(l *valueList, id string) (below, above uint64) {
	epoch, seq, _ := parseID(id) // checked by Read.validate
	if epoch == b.ids.Load().epoch {
		return orderOf(seq), orderOf(seq)
	}

	// The orders of values from earlier logs differ between replicas.
	above = orderOf(0)
	if l == nil {
		return below, above
	}
	for _, s := range l.slots {
		if s.order >= above {
			break
		}
		if s.value == nil {
			continue
		}
		switch c := compareIDs(s.value.event.id(), id); {
		case c < 0:
			below = s.order
		case c == 0:
			return s.order, s.order
		default:
			return below, s.order
		}
	}
	return below, above
}

// compareIDs compares two ids by the time at which they were assigned. Epochs begin
// with the time; see [NewEpoch].
func compareIDs(a, b string) int {
	epochA, seqA, _ := parseID(a)
	epochB, seqB, _ := parseID(b)
	return cmp.Or(cmp.Compare(len(epochA), len(epochB)), cmp.Compare(epochA, epochB), cmp.Compare(seqA, seqB))
}

// id returns the id of a message.
func (e *event) id() string {
	line, _, _ := bytes.Cut(e.frame.block(), []byte("\n"))
	return string(bytes.TrimPrefix(line, []byte("id: ")))
}

// readRetained reads the next retained values. It reports whether the page is complete.
// The caller holds b.mu.
func (b *Broker) readRetained(r *reader) (done bool) {
	l := b.retained.lanes[r.Audience]
	if l == nil {
		r.more = false
		return true
	}

	slots := l.after(r.after)
	slots = slots[:sort.Search(len(slots), func(i int) bool { return slots[i].order >= r.before })]
	now := b.logNow()
	for scanned, size := 0, 0; len(slots) > 0; scanned++ {
		if scanned == replayScan || size >= replayBytes {
			return false
		}
		next := slots[0]
		if r.Newest {
			next = slots[len(slots)-1]
		}
		if v := next.value; v != nil && !v.event.expired(now) {
			if r.full() {
				r.more = true
				return true
			}
			r.add(v.event)
			size += len(v.event.frame.chunk)
		}
		if r.Newest {
			slots, r.before = slots[:len(slots)-1], next.order
		} else {
			slots, r.after = slots[1:], next.order
		}
	}
	return true
}
