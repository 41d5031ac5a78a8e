package broker

import (
	"errors"
	"time"
)

// ErrWatchOverflow is the error with which a watch ends if its reader is too slow.
var ErrWatchOverflow = errors.New("watch fell behind and missed connections")

// Connection reports that a stream was opened or closed.
type Connection struct {
	// User is the stream's user; empty for an anonymous stream.
	User string
	// Open is true if the stream was opened, and false if it was closed.
	Open bool
	// Reason is the close reason.
	Reason Reason
	// Connections is the number of the user's streams, or of anonymous streams,
	// after the change.
	Connections int
	At          time.Time
}

// Watch reports streams in the order in which they are opened and closed.
type Watch struct {
	broker *Broker
	// Present holds the users who had streams when the watch started, in ascending
	// order of id (by byte).
	Present []User
	// Anonymous is the number of anonymous streams at that time.
	Anonymous int
	// C delivers the changes after that time. It is closed when the watch ends,
	// and Err returns the reason.
	C   <-chan Connection
	c   chan Connection
	err error // guarded by Broker.mu
}

// watchBuffer is the number of changes by which a watch's reader may fall behind.
const watchBuffer = 16 << 10

// Watch starts a watch. The caller must call Close on it.
func (b *Broker) Watch() (*Watch, error) {
	c := make(chan Connection, watchBuffer)
	w := &Watch{broker: b, c: c, C: c}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	b.accounts.Ascend(func(a *account) bool {
		w.Present = append(w.Present, User{a.id, int(a.connections), time.Unix(0, a.since)})
		return true
	})
	w.Anonymous = b.anonymous
	b.watches[w] = struct{}{}
	return w, nil
}

// Err returns ErrWatchOverflow or ErrClosed if the watch has ended on its own.
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

// endWatch ends w unless it has ended already. The caller holds b.mu.
func (b *Broker) endWatch(w *Watch, why error) {
	if _, ok := b.watches[w]; ok {
		delete(b.watches, w)
		w.err = why
		close(w.c)
	}
}

// notify reports to changes and watches that a stream was opened or closed. The
// caller holds b.mu.
func (b *Broker) notify(st *Stream, open bool, why Reason) {
	b.changes.note(st)
	if len(b.watches) == 0 {
		return
	}
	c := Connection{Open: open, Reason: why, Connections: b.anonymous, At: time.Now()}
	if st.account != nil {
		c.User, c.Connections = st.account.id, int(st.account.connections)
	}
	for w := range b.watches {
		select {
		case w.c <- c:
		default:
			b.endWatch(w, ErrWatchOverflow)
		}
	}
}
