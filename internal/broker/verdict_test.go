package broker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/peald/peald/internal/broker"
)

// follower is a replica that reads a test's log starting from some entry.
type follower struct {
	*broker.Broker

	from, next int
	answers    map[int]string // by entry
}

func (f *follower) apply(t *rapid.T, log []broker.Entry, upTo int) {
	for ; f.next < upTo; f.next++ {
		entry := log[f.next]
		r, err := f.Apply(context.Background(), &entry)
		switch {
		case errors.Is(err, broker.ErrKeyUsed):
			f.answers[f.next] = "used"
		case err != nil:
			t.Fatal(err)
		default:
			f.answers[f.next] = r.ID
		}
	}
}

// TestReplicasAgreeFromAnyStart has replicas that have read different parts of
// the log submit messages with a few keys. Other replicas start later and never
// read the beginning of the log. All of them must give the same reply to every
// entry, unless the entry's verdict depends on an entry that a replica hasn't read.
func TestReplicasAgreeFromAnyStart(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var log []broker.Entry
		now := time.Now()
		begin := func(from int) *follower {
			f := &follower{Broker: replica(), from: from, next: from, answers: make(map[int]string)}
			f.Begin("abc", uint64(from+1))
			return f
		}

		all := []*follower{begin(0), begin(0)}
		defer func() {
			for _, f := range all {
				f.Close()
			}
		}()

		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			// The log's clock runs ahead of the replicas'. The window is a minute.
			now = now.Add(time.Duration(rapid.IntRange(0, 30).Draw(rt, "seconds")) * time.Second)
			f := rapid.SampledFrom(all).Draw(rt, "replica")
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0:
				if len(all) < 5 {
					all = append(all, begin(rapid.IntRange(0, len(log)).Draw(rt, "from")))
				}
			case 1, 2:
				f.apply(rt, log, rapid.IntRange(f.next, len(log)).Draw(rt, "up to"))
			default:
				m := toAll(fmt.Sprint("data ", rapid.IntRange(0, 1).Draw(rt, "data")))
				m.IdempotencyKey = fmt.Sprint("key ", rapid.IntRange(0, 2).Draw(rt, "key"))
				_, verdicts := f.Verdicts([]*broker.Message{&m})
				log = append(log, broker.Entry{Seq: uint64(len(log) + 1), At: now, Message: m, Verdict: verdicts[0]})
			}
		}

		for _, f := range all {
			f.apply(rt, log, len(log))
		}

		for _, f := range all[1:] {
			unsure := uint64(f.from) // the last entry that depends on one that f has not read
			for i := f.from; i < len(log); i++ {
				if log[i].Verdict.AsOf < unsure {
					unsure = log[i].Seq
					continue
				}
				if a, b := all[0].answers[i], f.answers[i]; a != b {
					rt.Fatalf("entry %d, %+v: the reply is %q for the replica that has read everything, and %q for the one that started at %d", i+1, log[i], a, b, f.from)
				}
			}
		}
	})
}
