package broker

import "time"

// wheel is a coarse timer wheel. It holds each stream once, in the slot of its
// next turn, so that a waiting stream costs nothing. A closed stream is removed
// when its turn comes.
type wheel struct {
	tick  time.Duration
	slots [][]*Stream
	at    int   // index of the next slot
	next  int64 // when the next slot is due, by Broker.steady; 0 before the first add
}

// newWheel returns a wheel for turns that are at most horizon ahead.
func newWheel(horizon time.Duration) wheel {
	tick := min(max(horizon/64, 10*time.Millisecond), 250*time.Millisecond)
	return wheel{tick: tick, slots: make([][]*Stream, int(horizon/tick)+4)}
}

// add puts st into the slot that is due after wait nanoseconds, or into the last
// slot if that is beyond the horizon.
func (w *wheel) add(st *Stream, now, wait int64) {
	if w.next == 0 {
		w.next = now + int64(w.tick)
	}
	ahead := (now + wait - w.next + int64(w.tick) - 1) / int64(w.tick)
	ahead = min(max(ahead, 0), int64(len(w.slots)-2))
	i := (w.at + int(ahead)) % len(w.slots)
	w.slots[i] = append(w.slots[i], st)
}

// advance calls due for every stream whose turn has come. due returns the time
// until the stream's next turn in nanoseconds, or 0 to remove the stream.
func (w *wheel) advance(now int64, due func(*Stream) int64) {
	for w.next != 0 && w.next <= now {
		slot := w.at
		w.at = (w.at + 1) % len(w.slots)
		w.next += int64(w.tick)

		for i, st := range w.slots[slot] {
			w.slots[slot][i] = nil
			if wait := due(st); wait > 0 {
				w.add(st, now, wait)
			}
		}
		w.slots[slot] = w.slots[slot][:0]
	}
}
