package cluster

import (
	"context"

	"github.com/peald/peald/internal/broker"
)

// pending is a message of an order: queued, or rejected with err.
type pending struct {
	submission *submission
	err        error
}

// PublishInOrder publishes messages on all nodes, in order. It returns the results of
// those that have one: nil if the message has been published, now or earlier, or the
// error for which it never will be, as defined by [broker.IsRejection].
//
// If there are fewer results than messages, err is the error that Publish would return
// for the first message without a result. That message, and those after it, may be
// published nevertheless, but none of them without the ones that precede it.
func (n *Node) PublishInOrder(ctx context.Context, messages []broker.Message) (results []error, err error) {
	o := new(order)
	all := make([]pending, 0, len(messages))

	for i := range messages {
		s, err := n.submit(ctx, &messages[i], o)
		all = append(all, pending{s, err})
		if err != nil && !broker.IsRejection(err) {
			n.appender.abandon(o, err)
			break
		}
	}

	results = make([]error, 0, len(messages))
	for _, p := range all {
		err := p.err
		if p.submission != nil {
			_, err = n.appender.wait(ctx, p.submission)
		}
		if err != nil && !broker.IsRejection(err) {
			n.appender.abandon(o, err)
			return results, err
		}
		results = append(results, err)
	}

	return results, nil
}
