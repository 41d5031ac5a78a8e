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
	seq     uint64 // of the event
	message uint64 // a hash of all else that the message says
	receipt Receipt
	at      int64
}

func newReplies(window time.Duration) replies {
	return replies{window: window, seed: maphash.MakeSeed(), byKey: make(map[string]*reply)}
}

// Verdict is what one replica knew of a message's idempotency key when it handed
// the message in. It stands in the log with the message, so that all replicas
// answer alike, also those that know fewer keys, since they have not read the
// log from where these are, or more.
type Verdict struct {
	// AsOf is the last event of the log that the replica had applied. What
	// has come since, every replica sees for itself.
	AsOf uint64
	// Repeats is the event that had the same message under the key; 0 for none.
	Repeats uint64
	// Used says that another message had the key.
	Used bool
}

// find returns what was answered to an earlier message with m's key, if there
// was one. The verdict decides but for what has come behind it; the zero
// Verdict decides nothing.
func (r *replies) find(m *Message, now int64, v Verdict) (earlier Receipt, event uint64, err error) {
	if m.IdempotencyKey == "" {
		return earlier, 0, nil
	}
	r.forget(now)
	old, known := r.byKey[m.IdempotencyKey]
	switch {
	case known && old.seq > v.AsOf:
		if old.message != m.hash(r.seed) {
			return earlier, 0, ErrKeyUsed
		}
		return old.receipt, old.seq, nil
	case v.Used:
		return earlier, 0, ErrKeyUsed
	case known && old.seq == v.Repeats:
		return old.receipt, old.seq, nil
	}
	return earlier, v.Repeats, nil
}

// judge is the verdict on m by what is known now, but for AsOf.
func (r *replies) judge(m *Message, now int64) (v Verdict) {
	old, known := r.byKey[m.IdempotencyKey]
	switch {
	case !known || now-old.at >= int64(r.window):
	case old.message != m.hash(r.seed):
		v.Used = true
	default:
		v.Repeats = old.seq
	}
	return v
}

func (r *replies) remember(m *Message, event uint64, receipt Receipt, now int64) {
	if m.IdempotencyKey == "" {
		return
	}
	if r.order.len() == maxKeys {
		r.forgetOldest()
	}
	made := &reply{m.IdempotencyKey, event, m.hash(r.seed), receipt, now}
	r.byKey[made.key] = made
	r.order.push(made)
}

// forget lets go the replies whose window has passed.
func (r *replies) forget(now int64) {
	for r.order.len() > 0 && now-r.order.at(0).at >= int64(r.window) {
		r.forgetOldest()
	}
}

func (r *replies) forgetOldest() {
	// By a verdict a key may have got another message since.
	if old := r.order.pop(); r.byKey[old.key] == old {
		delete(r.byKey, old.key)
	}
}

func (m *Message) hash(seed maphash.Seed) uint64 {
	return maphash.Comparable(seed, struct {
		audience              Audience
		event, data, conflate string
		ttl                   time.Duration
	}{m.Audience, m.Event, m.Data, m.ConflateKey, m.TTL})
}
