package broker

import "iter"

// valueHeap is a heap of values by the time at which they expire.
type valueHeap []*retainedValue

// Len implements [heap.Interface].
func (x *valueHeap) Len() int { return len(*x) }

// Less implements [heap.Interface].
func (x *valueHeap) Less(i, j int) bool { return (*x)[i].event.expires < (*x)[j].event.expires }

// Swap implements [heap.Interface].
func (x *valueHeap) Swap(i, j int) {
	a, b := (*x)[j], (*x)[i]
	(*x)[i], (*x)[j] = a, b
	a.heapIndex, b.heapIndex = int32(i), int32(j)
}

// Push implements [heap.Interface].
func (x *valueHeap) Push(added any) {
	v := added.(*retainedValue) //nolint:forcetypeassert // the heap holds nothing else
	v.heapIndex = int32(len(*x))
	*x = append(*x, v)
}

// Pop implements [heap.Interface].
func (x *valueHeap) Pop() any {
	old := *x
	last := len(old) - 1
	v := old[last]
	old[last] = nil
	*x = old[:last]
	return v
}

// expired yields the values that have expired as of now (in Unix nanoseconds).
func (x *valueHeap) expired(now int64) iter.Seq[*retainedValue] {
	return func(yield func(*retainedValue) bool) { x.walk(0, now, yield) }
}

// walk yields the expired values starting at index i of the heap. The values below one
// that hasn't expired haven't expired either.
func (x *valueHeap) walk(i int, now int64, yield func(*retainedValue) bool) bool {
	if i >= len(*x) || !(*x)[i].event.expired(now) {
		return true
	}
	return yield((*x)[i]) && x.walk(2*i+1, now, yield) && x.walk(2*i+2, now, yield)
}
