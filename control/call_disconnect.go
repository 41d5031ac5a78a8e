package control

import (
	"context"
	"fmt"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// Disconnect implements pealv1.ControlServiceServer.
func (s *Service) Disconnect(ctx context.Context, req *pealv1.DisconnectRequest) (*pealv1.DisconnectResponse, error) {
	resp, err := s.localDisconnect(req)
	if err != nil {
		return nil, err
	}

	resp.MissingNodes, err = queryOthers(ctx, s, pealv1.ControlService_Disconnect_FullMethodName, req,
		func(_ string, other *pealv1.DisconnectResponse) { resp.Connections += other.GetConnections() })
	if err != nil {
		return nil, fmt.Errorf("disconnecting a user: %w", err)
	}

	return resp, nil
}

// localDisconnect is like Disconnect, but covers only this daemon's streams.
func (s *Service) localDisconnect(req *pealv1.DisconnectRequest) (*pealv1.DisconnectResponse, error) {
	ban, invalid := durationOf("for", req.GetFor(), 0)
	if invalid != nil {
		return nil, apierror.Invalid(*invalid)
	}

	closed, err := s.broker.Disconnect(req.GetUserId(), ban)
	if err != nil {
		return nil, fmt.Errorf("disconnecting a user: %w", err)
	}

	return &pealv1.DisconnectResponse{Connections: toInt32(closed)}, nil
}
