package hooks

import (
	"container/list"
	"time"
)

// kind distinguishes users from topics.
type kind uint8

const (
	userKind kind = iota
	topicKind
)

// key identifies a user or a topic.
type key struct {
	kind kind
	name string
}

// typeOf returns the type of the event for an arrival or a departure.
func typeOf(k kind, present bool) string {
	switch {
	case k == userKind && present:
		return UserOnline
	case k == userKind:
		return UserOffline
	case present:
		return TopicOccupied
	default:
		return TopicVacated
	}
}

// tracker tracks which users and topics are present. They are present while they have
// streams, and for delay after that.
type tracker struct {
	delay time.Duration
	// present holds an element of leaving for each key without streams, and nil for
	// each key with streams.
	present map[key]*list.Element
	leaving *list.List // of departures, the earliest first
}

// departure is the end of a key's last stream.
type departure struct {
	key key
	at  time.Time
}

func newTracker(delay time.Duration) *tracker {
	return &tracker{delay: delay, present: make(map[key]*list.Element), leaving: list.New()}
}

// observe records whether a key has streams, and reports whether it has arrived. Calls
// must be in the order of now.
func (t *tracker) observe(k key, hasStreams bool, now time.Time) (arrived bool) {
	element, present := t.present[k]
	switch {
	case hasStreams && element != nil:
		t.leaving.Remove(element)
		t.present[k] = nil
	case hasStreams && !present:
		t.present[k] = nil
		return true
	case !hasStreams && present && element == nil:
		t.present[k] = t.leaving.PushBack(departure{k, now})
	}
	return false
}

// expire returns the departures that have lasted for delay, in order, and forgets their
// keys.
func (t *tracker) expire(now time.Time) (gone []departure) {
	for {
		first := t.leaving.Front()
		if first == nil {
			return gone
		}
		d, _ := first.Value.(departure)
		if now.Sub(d.at) < t.delay {
			return gone
		}
		t.leaving.Remove(first)
		delete(t.present, d.key)
		gone = append(gone, d)
	}
}

// forget removes all keys of a kind.
func (t *tracker) forget(of kind) {
	for k, element := range t.present {
		if k.kind != of {
			continue
		}
		if element != nil {
			t.leaving.Remove(element)
		}
		delete(t.present, k)
	}
}

// keys returns the keys that are present, users first.
func (t *tracker) keys() []key {
	all := make([]key, 0, len(t.present))
	for _, of := range []kind{userKind, topicKind} {
		for k := range t.present {
			if k.kind == of {
				all = append(all, k)
			}
		}
	}
	return all
}
