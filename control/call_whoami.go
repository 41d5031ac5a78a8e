package control

import (
	"context"
	"slices"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// WhoAmI implements pealv1.ControlServiceServer.
func (s *Service) WhoAmI(ctx context.Context, _ *pealv1.WhoAmIRequest) (*pealv1.WhoAmIResponse, error) {
	c, err := s.reloadable.Load().authorizer.authenticate(ctx)
	if err != nil {
		return nil, err
	}

	scopes := slices.Clone(c.scopes)
	if len(scopes) == 0 {
		scopes = []string{ScopePublish, ScopeRead, ScopeData, ScopeTokens, ScopeAdmin}
	}

	return &pealv1.WhoAmIResponse{Name: c.name, Scopes: scopes}, nil
}
