package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/auth"
	"github.com/peald/peald/internal/broker"
)

// defaultTokenTTL is how long a token is good where its request doesn't say.
const defaultTokenTTL = time.Hour

// Disconnect implements pealv1.ControlServiceServer.
func (s *Service) Disconnect(ctx context.Context, req *pealv1.DisconnectRequest) (*pealv1.DisconnectResponse, error) {
	resp, err := s.disconnectOwn(req)
	if err != nil {
		return nil, err
	}
	resp.MissingNodes, err = askOthers(ctx, s, pealv1.ControlService_Disconnect_FullMethodName, req,
		func(_ string, other *pealv1.DisconnectResponse) { resp.Connections += other.GetConnections() })
	if err != nil {
		return nil, fmt.Errorf("disconnecting a user: %w", err)
	}
	return resp, nil
}

// disconnectOwn is Disconnect of the streams that this daemon holds.
func (s *Service) disconnectOwn(req *pealv1.DisconnectRequest) (*pealv1.DisconnectResponse, error) {
	stayAway, wrong := lasting("for", req.GetFor(), 0)
	if wrong != nil {
		return nil, invalid(*wrong)
	}
	ended, err := s.broker.Disconnect(req.GetUserId(), stayAway)
	if err != nil {
		return nil, fmt.Errorf("disconnecting a user: %w", err)
	}
	return &pealv1.DisconnectResponse{Connections: toInt32(ended)}, nil
}

// CreateToken implements pealv1.ControlServiceServer.
func (s *Service) CreateToken(_ context.Context, req *pealv1.CreateTokenRequest) (*pealv1.CreateTokenResponse, error) {
	var wrong []fieldError
	if err := broker.ValidUserID(req.GetUserId()); err != nil {
		wrong = append(wrong, refusalOf(err).fields...)
	}
	ttl, unfit := lasting("ttl", req.GetTtl(), defaultTokenTTL)
	if unfit != nil {
		wrong = append(wrong, *unfit)
	}
	wrong = append(wrong, wrongPatterns(req.GetTopics())...)
	if len(wrong) > 0 {
		return nil, invalid(wrong...)
	}
	minter := s.rules.Load().minter
	if minter == nil {
		return nil, refuse(codes.FailedPrecondition, reasonNoSigningKey,
			"the daemon has no key to sign tokens with: auth.jwt.hmac_secret is to be set")
	}
	token, expires, err := minter.Mint(req.GetUserId(), req.GetTopics(), ttl)
	if err != nil {
		return nil, fmt.Errorf("creating a token: %w", err)
	}
	if len(token) > auth.MaxToken {
		return nil, invalid(fieldError{"topics", fmt.Sprintf("make a token of %d bytes, at most %d are accepted; a pattern can stand for many topics", len(token), auth.MaxToken)})
	}
	return &pealv1.CreateTokenResponse{Token: token, ExpiresAt: timestamppb.New(expires)}, nil
}

// wrongPatterns says what is wrong with the topics and patterns of a token.
func wrongPatterns(patterns []string) (wrong []fieldError) {
	if len(patterns) > broker.MaxTopics {
		return []fieldError{{"topics", fmt.Sprintf("are %d, at most %d are accepted", len(patterns), broker.MaxTopics)}}
	}
	for i, p := range patterns {
		if invalid, ok := errors.AsType[*broker.InvalidError](broker.ValidPattern(p)); ok {
			wrong = append(wrong, fieldError{fmt.Sprintf("topics[%d]", i), invalid.Reason})
		}
	}
	return wrong[:min(len(wrong), maxWrong)]
}
