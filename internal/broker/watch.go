package broker

import (
	"errors"
	"time"
)

// ErrWatchOverflow ends a watch whose reader is too slow to be told all.
var ErrWatchOverflow = errors.New("the watch fell behind and has missed connections")

// Connection is a stream that was opened or has ended.
type Connection struct {
	// User is whose stream it is; empty for an anonymous one.
	User string
	// Open is true for a stream that was opened.
	Open bool
	// Reason is why the stream ended.
	Reason Reason
	// Connections counts the user's streams, or the anonymous ones, after the
	// change.
	Connections int
	At          time.Time
}

// Watch tells of streams as they are opened and end, in their order.
type Watch struct {
	broker *Broker
	// Present are the users who held streams when the watch began, in
	// ascending order of id (by byte).
	Present []User
	// Anonymous is how many streams of nobody's were open then.
	Anonymous int
	// C gives the changes since. It is closed when the watch ends; Err then
	// says why.
	C   <-chan Connection
	c   chan Connection
	err error // guarded by Broker.mu
}

// watchBuffer is how far a watch's reader may fall behind, in changes.
const watchBuffer = 16 << 10

// Watch begins a watch, whose Close must be called.
func (b *Broker) Watch() (*Watch, error) {
	c := make(chan Connection, watchBuffer)
	w := &Watch{broker: b, c: c, C: c}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	b.accounts.Ascend(func(a *account) bool {
		w.Present = append(w.Present, User{a.id, a.connections, a.since})
		return true
	})
	w.Anonymous = b.anonymous
	b.watches[w] = struct{}{}
	return w, nil
}

// Err returns why the watch ended by itself: ErrWatchOverflow or ErrClosed.
func (w *Watch) Err() error {
	w.broker.mu.Lock()
	defer w.broker.mu.Unlock()
	return w.err
}

// Close ends the watch.
func (w *Watch) Close() {
	w.broker.mu.Lock()
	defer w.broker.mu.Unlock()
	w.broker.endWatch(w, nil)
}

// endWatch ends w unless it has ended. The caller has b.mu.
func (b *Broker) endWatch(w *Watch, why error) {
	if _, ok := b.watches[w]; ok {
		delete(b.watches, w)
		w.err = why
		close(w.c)
	}
}

// tell tells those who want to know of a change to a stream. The caller has
// b.mu.
func (b *Broker) tell(st *Stream, open bool, why Reason) {
	b.changes.note(st)
	if len(b.watches) == 0 {
		return
	}
	c := Connection{Open: open, Reason: why, Connections: b.anonymous, At: time.Now()}
	if st.account != nil {
		c.User, c.Connections = st.account.id, st.account.connections
	}
	for w := range b.watches {
		select {
		case w.c <- c:
		default:
			b.endWatch(w, ErrWatchOverflow)
		}
	}
}
