package control

import (
	"context"
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

// message converts a request to a message for the broker.
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
	if f, ok := req.(interface{ GetFinal() bool }); ok {
		m.Final = f.GetFinal()
	}

	return m, nil
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
	receipt, err := s.publish(ctx, broker.ToTopic(req.GetTopic()), req)
	if err != nil {
		return nil, fmt.Errorf("publishing to a topic: %w", err)
	}

	return &pealv1.PublishResponse{Id: receipt.ID, Recipients: toInt32(receipt.Recipients)}, nil
}
