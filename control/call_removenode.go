package control

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// MembershipError is returned for a node that can't be removed.
type MembershipError struct {
	// Unknown is true if there is no such node. It is false if the node exists but must
	// not be removed.
	Unknown bool
	// Reason is the error message, meant for the operator.
	Reason string
}

func (e *MembershipError) Error() string { return e.Reason }

// APIError implements [apierror.Convertible].
func (e *MembershipError) APIError() *apierror.Error {
	if e.Unknown {
		return apierror.New(codes.NotFound, apierror.ReasonUnknownNode, e.Reason)
	}

	return apierror.New(codes.FailedPrecondition, apierror.ReasonNotRemovable, e.Reason)
}

// maxNodeName is the maximum length of a node's name, in bytes. It is larger than the
// longest possible host name.
const maxNodeName = 300

// RemoveNode implements pealv1.ControlServiceServer.
func (s *Service) RemoveNode(ctx context.Context, req *pealv1.RemoveNodeRequest) (*pealv1.RemoveNodeResponse, error) {
	if n := len(req.GetName()); n == 0 || n > maxNodeName {
		return nil, apierror.Invalid(apierror.Field{Name: "name", Problem: fmt.Sprintf(
			"is %d bytes long; want a node name as shown by Stats, 1 to %d bytes", n, maxNodeName)})
	}

	if s.membership == nil {
		return nil, apierror.New(codes.FailedPrecondition, apierror.ReasonNotRemovable,
			"clustering is disabled (cluster.mode is off)")
	}

	members, err := s.membership.Remove(ctx, req.GetName())
	if err != nil {
		return nil, fmt.Errorf("removing a node: %w", err)
	}

	return &pealv1.RemoveNodeResponse{Members: members}, nil
}
