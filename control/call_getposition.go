package control

import (
	"context"
	"fmt"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// GetPosition implements pealv1.ControlServiceServer.
func (s *Service) GetPosition(context.Context, *pealv1.GetPositionRequest) (*pealv1.GetPositionResponse, error) {
	id, err := s.broker.Position()
	if err != nil {
		return nil, fmt.Errorf("reading the position: %w", err)
	}
	return &pealv1.GetPositionResponse{Id: id}, nil
}
