package broker

import (
	"errors"
	"hash/maphash"
	"strings"
	"time"
)

// MaxKey is the maximum length of an idempotency or conflate key, in bytes.
const MaxKey = 128

// maxKeys limits how many idempotency keys are remembered. Beyond that, the oldest
// are forgotten early.
const maxKeys = 1 << 16

// ErrKeyUsed is returned for a message whose idempotency key was used for
// another message.
var ErrKeyUsed = errors.New("idempotency_key was used for another message")

// replies remembers the receipts of messages with an idempotency key. It is
// guarded by Broker.mu.
type replies struct {
	window time.Duration
	seed   maphash.Seed
	byKey  map[string]*reply
	order  fifo[*reply]
}

type reply struct {
	key     string
	seq     uint64 // of the event
	message uint64 // a hash of the rest of the message
	receipt Receipt
	at      int64 // Unix nanoseconds, by the log's clock
}

func newReplies(window time.Duration) replies {
	return replies{window: window, seed: maphash.MakeSeed(), byKey: make(map[string]*reply)}
}

// Verdict records what one replica knew about a message's idempotency key when
// it submitted the message. It is stored in the event log with the message, so
// that all replicas give the same reply, even if they have read a longer or
// shorter part of the log and remember more or fewer keys.
type Verdict struct {
	// AsOf is the last event of the log that the replica had applied. Every
	// replica checks later events itself.
	AsOf uint64
	// Repeats is the event with the same message and key; 0 for none.
	Repeats uint64
	// Used means that the key was used for another message.
	Used bool
}

// find looks for an earlier message with m's key and returns its receipt and
// event; event is 0 if there is none. It returns ErrKeyUsed if the key was used
// for another message. The verdict takes precedence for events up to v.AsOf. The
// zero Verdict has no effect.
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

// verdict returns the verdict on m based on what is known now, without AsOf.
func (r *replies) verdict(m *Message, now int64) (v Verdict) {
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

// remember stores the receipt of m, if m has an idempotency key.
func (r *replies) remember(m *Message, event uint64, receipt Receipt, now int64) {
	if m.IdempotencyKey == "" {
		return
	}
	if r.order.len() == maxKeys {
		r.forgetOldest()
	}
	added := &reply{m.IdempotencyKey, event, m.hash(r.seed), receipt, now}
	r.byKey[added.key] = added
	r.order.push(added)
}

// forget removes the replies whose window has passed.
func (r *replies) forget(now int64) {
	for r.order.len() > 0 && now-r.order.at(0).at >= int64(r.window) {
		r.forgetOldest()
	}
}

func (r *replies) forgetOldest() {
	// As a result of a verdict, the key may now belong to a later message.
	if old := r.order.pop(); r.byKey[old.key] == old {
		delete(r.byKey, old.key)
	}
}

// hash returns a hash of everything in m except the idempotency key.
func (m *Message) hash(seed maphash.Seed) uint64 {
	return maphash.Comparable(seed, struct {
		audience              Audience
		topics, exclude       string
		event, data, conflate string
		ttl                   time.Duration
		retain, final         bool
	}{m.Audience, strings.Join(m.Topics, "\x00"), m.ExcludeUser, m.Event, m.Data, m.ConflateKey, m.TTL, m.Retain, m.Final})
}
