package broker

import "sync"

// mailbox carries items to a shard. Any goroutine may call post and stats; only the
// shard's goroutine may call the other methods.
type mailbox struct {
	wake chan struct{} // gets a token when an item is posted to an empty mailbox

	mu     sync.Mutex
	posted []item
	events int64 // events posted since the broker started

	read []item // the items being handled, swapped with posted
	next int    // index of the next item in read
}

func newMailbox() mailbox { return mailbox{wake: make(chan struct{}, 1)} }

// post adds an item to the mailbox. It never blocks.
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
		const keep = 4096 // a larger slice comes from a rare burst and isn't worth keeping
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

// stats returns how many events have been posted since the broker started, and when the
// oldest event among the posted items was published, in Unix nanoseconds; 0 if there is
// none. Items in read don't count.
func (m *mailbox) stats() (events, oldest int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.posted {
		if m.posted[i].kind == deliver {
			return m.events, m.posted[i].event.at
		}
	}
	return m.events, 0
}

// hasUnread reports whether read still holds items to handle.
func (m *mailbox) hasUnread() bool { return m.next < len(m.read) }
