package broker

// fifo is a first-in, first-out queue in one slice. The zero value is empty.
type fifo[T any] struct {
	items []T
	head  int // items before this index have been popped
}

func (f *fifo[T]) len() int { return len(f.items) - f.head }

// at returns the i-th item from the front.
func (f *fifo[T]) at(i int) T { return f.items[f.head+i] }

// all returns the items, oldest first. The slice shares the queue's memory.
func (f *fifo[T]) all() []T { return f.items[f.head:] }

func (f *fifo[T]) push(item T) {
	if len(f.items) == cap(f.items) && f.head > len(f.items)/2 {
		n := copy(f.items, f.all())
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, item)
}

func (f *fifo[T]) pop() T {
	var zero T
	item := f.items[f.head]
	f.items[f.head] = zero
	f.head++
	if f.len() == 0 {
		f.items, f.head = f.items[:0], 0
		if cap(f.items) > 64 {
			f.items = nil // don't hold on to memory that was only needed for a burst
		}
	}
	return item
}
