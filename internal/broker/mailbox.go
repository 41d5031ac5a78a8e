package broker

import "sync"

// mailbox is how the others tell a shard what happens. Only post may be called
// by others than the shard's goroutine.
type mailbox struct {
	wake chan struct{} // has a token when the mailbox was given its first item

	mu     sync.Mutex
	posted []item
	events int64 // posted since the start

	read []item // the other half, whose items are being handled
	next int    // of read
}

func newMailbox() mailbox { return mailbox{wake: make(chan struct{}, 1)} }

// post puts it into the mailbox. It never blocks.
func (m *mailbox) post(it item) {
	m.mu.Lock()
	first := len(m.posted) == 0
	m.posted = append(m.posted, it)
	if it.kind == deliver {
		m.events++
	}
	m.mu.Unlock()
	if first {
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}

// take returns the oldest item, or false if there is none. The item is valid
// until the next call.
func (m *mailbox) take() (*item, bool) {
	if m.next == len(m.read) {
		clear(m.read)
		const keep = 4096 // what a storm needed is not worth keeping
		if cap(m.read) > keep {
			m.read = nil
		}
		m.mu.Lock()
		m.posted, m.read = m.read[:0], m.posted
		m.mu.Unlock()
		m.next = 0
		if len(m.read) == 0 {
			return nil, false
		}
	}
	m.next++
	return &m.read[m.next-1], true
}

// waiting returns how many events have been posted since the start, and when
// the oldest of those that nobody has begun to handle was published, in Unix
// nanoseconds; 0 if there is none.
func (m *mailbox) waiting() (events, oldest int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.posted {
		if m.posted[i].kind == deliver {
			return m.events, m.posted[i].event.at
		}
	}
	return m.events, 0
}

// leftover says whether items are being handled and wait for their turn.
func (m *mailbox) leftover() bool { return m.next < len(m.read) }
