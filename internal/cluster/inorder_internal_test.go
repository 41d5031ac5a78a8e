package cluster

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	clusterv1 "github.com/peald/peald/gen/peal/cluster/v1"
	"github.com/peald/peald/internal/broker"
)

// orderTest is an appender, and an order whose messages are submitted to it.
type orderTest struct {
	*appender

	order *order
}

func (o *orderTest) submitted(t *testing.T, in *order) *submission {
	t.Helper()
	s, err := o.submit(t.Context(), nil, &clusterv1.Message{Data: "x"}, in, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantBroken checks that no further message of the order is appended, and that other
// messages are.
func (o *orderTest) wantBroken(t *testing.T, queued *submission) {
	t.Helper()
	other := o.submitted(t, nil)
	if batch := o.take(1 << 20); len(batch) != 1 || batch[0] != other {
		t.Errorf("the next batch has %d messages, want only the one that isn't part of the order", len(batch))
	}
	if queued != nil {
		select {
		case r := <-queued.done:
			if r.err == nil {
				t.Error("a later message has been published")
			}
		default:
			t.Error("a later message has no result")
		}
	}
	if _, err := o.submit(t.Context(), nil, &clusterv1.Message{Data: "x"}, o.order, 1<<20); err == nil {
		t.Error("the broken order accepts messages")
	}
	if _, err := o.submit(t.Context(), nil, &clusterv1.Message{Data: "x"}, new(order), 1<<20); err != nil {
		t.Errorf("another order rejects messages: %v", err)
	}
}

// TestOrders checks that no message of an order is appended once an earlier one has
// failed, for whatever reason.
func TestOrders(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(t *testing.T, o *orderTest) (queued *submission){
		"given up": func(t *testing.T, o *orderTest) *submission {
			o.submitted(t, o.order)
			o.launch(1, o.take(1<<20))
			queued := o.submitted(t, o.order)
			o.giveUp(1, nil)
			return queued
		},
		"suspended while in flight": func(t *testing.T, o *orderTest) *submission {
			o.submitted(t, o.order)
			o.launch(1, o.take(1<<20))
			o.suspend("disk full")
			o.resume()
			return nil
		},
		"suspended while queued": func(t *testing.T, o *orderTest) *submission {
			o.submitted(t, o.order)
			o.suspend("disk full")
			o.resume()
			return nil
		},
		"suspended before the launch": func(t *testing.T, o *orderTest) *submission {
			o.submitted(t, o.order)
			batch := o.take(1 << 20)
			o.suspend("disk full")
			o.launch(1, batch)
			o.resume()
			return nil
		},
		"suspended before it was submitted": func(t *testing.T, o *orderTest) *submission {
			o.suspend("disk full")
			if _, err := o.submit(t.Context(), nil, &clusterv1.Message{Data: "x"}, o.order, 1<<20); err == nil {
				t.Error("accepted while suspended")
			}
			o.resume()
			return nil
		},
		"late": func(t *testing.T, o *orderTest) *submission {
			s := o.submitted(t, o.order)
			o.launch(1, o.take(1<<20))
			queued := o.submitted(t, o.order)
			time.Sleep(appendTimeout + time.Second)
			if _, err := o.wait(t.Context(), s); err == nil {
				t.Error("no timeout")
			}
			return queued
		},
		"publisher gone": func(t *testing.T, o *orderTest) *submission {
			s := o.submitted(t, o.order)
			queued := o.submitted(t, o.order)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := o.wait(ctx, s); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want canceled", err)
			}
			return queued
		},
		"abandoned": func(t *testing.T, o *orderTest) *submission {
			queued := o.submitted(t, o.order)
			o.abandon(o.order, broker.ErrClosed)
			return queued
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := &orderTest{newAppender(1), new(order)}
				o.wantBroken(t, fail(t, o))
			})
		})
	}
}
