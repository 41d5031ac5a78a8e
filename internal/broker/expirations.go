package broker

// expirations is a heap of events by the time at which they are due to leave.
type expirations []*event

// Len implements [heap.Interface].
func (x *expirations) Len() int { return len(*x) }

// Less implements [heap.Interface].
func (x *expirations) Less(i, j int) bool { return (*x)[i].due < (*x)[j].due }

// Swap implements [heap.Interface].
func (x *expirations) Swap(i, j int) {
	a, b := (*x)[j], (*x)[i]
	(*x)[i], (*x)[j] = a, b
	a.heapIndex, b.heapIndex = int32(i), int32(j)
}

// Push implements [heap.Interface].
func (x *expirations) Push(added any) {
	e := added.(*event) //nolint:forcetypeassert // the heap holds nothing else
	e.heapIndex = int32(len(*x))
	*x = append(*x, e)
}

// Pop implements [heap.Interface].
func (x *expirations) Pop() any {
	old := *x
	last := len(old) - 1
	e := old[last]
	old[last] = nil
	*x = old[:last]
	return e
}
