package control

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

const (
	// publishAhead is how many messages are decoded ahead of the one that is
	// being published.
	publishAhead = 256
	// ackTogether is the most acknowledgements in one response.
	ackTogether = 256
)

// arrival is what a PublishStream's receiver got: a message, or why it is none.
type arrival struct {
	message *pealv1.PublishStreamRequest
	refused *refusedError // the message could not be decoded
	end     error         // the last arrival: io.EOF, or what gRPC says
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
	arrivals := make(chan arrival, publishAhead)
	if !s.last(func() { receive(stream, arrivals) }) {
		return broker.ErrClosed
	}
	ctx := stream.Context()
	for number := int64(1); ; {
		var (
			acks []*pealv1.PublishAck
			end  error
		)
		select {
		case <-s.draining:
			end = broker.ErrClosed
		case <-ctx.Done():
			end = ctx.Err()
		case a := <-arrivals:
			acks, end = s.acknowledge(ctx, arrivals, a, number)
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
func receive(stream grpc.BidiStreamingServer[pealv1.PublishStreamRequest, pealv1.PublishStreamResponse], arrivals chan<- arrival) {
	for {
		var a arrival
		var err error
		if a.message, err = stream.Recv(); err != nil {
			var ok bool
			if a.refused, ok = errors.AsType[*refusedError](err); !ok {
				a.end = err
			}
		}
		select {
		case arrivals <- a:
		case <-stream.Context().Done():
			return // the call has ended
		}
		if a.end != nil {
			return
		}
	}
}

// acknowledge publishes a, the stream's message of this number, and the
// messages that have arrived behind it. It returns their acknowledgements, and
// how the stream ends if it does.
func (s *Service) acknowledge(ctx context.Context, arrivals <-chan arrival, a arrival, number int64) (acks []*pealv1.PublishAck, end error) {
	for {
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
		case a = <-arrivals:
		default:
			return acks, nil
		}
	}
}

// publishArrival publishes a and fills in its acknowledgement. An error is one
// that ends the stream, as further messages would get it too.
func (s *Service) publishArrival(ctx context.Context, a arrival, ack *pealv1.PublishAck) error {
	receipt, err := s.receiptOf(ctx, a)
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
	ack.Error = refused.publishError()
	return nil
}

func (s *Service) receiptOf(ctx context.Context, a arrival) (broker.Receipt, error) {
	if a.refused != nil {
		return broker.Receipt{}, a.refused
	}
	to, err := audienceOf(a.message)
	if err != nil {
		return broker.Receipt{}, err
	}
	return s.publish(ctx, to, a.message)
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
