package control

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// publishRequest provides the fields that publish requests for all audiences have in
// common.
type publishRequest interface {
	GetData() string
	GetEvent() string
	GetIdempotencyKey() string
	GetTtl() *durationpb.Duration
	GetConflateKey() string
	GetRetain() bool
}

// message converts a request to a message for the broker. to is the request's audience,
// or the zero Audience if its topics determine that.
func message(to broker.Audience, req publishRequest) (broker.Message, error) {
	ttl, invalid := durationOf("ttl", req.GetTtl(), 0)
	if invalid != nil {
		return broker.Message{}, apierror.Invalid(*invalid)
	}

	m := broker.Message{
		Audience:       to,
		Event:          req.GetEvent(),
		Data:           req.GetData(),
		IdempotencyKey: req.GetIdempotencyKey(),
		ConflateKey:    req.GetConflateKey(),
		TTL:            ttl,
		Retain:         req.GetRetain(),
	}
	if r, ok := req.(interface{ GetFinal() bool }); ok {
		m.Final = r.GetFinal()
	}

	if r, ok := req.(interface{ GetExcludeUserId() string }); ok {
		m.ExcludeUser = r.GetExcludeUserId()
	}

	if r, ok := req.(interface{ GetTopics() []string }); ok && len(r.GetTopics()) > 0 {
		if invalid := setTopics(&m, r.GetTopics()); invalid != nil {
			return broker.Message{}, apierror.Invalid(*invalid)
		}
	}

	return m, nil
}

// setTopics makes m a message for the given topics, in addition to its audience if that
// is a topic. If they are invalid, it returns a description of the problem.
func setTopics(m *broker.Message, topics []string) *apierror.Field {
	if len(topics) > broker.MaxTopics {
		return &apierror.Field{Name: "topics", Problem: fmt.Sprintf("has %d topics; want at most %d", len(topics), broker.MaxTopics)}
	}

	for i, name := range topics {
		if invalid, ok := errors.AsType[*broker.InvalidError](broker.ValidTopic(name)); ok {
			return &apierror.Field{Name: fmt.Sprintf("topics[%d]", i), Problem: invalid.Reason}
		}
	}

	if m.Audience != (broker.Audience{}) {
		first, ok := m.Audience.Topic()
		if !ok {
			return &apierror.Field{Name: "topics", Problem: "can't be combined with everyone or user_id; set topic, topics or both"}
		}

		topics = append([]string{first}, topics...)
	}

	m.SetTopics(topics)

	return nil
}

func (s *Service) publish(ctx context.Context, to broker.Audience, req publishRequest) (broker.Receipt, error) {
	m, err := message(to, req)
	if err != nil {
		return broker.Receipt{}, err
	}

	return s.broker.Publish(ctx, m)
}

// Broadcast implements pealv1.ControlServiceServer.
func (s *Service) Broadcast(ctx context.Context, req *pealv1.BroadcastRequest) (*pealv1.BroadcastResponse, error) {
	receipt, err := s.publish(ctx, broker.Everyone(), req)
	if err != nil {
		return nil, fmt.Errorf("broadcasting: %w", err)
	}

	return &pealv1.BroadcastResponse{Id: receipt.ID, Recipients: toInt32(receipt.Recipients)}, nil
}

// SendToUser implements pealv1.ControlServiceServer.
func (s *Service) SendToUser(ctx context.Context, req *pealv1.SendToUserRequest) (*pealv1.SendToUserResponse, error) {
	receipt, err := s.publish(ctx, broker.ToUser(req.GetUserId()), req)
	if err != nil {
		return nil, fmt.Errorf("sending to a user: %w", err)
	}

	return &pealv1.SendToUserResponse{Id: receipt.ID, Recipients: toInt32(receipt.Recipients)}, nil
}

// Publish implements pealv1.ControlServiceServer.
func (s *Service) Publish(ctx context.Context, req *pealv1.PublishRequest) (*pealv1.PublishResponse, error) {
	to := broker.ToTopic(req.GetTopic())
	if req.GetTopic() == "" && len(req.GetTopics()) > 0 {
		to = broker.Audience{}
	}

	receipt, err := s.publish(ctx, to, req)
	if err != nil {
		return nil, fmt.Errorf("publishing to topics: %w", err)
	}

	return &pealv1.PublishResponse{Id: receipt.ID, Recipients: toInt32(receipt.Recipients)}, nil
}

// PublishMessage implements pealv1.ControlServiceServer.
func (s *Service) PublishMessage(ctx context.Context, req *pealv1.PublishMessageRequest) (*pealv1.PublishMessageResponse, error) {
	to, err := audienceOf(req.GetAudience(), req.GetTopics())
	if err != nil {
		return nil, err
	}

	receipt, err := s.publish(ctx, to, req)
	if err != nil {
		return nil, fmt.Errorf("publishing a message: %w", err)
	}

	return &pealv1.PublishMessageResponse{Id: receipt.ID, Recipients: toInt32(receipt.Recipients)}, nil
}

// audienceOf returns the audience in a request to publish, or the zero Audience if the
// request has only topics.
func audienceOf(audience any, topics []string) (broker.Audience, error) {
	switch to := audience.(type) {
	case *pealv1.PublishStreamRequest_Everyone:
		return everyoneIf(to.Everyone)
	case *pealv1.PublishMessageRequest_Everyone:
		return everyoneIf(to.Everyone)
	case *pealv1.PublishStreamRequest_UserId:
		return broker.ToUser(to.UserId), nil
	case *pealv1.PublishMessageRequest_UserId:
		return broker.ToUser(to.UserId), nil
	case *pealv1.PublishStreamRequest_Topic:
		return broker.ToTopic(to.Topic), nil
	case *pealv1.PublishMessageRequest_Topic:
		return broker.ToTopic(to.Topic), nil
	}

	if len(topics) > 0 {
		return broker.Audience{}, nil
	}

	return broker.Audience{}, apierror.Invalid(apierror.Field{Name: "audience", Problem: "is missing; set everyone, user_id, topic or topics"})
}

func everyoneIf(everyone bool) (broker.Audience, error) {
	if everyone {
		return broker.Everyone(), nil
	}

	return broker.Audience{}, apierror.Invalid(apierror.Field{Name: "everyone", Problem: onlyTrue})
}
