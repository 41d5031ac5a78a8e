package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// feedUser is the user that feeds publish to.
const feedUser = "alice"

// feedTopics returns the topics of clients that receive feeds.
func feedTopics() []string { return []string{"orders", "rooms.*"} }

// feed publishes numbered events to topics, a user and everyone in turn. It isn't safe
// for concurrent use, except for events.
type feed struct {
	control pealv1.ControlServiceClient

	mu   sync.Mutex
	sent []sentEvent
}

// sentEvent is an event that was acknowledged.
type sentEvent struct {
	id, typ, topic, audience, data string

	began, acknowledged time.Time
}

// events returns what was published so far.
func (f *feed) events() []sentEvent {
	f.mu.Lock()
	defer f.mu.Unlock()

	return slices.Clone(f.sent)
}

// publish publishes n events.
func (f *feed) publish(t *testing.T, n int) {
	t.Helper()

	for range n {
		if err := f.publishNext(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// publishNext publishes an event. If the cluster can't accept it at the moment, it tries
// again with the same idempotency key.
func (f *feed) publishNext(ctx context.Context) error {
	n := len(f.sent)
	e := sentEvent{data: fmt.Sprintf(`{"n":%d}`, n), began: time.Now()}

	for {
		id, err := f.call(ctx, n, &e)
		if status.Code(err) == codes.Unavailable && ctx.Err() == nil {
			continue
		}

		if err != nil {
			return fmt.Errorf("publish event %d: %w", n, err)
		}

		e.id, e.acknowledged = id, time.Now()

		f.mu.Lock()
		f.sent = append(f.sent, e)
		f.mu.Unlock()

		return nil
	}
}

// call publishes an event once, and sets its type and audience.
func (f *feed) call(ctx context.Context, n int, e *sentEvent) (id string, err error) {
	key := fmt.Sprint("event ", n)
	// The connection may still be waiting to be established again.
	wait := grpc.WaitForReady(true)

	const audiences = 4
	switch n % audiences {
	case 0:
		e.typ, e.topic, e.audience = "topic", "orders", "topic"
		reply, err := f.control.Publish(ctx, &pealv1.PublishRequest{Topic: e.topic, Data: e.data, IdempotencyKey: key}, wait)

		return reply.GetId(), err
	case 1:
		e.typ, e.topic, e.audience = "moved", fmt.Sprint("rooms.", n), "topic"
		reply, err := f.control.Publish(ctx, &pealv1.PublishRequest{Topic: e.topic, Event: e.typ, Data: e.data, IdempotencyKey: key}, wait)

		return reply.GetId(), err
	case 2:
		e.typ, e.audience = "individual", "user"
		reply, err := f.control.SendToUser(ctx, &pealv1.SendToUserRequest{UserId: feedUser, Data: e.data, IdempotencyKey: key}, wait)

		return reply.GetId(), err
	default:
		e.typ, e.audience = "broadcast", "broadcast"
		reply, err := f.control.Broadcast(ctx, &pealv1.BroadcastRequest{Data: e.data, IdempotencyKey: key}, wait)

		return reply.GetId(), err
	}
}

// flow publishes an event every interval until stop is called.
func (f *feed) flow(t *testing.T, interval time.Duration) (stop func()) {
	t.Helper()

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})

	go func() {
		defer close(done)

		for tick := time.NewTicker(interval); ; {
			// A call that is canceled may have published its event.
			if err := f.publishNext(context.WithoutCancel(ctx)); err != nil {
				t.Error(err)

				return
			}

			select {
			case <-tick.C:
			case <-ctx.Done():
				tick.Stop()

				return
			}
		}
	}()

	return sync.OnceFunc(func() {
		cancel()
		<-done
	})
}
