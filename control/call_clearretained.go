package control

import (
	"context"
	"fmt"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// ClearRetained implements pealv1.ControlServiceServer.
func (s *Service) ClearRetained(ctx context.Context, req *pealv1.ClearRetainedRequest) (*pealv1.ClearRetainedResponse, error) {
	var c broker.Clear
	if key, ok := req.GetConflateKeyValue().(*pealv1.ClearRetainedRequest_ConflateKey); ok {
		c.ConflateKey = &key.ConflateKey
	}

	switch to := req.GetAudience().(type) {
	case *pealv1.ClearRetainedRequest_Everyone:
		if !to.Everyone {
			return nil, apierror.Invalid(apierror.Field{Name: "everyone", Problem: onlyTrue})
		}

		c.Audience = broker.Everyone()
	case *pealv1.ClearRetainedRequest_UserId:
		c.Audience = broker.ToUser(to.UserId)
	case *pealv1.ClearRetainedRequest_Topic:
		c.Audience = broker.ToTopic(to.Topic)
	case *pealv1.ClearRetainedRequest_All:
		if !to.All {
			return nil, apierror.Invalid(apierror.Field{Name: "all", Problem: onlyTrue})
		}

		c.All = true
	default:
		return nil, apierror.Invalid(apierror.Field{Name: "audience", Problem: "is missing; set everyone, user_id, topic or all"})
	}

	cleared, err := s.broker.ClearRetained(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("clearing retained values: %w", err)
	}

	return &pealv1.ClearRetainedResponse{Cleared: toInt32(cleared)}, nil
}
