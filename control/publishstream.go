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

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

const (
	// publishAhead and publishAheadBytes bound what is decoded ahead of the
	// message that is being published. A single one may be larger.
	publishAhead      = 256
	publishAheadBytes = 1 << 20
	// ackTogether is the most acknowledgements in one response.
	ackTogether = 256
)

// arrival is what a PublishStream's receiver got: a message, or why it is none.
type arrival struct {
	message *pealv1.PublishStreamRequest
	refused *refusedError // the message could not be decoded
	end     error         // the last arrival: io.EOF, or what gRPC says
	bytes   int64         // what the message takes of the bytes ahead
}

// arrivals are what has been received and not yet been published.
type arrivals struct {
	queue chan arrival
	room  *semaphore.Weighted // in bytes
}

// add waits for room. It returns false if ctx ends before there is some.
func (q *arrivals) add(ctx context.Context, a arrival) bool {
	a.bytes = int64(min(proto.Size(a.message), publishAheadBytes))
	if q.room.Acquire(ctx, a.bytes) != nil {
		return false
	}
	select {
	case q.queue <- a:
		return true
	case <-ctx.Done():
		return false
	}
}

// PublishStream implements pealv1.ControlServiceServer.
//
// One goroutine receives and decodes, this one publishes and acknowledges. It
// sends what it has to acknowledge once no further message is there, so that
// a single one is acknowledged at once, and many by few responses.
func (s *Service) PublishStream(stream grpc.BidiStreamingServer[pealv1.PublishStreamRequest, pealv1.PublishStreamResponse]) error {
	// There are clients that give no stream to their caller before.
	if err := stream.SendHeader(metadata.MD{}); err != nil {
		return err
	}
	ahead := &arrivals{make(chan arrival, publishAhead), semaphore.NewWeighted(publishAheadBytes)}
	if !s.last(func() { receive(stream, ahead) }) {
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
		case a := <-ahead.queue:
			acks, end = s.acknowledge(ctx, ahead, a, number)
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

// receive hands on what stream receives until it ends.
func receive(stream grpc.BidiStreamingServer[pealv1.PublishStreamRequest, pealv1.PublishStreamResponse], ahead *arrivals) {
	for {
		var a arrival
		var err error
		if a.message, err = stream.Recv(); err != nil {
			var ok bool
			if a.refused, ok = errors.AsType[*refusedError](err); !ok {
				a.end = err
			}
		}
		if !ahead.add(stream.Context(), a) || a.end != nil {
			return
		}
	}
}

// acknowledge publishes a, the stream's message of this number, and the
// messages that have arrived behind it. It returns their acknowledgements, and
// how the stream ends if it does.
func (s *Service) acknowledge(ctx context.Context, ahead *arrivals, a arrival, number int64) (acks []*pealv1.PublishAck, end error) {
	if p, ok := s.broker.(Pipeline); ok {
		return s.acknowledgeTogether(ctx, p, ahead, a, number)
	}
	for {
		ahead.room.Release(a.bytes)
		if a.end != nil {
			return acks, a.end
		}
		ack := &pealv1.PublishAck{Number: number}
		if end := s.publishArrival(ctx, a, ack); end != nil {
			return acks, end
		}
		number++
		if acks = append(acks, ack); len(acks) == ackTogether {
			return acks, nil
		}
		select {
		case a = <-ahead.queue:
		default:
			return acks, nil
		}
	}
}

// acknowledgeTogether is acknowledge for a broker that takes its time: it has
// the messages published together.
func (s *Service) acknowledgeTogether(ctx context.Context, p Pipeline, ahead *arrivals, a arrival, number int64) (acks []*pealv1.PublishAck, end error) {
	var waiting []func(context.Context) (broker.Receipt, error)
	for more := true; more; {
		ahead.room.Release(a.bytes)
		if end = a.end; end != nil {
			break
		}
		m, err := messageOf(a)
		var wait func(context.Context) (broker.Receipt, error)
		if err == nil {
			wait, err = p.Submit(ctx, m)
		}
		if err != nil {
			wait = func(context.Context) (broker.Receipt, error) { return broker.Receipt{}, err }
		}
		if waiting = append(waiting, wait); len(waiting) == ackTogether {
			break
		}
		select {
		case a = <-ahead.queue:
		default:
			more = false
		}
	}
	for _, wait := range waiting {
		ack := &pealv1.PublishAck{Number: number}
		receipt, err := wait(ctx)
		if end := s.fill(ctx, ack, receipt, err); end != nil {
			return acks, end
		}
		number++
		acks = append(acks, ack)
	}
	return acks, end
}

// publishArrival publishes a and fills in its acknowledgement. An error is one
// that ends the stream, as further messages would get it too.
func (s *Service) publishArrival(ctx context.Context, a arrival, ack *pealv1.PublishAck) error {
	var receipt broker.Receipt
	m, err := messageOf(a)
	if err == nil {
		receipt, err = s.broker.Publish(ctx, m)
	}
	return s.fill(ctx, ack, receipt, err)
}

// fill fills in what became of a message. An error is one that ends the stream.
func (s *Service) fill(ctx context.Context, ack *pealv1.PublishAck, receipt broker.Receipt, err error) error {
	switch {
	case err == nil:
		ack.Id, ack.Recipients = receipt.ID, toInt32(receipt.Recipients)
		return nil
	case errors.Is(err, broker.ErrClosed), ctx.Err() != nil:
		return fmt.Errorf("publishing: %w", err)
	}
	refused := refusalOf(err)
	if refused == nil {
		s.logFailure(ctx, pealv1.ControlService_PublishStream_FullMethodName, err)
		refused = internalError()
	}
	s.metrics.refuse(refused)
	ack.Error = refused.publishError()
	return nil
}

func messageOf(a arrival) (broker.Message, error) {
	if a.refused != nil {
		return broker.Message{}, a.refused
	}
	to, err := audienceOf(a.message)
	if err != nil {
		return broker.Message{}, err
	}
	return message(to, a.message)
}

func audienceOf(m *pealv1.PublishStreamRequest) (broker.Audience, error) {
	switch to := m.GetAudience().(type) {
	case *pealv1.PublishStreamRequest_Everyone:
		if to.Everyone {
			return broker.Everyone(), nil
		}
		return broker.Audience{}, invalid(fieldError{"everyone", "is false, and only true is accepted"})
	case *pealv1.PublishStreamRequest_UserId:
		return broker.ToUser(to.UserId), nil
	case *pealv1.PublishStreamRequest_Topic:
		return broker.ToTopic(to.Topic), nil
	}
	return broker.Audience{}, invalid(fieldError{"audience", "is missing: everyone, user_id or topic is to be set"})
}

func (e *refusedError) publishError() *pealv1.PublishError {
	said := &pealv1.PublishError{Code: int32(e.code), Message: e.message, Reason: e.reason}
	for _, f := range e.fields {
		said.FieldViolations = append(said.FieldViolations, &pealv1.FieldViolation{Field: f.name, Description: f.sentence()})
	}
	return said
}
