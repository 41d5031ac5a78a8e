package broker

// blockedWrite records that a stream's sink has stopped accepting bytes.
type blockedWrite struct {
	stream *Stream
	since  int64 // a lower bound for the stream's blockedSince
}

// blockedWrites holds the streams to check for write timeouts, each of them once. A
// stream whose sink accepts bytes again, or that is closed, stays listed until it would
// be due. As a result, a sink that accepts bytes now and then costs nothing. It is a
// binary heap with the longest-blocked first.
type blockedWrites []blockedWrite

// add lists a stream that isn't listed yet. Its sink must have become blocked more
// recently than that of any listed stream.
func (b *blockedWrites) add(st *Stream) { *b = append(*b, blockedWrite{st, st.blockedSince}) }

// removeFirst removes the first stream.
func (b *blockedWrites) removeFirst() {
	heap, last := *b, len(*b)-1
	heap[0], heap[last] = heap[last], blockedWrite{}
	*b = heap[:last]
	b.siftDown()
}

// moveFirst moves the first stream to the position that its current blockedSince
// requires.
func (b *blockedWrites) moveFirst() {
	(*b)[0].since = (*b)[0].stream.blockedSince
	b.siftDown()
}

// siftDown moves the first element down until no child precedes it.
func (b *blockedWrites) siftDown() {
	heap := *b
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(heap); child++ {
			if heap[child].since < heap[least].since {
				least = child
			}
		}
		if least == i {
			return
		}
		heap[i], heap[least] = heap[least], heap[i]
		i = least
	}
}

// closeStalled closes the streams whose sinks have accepted no bytes since the given
// time.
func (s *shard) closeStalled(oldest int64) {
	for len(s.blocked) > 0 && s.blocked[0].since <= oldest {
		st := s.blocked[0].stream
		if st.stalled && st.blockedSince <= oldest && st.dirty && st.phase != phaseClosed {
			s.flush(st) // The sink has called Ready, and this write may succeed.
		}

		switch {
		case st.phase == phaseClosed || !st.stalled:
			st.timed = false
			s.blocked.removeFirst()
		case st.blockedSince > oldest:
			s.blocked.moveFirst()
		default:
			st.timed = false
			s.blocked.removeFirst()
			s.close(st, WriteTimeout)
		}
	}
}
