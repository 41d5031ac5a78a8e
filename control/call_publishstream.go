package control

import (
	"context"
	"errors"
	"fmt"
	"io"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/peald/peald/control/apierror"
	"github.com/peald/peald/control/rest"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

const (
	// maxReceived and maxReceivedBytes limit the number and the total size of the
	// messages that are decoded in advance. A single message may be larger.
	maxReceived      = 256
	maxReceivedBytes = 1 << 20
	// maxAcks is the maximum number of acknowledgements in one response.
	maxAcks = 256
)

// received is a message from a PublishStream, or the error received instead.
type received struct {
	message  *pealv1.PublishStreamRequest
	rejected *apierror.Error // set if the message could not be decoded
	end      error           // set if the stream ended: io.EOF, or an error from gRPC
	bytes    int64           // the message's share of receiveQueue.bytes
}

// receiveQueue holds messages that have been received but not yet published.
type receiveQueue struct {
	queue chan received
	bytes *semaphore.Weighted
}

func newReceiveQueue() *receiveQueue {
	return &receiveQueue{make(chan received, maxReceived), semaphore.NewWeighted(maxReceivedBytes)}
}

// add waits until the queue has room. It returns false if ctx ends first.
func (q *receiveQueue) add(ctx context.Context, r received) bool {
	r.bytes = int64(min(proto.Size(r.message), maxReceivedBytes))
	if q.bytes.Acquire(ctx, r.bytes) != nil {
		return false
	}

	select {
	case q.queue <- r:
		return true
	case <-ctx.Done():
		return false
	}
}

// PublishStream implements pealv1.ControlServiceServer.
//
// A separate goroutine receives and decodes messages, while this one publishes and
// acknowledges them. It sends acknowledgements once no further message is queued. A
// single message is therefore acknowledged immediately, and a burst of messages in a
// few responses.
func (s *Service) PublishStream(stream grpc.BidiStreamingServer[pealv1.PublishStreamRequest, pealv1.PublishStreamResponse]) error {
	// Some clients don't return the stream to their caller until it has headers.
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}

	queue := newReceiveQueue()
	if !s.startReceiver(func() { receiveMessages(stream, queue) }) {
		return broker.ErrClosed
	}

	ctx := stream.Context()
	number := int64(1)

	defer func() { trace.SpanFromContext(ctx).SetAttributes(attributeMessages.Int64(number - 1)) }()

	for {
		var (
			acks []*pealv1.PublishAck
			end  error
		)

		select {
		case <-s.draining:
			end = broker.ErrClosed
		case <-ctx.Done():
			end = ctx.Err()
		case r := <-queue.queue:
			acks, end = s.publishQueued(ctx, queue, r, number)
		}

		if len(acks) > 0 {
			number += int64(len(acks))
			if err := stream.Send(&pealv1.PublishStreamResponse{Acks: acks}); err != nil {
				return fmt.Errorf("acknowledging: %w", err)
			}
		}

		switch {
		case errors.Is(end, io.EOF):
			return nil
		case end != nil:
			return end
		}
	}
}

// receiveMessages adds the messages from stream to queue until the stream ends.
func receiveMessages(stream grpc.BidiStreamingServer[pealv1.PublishStreamRequest, pealv1.PublishStreamResponse], queue *receiveQueue) {
	for {
		var r received

		var err error
		if r.message, err = stream.Recv(); err != nil {
			var ok bool
			if r.rejected, ok = errors.AsType[*apierror.Error](err); !ok {
				r.end = err
			}
		}

		if !queue.add(stream.Context(), r) || r.end != nil {
			return
		}
	}
}

// publishQueued publishes r, which is the stream's message with the given number, and
// the messages queued after it. It returns their acknowledgements and, if the stream
// ends, the error it ends with.
func (s *Service) publishQueued(ctx context.Context, queue *receiveQueue, r received, number int64) (acks []*pealv1.PublishAck, end error) {
	if p, ok := s.broker.(Pipeline); ok {
		return s.publishPipelined(ctx, p, queue, r, number)
	}

	for {
		queue.bytes.Release(r.bytes)

		if r.end != nil {
			return acks, r.end
		}

		var receipt broker.Receipt

		m, err := messageOf(r)
		if err == nil {
			receipt, err = s.broker.Publish(ctx, m)
		}

		ack, end := s.acknowledge(ctx, number, receipt, err)
		if end != nil {
			return acks, end
		}

		number++
		if acks = append(acks, ack); len(acks) == maxAcks {
			return acks, nil
		}

		select {
		case r = <-queue.queue:
		default:
			return acks, nil
		}
	}
}

// publishPipelined is like publishQueued, but uses a Pipeline: it submits all messages
// before it waits for their receipts.
func (s *Service) publishPipelined(ctx context.Context, p Pipeline, queue *receiveQueue, r received, number int64) (acks []*pealv1.PublishAck, end error) {
	var submitted []func(context.Context) (broker.Receipt, error)

	for more := true; more; {
		queue.bytes.Release(r.bytes)

		if end = r.end; end != nil {
			break
		}

		var wait func(context.Context) (broker.Receipt, error)

		m, err := messageOf(r)
		if err == nil {
			wait, err = p.Submit(ctx, m)
		}

		if err != nil {
			wait = func(context.Context) (broker.Receipt, error) { return broker.Receipt{}, err }
		}

		if submitted = append(submitted, wait); len(submitted) == maxAcks {
			break
		}

		select {
		case r = <-queue.queue:
		default:
			more = false
		}
	}

	for _, wait := range submitted {
		receipt, err := wait(ctx)

		ack, end := s.acknowledge(ctx, number, receipt, err)
		if end != nil {
			return acks, end
		}

		number++

		acks = append(acks, ack)
	}

	return acks, end
}

// acknowledge returns the acknowledgement for a message that was published with receipt
// or rejected with err. If further messages would fail in the same way, it returns end
// instead, an error that ends the stream.
func (s *Service) acknowledge(ctx context.Context, number int64, receipt broker.Receipt, err error) (ack *pealv1.PublishAck, end error) {
	switch {
	case err == nil:
		return &pealv1.PublishAck{Number: number, Id: receipt.ID, Recipients: toInt32(receipt.Recipients)}, nil
	case errors.Is(err, broker.ErrClosed), ctx.Err() != nil:
		return nil, fmt.Errorf("publishing: %w", err)
	}

	rejected := apierror.From(err)
	if rejected == nil {
		s.logFailure(ctx, pealv1.ControlService_PublishStream_FullMethodName, err)
		rejected = apierror.Internal()
	}

	s.metrics.countRejection(rejected)

	return &pealv1.PublishAck{Number: number, Error: rest.PublishError(rejected)}, nil
}

func messageOf(r received) (broker.Message, error) {
	if r.rejected != nil {
		return broker.Message{}, r.rejected
	}

	to, err := audienceOf(r.message.GetAudience(), r.message.GetTopics())
	if err != nil {
		return broker.Message{}, err
	}

	return message(to, r.message)
}
