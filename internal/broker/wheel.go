package broker

import "time"

// wheel is a coarse timer wheel: it holds each stream once, in the slot of its
// next turn, so that a turn costs nothing until it comes. A stream that has
// ended is let go at its turn.
type wheel struct {
	tick  time.Duration
	slots [][]*Stream
	at    int   // the slot that comes next
	next  int64 // when it comes, by Broker.steady
}

// newWheel returns a wheel whose turns are up to horizon ahead.
func newWheel(horizon time.Duration) wheel {
	tick := min(max(horizon/64, 10*time.Millisecond), 250*time.Millisecond)
	return wheel{tick: tick, slots: make([][]*Stream, int(horizon/tick)+4)}
}

// add puts st into the slot that comes after wait nanoseconds, or into the
// last one if that is beyond the horizon.
func (w *wheel) add(st *Stream, now, wait int64) {
	if w.next == 0 {
		w.next = now + int64(w.tick)
	}
	ahead := (now + wait - w.next + int64(w.tick) - 1) / int64(w.tick)
	ahead = min(max(ahead, 0), int64(len(w.slots)-2))
	i := (w.at + int(ahead)) % len(w.slots)
	w.slots[i] = append(w.slots[i], st)
}

// advance gives every stream its turn whose time has come. due returns the
// time until the next one, or 0 to let the stream go.
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
