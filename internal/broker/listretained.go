package broker

import (
	"cmp"
	"context"

	"github.com/google/btree"
)

// RetainedList selects audiences that have retained values.
type RetainedList struct {
	// Pattern is the topic or pattern that the audiences match. If it is empty, all
	// audiences are listed.
	Pattern string
	// After is the audience that precedes the page; the zero value for the first page.
	After Audience
	// Limit is the maximum number of audiences, at least 1.
	Limit int
}

// RetainedAudience describes the retained values of an audience.
type RetainedAudience struct {
	Audience Audience
	// Values is the number of values, and Bytes the memory that they use.
	Values, Bytes int
}

// RetainedPage is a page of audiences that have retained values.
type RetainedPage struct {
	Audiences []RetainedAudience
	// Next is the [RetainedList.After] of the next page; the zero value on the last page.
	Next Audience
}

// compareAudiences orders audiences: everyone, users, topics, and by name.
func compareAudiences(a, b Audience) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name))
}

// RetainedAudiences returns a page of audiences that have retained values: everyone, then
// users, then topics, in ascending order of their names (by byte). A page can have fewer
// audiences than q.Limit, or none, even if more follow. It returns an *InvalidError for an
// invalid pattern, ErrClosed once the broker is closing, and ErrSuspended while it accepts
// no streams.
func (b *Broker) RetainedAudiences(_ context.Context, q RetainedList) (page RetainedPage, err error) {
	if q.Pattern != "" {
		if err := ValidPattern(q.Pattern); err != nil {
			return page, err
		}
	}
	l := retainedLister{RetainedList: q, found: btree.NewG(32, func(a, b Audience) bool { return compareAudiences(a, b) < 0 })}
	for done := false; !done; {
		if done, err = b.findAudiences(&l); err != nil {
			return page, err
		}
	}
	return l.page, nil
}

// retainedLister finds the audiences on a page, a few values each time it holds the
// lock.
type retainedLister struct {
	RetainedList

	filter     digestFilter
	begun      bool
	generation int
	next       uint64                  // the order up to which values have been read
	found      *btree.BTreeG[Audience] // the first ones, at most one more than Limit
	page       RetainedPage
}

// findAudiences reads the next values. It reports whether the page is complete.
func (b *Broker) findAudiences(l *retainedLister) (done bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return false, ErrClosed
	case b.suspended || l.begun && l.generation != b.generation:
		return false, ErrSuspended
	}

	if !l.begun && l.Pattern != "" {
		l.filter = digestFilter{b.retained.digester.pattern(l.Pattern)}
	}
	l.begun, l.generation = true, b.generation
	now := b.logNow()
	for i, slot := range b.retained.all.after(l.next) {
		if i >= replayScan && slot.order > l.next { // siblings stay together
			return false, nil
		}
		l.next = slot.order
		if l.filter.matches(slot.digest) && slot.value != nil && !slot.value.event.expired(now) {
			l.add(slot.value.event.audience)
		}
	}
	l.count(&b.retained, now)
	return true, nil
}

// add adds an audience, if the list selects it and it may be on the page.
func (l *retainedLister) add(a Audience) {
	if compareAudiences(a, l.After) <= 0 || l.Pattern != "" && (a.kind != oneTopic || !Covers(l.Pattern, a.name)) {
		return
	}
	if l.found.Len() > l.Limit {
		if last, _ := l.found.Max(); compareAudiences(a, last) >= 0 {
			return
		}
	}
	l.found.ReplaceOrInsert(a)
	if l.found.Len() > l.Limit+1 {
		l.found.DeleteMax()
	}
}

// count makes the page from the audiences that still have values. Values may have been
// cleared since the audiences were found.
func (l *retainedLister) count(r *retained, now int64) {
	expired := make(map[Audience]RetainedAudience)
	for v := range r.expiring.expired(now) {
		if a := v.event.audience; l.found.Has(a) {
			sum := expired[a]
			sum.Values++
			sum.Bytes += int(v.cost)
			expired[a] = sum
		}
	}
	if l.found.Len() > l.Limit {
		l.found.DeleteMax()
		l.page.Next, _ = l.found.Max()
	}
	l.found.Ascend(func(a Audience) bool {
		lane, gone := r.lanes[a], expired[a]
		if lane != nil && lane.live > gone.Values {
			l.page.Audiences = append(l.page.Audiences, RetainedAudience{a, lane.live - gone.Values, lane.bytes - gone.Bytes})
		}
		return true
	})
}
