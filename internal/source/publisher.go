package source

import (
	"context"

	"github.com/peald/peald/internal/broker"
)

// Publisher publishes messages. Its methods must be safe for concurrent use.
type Publisher interface {
	// Ready returns nil if messages can currently be published, and otherwise an error
	// that states why not.
	Ready() error
	// PublishInOrder publishes messages in order. It returns the results of those that
	// have one: nil if the message has been published, now or earlier, or the error for
	// which it never will be.
	//
	// If there are fewer results than messages, err states why. The first message
	// without a result may be published nevertheless, and so may those after it, but none
	// of them before the ones that precede it. A *[broker.UnavailableError] is temporary:
	// the caller may pass the messages without a result again.
	PublishInOrder(ctx context.Context, messages []broker.Message) (results []error, err error)
}

// LocalPublisher is a [Publisher] for a broker that isn't part of a cluster. Such a
// broker publishes a message at once or rejects it.
type LocalPublisher struct {
	Broker interface {
		Publish(ctx context.Context, m broker.Message) (broker.Receipt, error)
	}
}

// Ready implements [Publisher].
func (LocalPublisher) Ready() error { return nil }

// PublishInOrder implements [Publisher].
func (p LocalPublisher) PublishInOrder(ctx context.Context, messages []broker.Message) (results []error, err error) {
	results = make([]error, 0, len(messages))

	for _, m := range messages {
		_, err := p.Broker.Publish(ctx, m)
		if err != nil && !broker.IsRejection(err) {
			return results, err
		}
		results = append(results, err)
	}

	return results, nil
}
