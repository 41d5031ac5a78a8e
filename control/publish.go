package control

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// outgoing is what all messages have, whomever they are for.
type outgoing interface {
	GetData() string
	GetEvent() string
	GetIdempotencyKey() string
	GetTtl() *durationpb.Duration
	GetConflateKey() string
}

// message is m as the broker takes it.
func message(to broker.Audience, m outgoing) (broker.Message, error) {
	ttl, wrong := lasting("ttl", m.GetTtl(), 0)
	if wrong != nil {
		return broker.Message{}, invalid(*wrong)
	}
	return broker.Message{
		Audience:       to,
		Event:          m.GetEvent(),
		Data:           m.GetData(),
		IdempotencyKey: m.GetIdempotencyKey(),
		ConflateKey:    m.GetConflateKey(),
		TTL:            ttl,
	}, nil
}

// publish has the broker publish a message.
func (s *Service) publish(ctx context.Context, to broker.Audience, m outgoing) (broker.Receipt, error) {
	out, err := message(to, m)
	if err != nil {
		return broker.Receipt{}, err
	}
	return s.broker.Publish(ctx, out)
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
	receipt, err := s.publish(ctx, broker.ToTopic(req.GetTopic()), req)
	if err != nil {
		return nil, fmt.Errorf("publishing to a topic: %w", err)
	}
	return &pealv1.PublishResponse{Id: receipt.ID, Recipients: toInt32(receipt.Recipients)}, nil
}

// longest is the longest that anything can be asked to last.
const longest = 365 * 24 * time.Hour

// lasting is a duration out of a request, or what is wrong with it.
func lasting(field string, d *durationpb.Duration, absent time.Duration) (time.Duration, *fieldError) {
	if d == nil {
		return absent, nil
	}
	const accepted = "more than 0s and at most 365 days (31536000s) are accepted"
	if d.CheckValid() != nil {
		return 0, &fieldError{field, "is no valid duration, " + accepted}
	}
	lasts := d.AsDuration()
	if lasts <= 0 || lasts > longest {
		return 0, &fieldError{field, fmt.Sprintf("is %s, %s", lasts, accepted)}
	}
	return lasts, nil
}
