package bench

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// chaosClient is a client whose connection is cut again and again, like a browser
// on a train. One goroutine owns it until the trial has stopped.
type chaosClient struct {
	chaos  *chaos
	stream *resumable
	prefix string // of the data in the trial's messages
	joined bool
	got    []int // message numbers in the order of arrival
}

// run keeps a stream open and cuts it at random until ctx is done.
func (cl *chaosClient) run(ctx context.Context) {
	c := cl.chaos
	for ctx.Err() == nil {
		life := time.Duration(rand.ExpFloat64() * float64(c.cfg.Life))
		if c.settling.Load() {
			life = time.Hour
		}

		end, cut := context.WithCancelCause(ctx)
		until := life
		if !cl.joined {
			// On a busy machine, a TLS handshake can take longer than most lives.
			until = openPatience
		}
		timer := time.AfterFunc(until, func() { cut(context.DeadlineExceeded) })
		err := cl.stream.read(end, 1+rand.IntN(700), cl.onEvent, func() {
			if !cl.joined {
				timer.Reset(life)
			}
			cl.onPosition()
		})
		timer.Stop()
		cut(nil)

		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, context.DeadlineExceeded):
			c.cuts.Add(1)
		default:
			c.rejected.Add(1)
			c.rejection.Store(&err)
		}

		select {
		case <-ctx.Done():
		case <-time.After(rand.N(200 * time.Millisecond)):
		}
	}
}

func (cl *chaosClient) onPosition() {
	if !cl.joined {
		cl.joined = true
		cl.chaos.connected.Add(1)
	}
}

func (cl *chaosClient) onEvent(typ, data []byte) {
	if string(typ) == "peald.reset" {
		cl.chaos.resets.Add(1)
		return
	}
	rest, ok := strings.CutPrefix(string(data), cl.prefix)
	if !ok {
		return // an event from another publisher
	}
	number, _, _ := strings.Cut(rest, " ")
	if n, err := strconv.Atoi(number); err == nil {
		cl.got = append(cl.got, n)
		cl.chaos.received.Add(1)
	}
}
