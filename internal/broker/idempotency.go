package broker

import (
	"errors"
	"hash/maphash"
	"time"
)

// MaxKey is the length of the longest idempotency or conflate key, in bytes.
const MaxKey = 128

// maxKeys bounds the idempotency keys that are remembered; past it, the oldest
// are forgotten before their time.
const maxKeys = 1 << 16

// ErrKeyUsed is what the broker answers to a message whose idempotency key
// came with another message before.
var ErrKeyUsed = errors.New("idempotency_key was used for another message")

// replies remembers what was answered to messages with an idempotency key. It
// is guarded by Broker.mu.
type replies struct {
	window time.Duration
	seed   maphash.Seed
	byKey  map[string]*reply
	order  fifo[*reply]
}

type reply struct {
	key     string
	message uint64 // a hash of all else that the message says
	receipt Receipt
	at      int64
}

func newReplies(window time.Duration) replies {
	return replies{window: window, seed: maphash.MakeSeed(), byKey: make(map[string]*reply)}
}

// find returns what was answered to an earlier message with m's key, if there
// was one.
func (r *replies) find(m *Message, now int64) (earlier Receipt, ok bool, err error) {
	if m.IdempotencyKey == "" {
		return earlier, false, nil
	}
	r.forget(now)
	old, ok := r.byKey[m.IdempotencyKey]
	switch {
	case !ok:
		return earlier, false, nil
	case old.message != m.hash(r.seed):
		return earlier, false, ErrKeyUsed
	}
	return old.receipt, true, nil
}

func (r *replies) remember(m *Message, receipt Receipt, now int64) {
	if m.IdempotencyKey == "" {
		return
	}
	if r.order.len() == maxKeys {
		delete(r.byKey, r.order.pop().key)
	}
	made := &reply{m.IdempotencyKey, m.hash(r.seed), receipt, now}
	r.byKey[made.key] = made
	r.order.push(made)
}

// forget lets go the replies whose window has passed.
func (r *replies) forget(now int64) {
	for r.order.len() > 0 && now-r.order.at(0).at >= int64(r.window) {
		delete(r.byKey, r.order.pop().key)
	}
}

func (m *Message) hash(seed maphash.Seed) uint64 {
	return maphash.Comparable(seed, struct {
		audience              Audience
		event, data, conflate string
		ttl                   time.Duration
	}{m.Audience, m.Event, m.Data, m.ConflateKey, m.TTL})
}
