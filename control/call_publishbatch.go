package control

import (
	"context"

	"go.opentelemetry.io/otel/trace"

	"github.com/peald/peald/control/apierror"
	"github.com/peald/peald/control/rest"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// PublishBatch implements pealv1.ControlServiceServer.
func (s *Service) PublishBatch(ctx context.Context, req *pealv1.PublishBatchRequest) (*pealv1.PublishBatchResponse, error) {
	messages := req.GetMessages()
	if err := rest.CheckBatch(len(messages)); err != nil {
		return nil, err
	}

	trace.SpanFromContext(ctx).SetAttributes(attributeMessages.Int(len(messages)))

	submitted := make([]submission, 0, len(messages))
	for _, m := range messages {
		submitted = append(submitted, s.submit(ctx, m))
	}

	results := make([]*pealv1.PublishResult, 0, len(messages))
	published := false

	for _, wait := range submitted {
		receipt, err := wait(ctx)
		ack, end := s.acknowledge(ctx, 0, receipt, err)

		switch {
		case end == nil:
			published = published || ack.GetError() == nil
		case ctx.Err() != nil, !published:
			return nil, end
		default: // the results of earlier messages must not be lost
			rejected := apierror.From(end)
			s.metrics.countRejection(rejected)
			ack = &pealv1.PublishAck{Error: rest.PublishError(rejected)}
		}

		results = append(results, resultOf(ack))
	}

	return &pealv1.PublishBatchResponse{Results: results}, nil
}

// submission waits for a message to be published.
type submission func(context.Context) (broker.Receipt, error)

// submit publishes a message in a batch. If the broker is a Pipeline, submit doesn't wait
// until the message has been published.
func (s *Service) submit(ctx context.Context, req *pealv1.PublishMessageRequest) submission {
	to, err := audienceOf(req.GetAudience(), req.GetTopics())

	var m broker.Message
	if err == nil {
		m, err = message(to, req)
	}

	if p, ok := s.broker.(Pipeline); ok && err == nil {
		var wait func(context.Context) (broker.Receipt, error)
		if wait, err = p.Submit(ctx, m); err == nil {
			return wait
		}
	}

	var receipt broker.Receipt
	if err == nil {
		receipt, err = s.broker.Publish(ctx, m)
	}

	return func(context.Context) (broker.Receipt, error) { return receipt, err }
}

func resultOf(ack *pealv1.PublishAck) *pealv1.PublishResult {
	if ack.GetError() != nil {
		return &pealv1.PublishResult{ErrorValue: &pealv1.PublishResult_Error{Error: ack.GetError()}}
	}

	return &pealv1.PublishResult{
		IdValue:         &pealv1.PublishResult_Id{Id: ack.GetId()},
		RecipientsValue: &pealv1.PublishResult_Recipients{Recipients: ack.GetRecipients()},
	}
}
