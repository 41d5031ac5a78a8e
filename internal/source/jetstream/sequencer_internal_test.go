package jetstream

import (
	"maps"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// model is a model of a consumer on a server.
type model struct {
	messages uint64              // in the stream, with sequences from 1
	next     uint64              // the next message that hasn't been delivered
	last     uint64              // consumer sequence
	pending  map[uint64]struct{} // delivered and not acknowledged
	expired  []uint64            // the part of pending that will be delivered again
	pin      string
}

func (s *model) clone() model {
	c := *s
	c.pending, c.expired = maps.Clone(s.pending), slices.Clone(s.expired)

	return c
}

// deliver returns the next delivery, or false if there is none.
func (s *model) deliver() (d delivery, ok bool) {
	for len(s.expired) > 0 && d.stream == 0 {
		if _, pending := s.pending[s.expired[0]]; pending {
			d.stream = s.expired[0]
		}
		s.expired = s.expired[1:]
	}
	if d.stream == 0 {
		if s.next > s.messages {
			return d, false
		}
		d.stream = s.next
		s.next++
	}
	s.pending[d.stream] = struct{}{}
	s.last++
	d.consumer, d.pin = s.last, s.pin

	return d, true
}

// expire makes the server deliver messages again, in the order of the stream.
func (s *model) expire(which func(stream uint64) bool) {
	for _, stream := range slices.Sorted(maps.Keys(s.pending)) {
		if !slices.Contains(s.expired, stream) && which(stream) {
			s.expired = append(s.expired, stream)
		}
	}
}

func (s *model) snapshot() snapshot {
	floor := s.next - 1
	for stream := range s.pending {
		floor = min(floor, stream-1)
	}

	return snapshot{s.pin, s.last, len(s.pending), s.next - 1, floor}
}

// world is a server with two clients, one of which is pinned.
type world struct {
	model
	saved     model // what the server has on disk
	clients   [2]*sequencer
	pinned    int      // the client
	pins      int      // so far
	published []uint64 // first appearances
	reply     snapshot // the last one, which may be old
	lossy     bool     // an acknowledgement was lost
}

// repin makes the server deliver to a client, from now on.
func (w *world) repin(client int) {
	w.pinned = client
	w.pins++
	w.pin = strconv.Itoa(w.pins)
}

// publish publishes some messages of a client. Their acknowledgements may be lost.
func (w *world) publish(t *rapid.T, client, n int, lost bool) {
	w.lossy = w.lossy || lost
	if client != w.pinned && w.lossy {
		lost = true // The package documentation explains this exception.
	}
	q := w.clients[client]
	batch := q.next(n)

	for _, d := range batch {
		if d.stream <= uint64(len(w.published)) {
			continue
		}
		if d.stream != uint64(len(w.published))+1 {
			t.Fatalf("client %d publishes message %d before message %d", client, d.stream, len(w.published)+1)
		}
		w.published = append(w.published, d.stream)
	}

	q.settle(batch)
	if !lost {
		for _, d := range batch {
			delete(w.pending, d.stream)
		}
	}
}

// receive delivers a message to the pinned client. It may be lost.
func (w *world) receive(lost bool) (ok bool) {
	d, ok := w.deliver()
	if ok && !lost && w.clients[w.pinned].add(d) {
		delete(w.pending, d.stream)
	}

	return ok
}

func TestSequencerKeepsOrder(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		w := world{model: model{messages: 60, next: 1, pending: make(map[uint64]struct{})}}
		w.repin(0)
		w.saved = w.clone()
		w.clients = [2]*sequencer{newSequencer(), newSequencer()}
		client := rapid.IntRange(0, 1)
		often := rapid.SampledFrom([]bool{true, true, true, true, false})

		t.Repeat(map[string]func(*rapid.T){
			"deliver": func(t *rapid.T) {
				for range rapid.IntRange(1, 8).Draw(t, "deliveries") {
					w.receive(!often.Draw(t, "arrives"))
				}
			},
			"publish": func(t *rapid.T) {
				w.publish(t, client.Draw(t, "client"), rapid.IntRange(1, 8).Draw(t, "messages"), !often.Draw(t, "acknowledged"))
			},
			"ask":     func(*rapid.T) { w.reply = w.snapshot() },
			"compare": func(t *rapid.T) { w.clients[client.Draw(t, "client")].compare(w.reply) },
			"expire all": func(*rapid.T) {
				w.expire(func(uint64) bool { return true })
			},
			"expire some": func(t *rapid.T) {
				w.expire(func(uint64) bool { return rapid.Bool().Draw(t, "expires") })
			},
			"pin":           func(t *rapid.T) { w.repin(client.Draw(t, "client")) },
			"kill a client": func(t *rapid.T) { w.clients[client.Draw(t, "client")] = newSequencer() },
			"prune":         func(t *rapid.T) { w.clients[client.Draw(t, "client")].prune(w.snapshot().floor) },
			"save":          func(*rapid.T) { w.saved = w.clone() },
			"restart the server": func(t *rapid.T) {
				w.model = w.saved.clone()
				w.expired, w.lossy = nil, true
				w.repin(client.Draw(t, "client"))
			},
		})

		for range 3 {
			w.expire(func(uint64) bool { return true })
			for w.receive(false) {
			}
			w.clients[w.pinned].compare(w.snapshot())
			w.publish(t, w.pinned, 100, false)
		}
		if n := len(w.published); n != int(w.messages) {
			t.Fatalf("%d messages are published, want %d", n, w.messages)
		}
		if n := len(w.pending); n > 0 {
			t.Fatalf("%d messages aren't acknowledged, want none", n)
		}
	})
}
