package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/auth"
	"github.com/peald/peald/internal/broker"
)

// defaultTokenTTL is the lifetime of a token if the request has no ttl.
const defaultTokenTTL = time.Hour

// CreateToken implements pealv1.ControlServiceServer.
func (s *Service) CreateToken(_ context.Context, req *pealv1.CreateTokenRequest) (*pealv1.CreateTokenResponse, error) {
	var invalid []apierror.Field
	if err := broker.ValidUserID(req.GetUserId()); err != nil {
		invalid = append(invalid, apierror.From(err).Fields...)
	}

	ttl, invalidTTL := durationOf("ttl", req.GetTtl(), defaultTokenTTL)
	if invalidTTL != nil {
		invalid = append(invalid, *invalidTTL)
	}

	invalid = append(invalid, invalidPatterns(req.GetTopics())...)
	if len(invalid) > 0 {
		return nil, apierror.Invalid(invalid...)
	}

	minter := s.reloadable.Load().minter
	if minter == nil {
		return nil, apierror.New(codes.FailedPrecondition, apierror.ReasonNoSigningKey,
			"the daemon has no signing key; set auth.jwt.hmac_secret")
	}

	token, expires, err := minter.Mint(req.GetUserId(), req.GetTopics(), ttl)
	if err != nil {
		return nil, fmt.Errorf("creating a token: %w", err)
	}

	if len(token) > auth.MaxToken {
		return nil, apierror.Invalid(apierror.Field{Name: "topics", Problem: fmt.Sprintf(
			"make the token %d bytes long; want at most %d (use patterns to cover many topics)", len(token), auth.MaxToken)})
	}

	return &pealv1.CreateTokenResponse{Token: token, ExpiresAt: timestamppb.New(expires)}, nil
}

// invalidPatterns returns the invalid topics and patterns in patterns.
func invalidPatterns(patterns []string) (fields []apierror.Field) {
	if len(patterns) > broker.MaxTopics {
		return []apierror.Field{{Name: "topics", Problem: fmt.Sprintf("has %d entries; want at most %d", len(patterns), broker.MaxTopics)}}
	}

	for i, p := range patterns {
		if invalid, ok := errors.AsType[*broker.InvalidError](broker.ValidPattern(p)); ok {
			fields = append(fields, apierror.Field{Name: fmt.Sprintf("topics[%d]", i), Problem: invalid.Reason})
		}
	}

	return fields[:min(len(fields), apierror.MaxFields)]
}
