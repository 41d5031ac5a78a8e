package postgres

import (
	"maps"

	"github.com/peald/peald/internal/source/outbox"
)

// holder is a transaction that may still add rows to a bucket.
type holder struct {
	bucket      int
	transaction string
	prepared    bool // PREPARE TRANSACTION has given it another name
}

// barriers determines which rows are settled in order: no transaction that hasn't ended
// can add a row before them to their bucket.
//
// A transaction acquires its bucket's lock before it gets an id. So if a row has a
// smaller id than one that is visible, its transaction holds the lock by then, or has
// ended. The caller therefore reads the largest visible id first, and then the holders.
// Once all of these holders have ended, the bucket is complete up to that id.
// Transactions that acquire the lock later get larger ids, so a steady load of
// transactions doesn't block a bucket.
type barriers struct {
	complete [outbox.Buckets]int64 // the bucket's rows up to this id are all visible, or deleted
	waiting  [outbox.Buckets]barrier
}

// barrier is an id up to which a bucket is complete once its holders have ended.
type barrier struct {
	id      int64
	holders map[string]struct{} // nil if there is no barrier
}

// advance updates b with the largest visible id, and the transactions that held locks
// after that id was read.
func (b *barriers) advance(largest int64, holders []holder) {
	var now [outbox.Buckets]map[string]struct{}
	for _, h := range holders {
		if now[h.bucket] == nil {
			now[h.bucket] = make(map[string]struct{})
		}
		now[h.bucket][h.transaction] = struct{}{}
		if w := b.waiting[h.bucket]; h.prepared && w.holders != nil {
			w.holders[h.transaction] = struct{}{} // it may be one of them
		}
	}

	for i := range b.waiting {
		w := &b.waiting[i]
		maps.DeleteFunc(w.holders, func(transaction string, _ struct{}) bool {
			_, holds := now[i][transaction]
			return !holds
		})
		if w.holders != nil && len(w.holders) == 0 {
			b.complete[i] = max(b.complete[i], w.id)
			*w = barrier{}
		}

		switch {
		case w.holders != nil:
		case now[i] == nil:
			b.complete[i] = max(b.complete[i], largest)
		default:
			*w = barrier{largest, now[i]}
		}
	}
}

// pending reports whether any bucket waits for transactions to end.
func (b *barriers) pending() bool {
	for i := range b.waiting {
		if b.waiting[i].holders != nil {
			return true
		}
	}

	return false
}

// smallest returns the id up to which all buckets are complete.
func (b *barriers) smallest() int64 {
	smallest := b.complete[0]
	for _, id := range b.complete[1:] {
		smallest = min(smallest, id)
	}

	return smallest
}
