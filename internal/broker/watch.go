package broker

import (
	"context"
	"errors"
	"slices"
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
	// Connections is the number of the user's streams, or of anonymous streams, after
	// the change. A watch of a topic counts only the streams that subscribe to it.
	Connections int
	At          time.Time
}

// Watch reports streams in the order in which they are opened and closed. Only one
// goroutine may use it.
type Watch struct {
	// Present holds the users who had streams when the watch started, in ascending
	// order of id (by byte).
	Present []User
	// Anonymous is the number of anonymous streams at that time.
	Anonymous int
	// C has a token when there is something to take, or the watch has ended.
	C <-chan struct{}
	c chan struct{}

	broker *Broker
	topic  string         // empty for a watch of all streams
	counts map[string]int // a topic's streams by user, after the changes that have been taken; anonymous ones under ""
	taken  []Connection   // what Take returned last, whose memory is used again

	// The fields below are guarded by Broker.mu.

	waiting []Connection
	listed  []bool // of a topic, by shard: its subscribers have been counted
	ended   bool
	err     error // why the watch ended on its own
}

const (
	// watchBuffer is the number of changes by which a watch's reader may fall behind.
	watchBuffer = 16 << 10
	// keptChanges is the number of changes for which a watch keeps memory.
	keptChanges = 256
)

// watches holds the watches that haven't ended. It is guarded by Broker.mu.
type watches struct {
	all     map[*Watch]struct{}            // of all streams
	byTopic map[string]map[*Watch]struct{} // of a topic or pattern
}

func newWatches() watches {
	return watches{all: make(map[*Watch]struct{}), byTopic: make(map[string]map[*Watch]struct{})}
}

// Watch starts a watch of all streams. The caller must call Close on it. It returns
// ErrClosed once the broker is closing.
func (b *Broker) Watch() (*Watch, error) {
	w := b.newWatch("")
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
	b.watches.all[w] = struct{}{}
	return w, nil
}

// WatchTopic starts a watch of the streams that subscribe to a topic, as
// SubscriberList.Topic describes. The caller must call Close on it. It returns an
// *InvalidError for an invalid topic, ErrClosed once the broker is closing, and ctx's
// error if ctx ends while it waits for the shards.
func (b *Broker) WatchTopic(ctx context.Context, topic string) (*Watch, error) {
	w := b.newWatch(topic)
	found, err := b.findSubscribers(ctx, topic, w)
	if err != nil {
		w.Close()
		return nil, err
	}

	w.counts = make(map[string]int)
	since := make(map[string]time.Time)
	for st := range found.each {
		user := ""
		if a := st.account; a != nil {
			user = a.id
			since[user] = time.Unix(0, a.since)
		}
		w.counts[user]++
	}
	for id, at := range since {
		w.Present = append(w.Present, User{id, w.counts[id], at})
	}
	slices.SortFunc(w.Present, compareUsers)
	w.Anonymous = w.counts[""]
	return w, nil
}

func (b *Broker) newWatch(topic string) *Watch {
	c := make(chan struct{}, 1)
	return &Watch{broker: b, topic: topic, C: c, c: c}
}

// Take returns the changes since the last call, in order. They are valid until the next
// call. Once the watch has ended on its own, it returns the last changes and
// ErrWatchOverflow or ErrClosed.
func (w *Watch) Take() (changes []Connection, err error) {
	next := w.taken[:0]
	clear(w.taken)
	if cap(next) > keptChanges {
		next = nil // it comes from a rare burst
	}
	w.broker.mu.Lock()
	w.taken, w.waiting, err = w.waiting, next, w.err
	w.broker.mu.Unlock()

	if w.counts != nil {
		for i := range w.taken {
			w.count(&w.taken[i])
		}
	}
	return w.taken, err
}

// count applies a change to the counts of a topic's streams, and sets its count.
func (w *Watch) count(c *Connection) {
	n := w.counts[c.User]
	if c.Open {
		n++
	} else {
		n--
	}
	if c.Connections = n; n > 0 {
		w.counts[c.User] = n
	} else {
		delete(w.counts, c.User)
	}
}

// Close ends the watch.
func (w *Watch) Close() {
	w.broker.mu.Lock()
	defer w.broker.mu.Unlock()
	w.broker.endWatch(w, nil)
}

// endWatch ends w unless it has ended already. The caller holds b.mu.
func (b *Broker) endWatch(w *Watch, why error) {
	if w.ended {
		return
	}
	w.ended, w.err = true, why
	if w.topic == "" {
		delete(b.watches.all, w)
	} else {
		delete(b.watches.byTopic[w.topic], w)
		if len(b.watches.byTopic[w.topic]) == 0 {
			delete(b.watches.byTopic, w.topic)
		}
	}
	w.wake()
}

// endWatches ends all watches. The caller holds b.mu.
func (b *Broker) endWatches(why error) {
	for w := range b.watches.all {
		b.endWatch(w, why)
	}
	for _, watches := range b.watches.byTopic {
		for w := range watches {
			b.endWatch(w, why)
		}
	}
}

func (w *Watch) wake() {
	select {
	case w.c <- struct{}{}:
	default:
	}
}

// notify reports to changes and watches that a stream was opened or closed. The
// caller holds b.mu.
func (b *Broker) notify(st *Stream, open bool, why Reason) {
	b.changes.note(st)
	if len(b.watches.all)+len(b.watches.byTopic) == 0 {
		return
	}

	c := Connection{Open: open, Reason: why, Connections: b.anonymous, At: time.Now()}
	if st.account != nil {
		c.User, c.Connections = st.account.id, int(st.account.connections)
	}
	for w := range b.watches.all {
		b.report(w, c)
	}
	if st.topics != nil && len(b.watches.byTopic) > 0 {
		b.notifyTopics(st, c)
	}
}

// notifyTopics reports a change to the watches of the topics that st subscribes to.
func (b *Broker) notifyTopics(st *Stream, c Connection) {
	if !st.topics.patterns {
		for _, name := range st.topics.names {
			for w := range b.watches.byTopic[name] {
				b.reportTo(w, st, c)
			}
		}
		return
	}
	for topic, watches := range b.watches.byTopic {
		if st.topics.cover(topic) {
			for w := range watches {
				b.reportTo(w, st, c)
			}
		}
	}
}

// reportTo reports a change to the watch of a topic, unless a stream was closed that
// isn't among the subscribers that the watch began with, because its shard closed it
// before it listed them.
func (b *Broker) reportTo(w *Watch, st *Stream, c Connection) {
	if c.Open || w.listed[st.shard.number] || !isListedByShard(st, w.topic) {
		b.report(w, c)
	}
}

func (b *Broker) report(w *Watch, c Connection) {
	if len(w.waiting) == watchBuffer {
		b.endWatch(w, ErrWatchOverflow)
		return
	}
	w.waiting = append(w.waiting, c)
	w.wake()
}
