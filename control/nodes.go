package control

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// Membership is what the control plane needs of a cluster that counts its
// nodes. Its methods may be called at the same time.
type Membership interface {
	// Remove has the cluster no longer count a node that is gone for good, and
	// returns the names of those that it counts then, in order. Besides those
	// of [Broker] it returns a *MembershipError.
	Remove(ctx context.Context, name string) (left []string, err error)
}

// MembershipError says why a node was not removed.
type MembershipError struct {
	// Unknown says that there is no such node. Otherwise it is not to be
	// removed.
	Unknown bool
	// Reason is a sentence for the operator.
	Reason string
}

func (e *MembershipError) Error() string { return e.Reason }

// refusal is the error as callers see it.
func (e *MembershipError) refusal() *refusedError {
	if e.Unknown {
		return refuse(codes.NotFound, reasonUnknownNode, e.Reason)
	}
	return refuse(codes.FailedPrecondition, reasonNotRemovable, e.Reason)
}

// maxNodeName is the most bytes that the name of a node may have: a host's name
// and some more.
const maxNodeName = 300

// RemoveNode implements pealv1.ControlServiceServer.
func (s *Service) RemoveNode(ctx context.Context, req *pealv1.RemoveNodeRequest) (*pealv1.RemoveNodeResponse, error) {
	if n := len(req.GetName()); n == 0 || n > maxNodeName {
		return nil, invalid(fieldError{"name", fmt.Sprintf("has %d bytes, the name of a node as Stats has it is accepted, 1 to %d bytes", n, maxNodeName)})
	}
	if s.membership == nil {
		return nil, refuse(codes.FailedPrecondition, reasonNotRemovable, "the daemon is of no cluster: its cluster.mode is off")
	}
	left, err := s.membership.Remove(ctx, req.GetName())
	if err != nil {
		return nil, fmt.Errorf("removing a node: %w", err)
	}
	return &pealv1.RemoveNodeResponse{Members: left}, nil
}
