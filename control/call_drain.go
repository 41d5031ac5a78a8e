package control

import (
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// drainInterval is the time between two reports of a drain's progress.
const drainInterval = 100 * time.Millisecond

// Drain implements pealv1.ControlServiceServer.
func (s *Service) Drain(_ *pealv1.DrainRequest, stream grpc.ServerStreamingServer[pealv1.DrainResponse]) error {
	if s.drain == nil {
		return apierror.New(codes.FailedPrecondition, apierror.ReasonNotEndable, "this daemon doesn't support draining through the API")
	}

	s.drain()

	tick := time.NewTicker(drainInterval)
	defer tick.Stop()

	for {
		open := s.broker.Stats().Total.Connections
		if err := stream.Send(&pealv1.DrainResponse{Connections: toInt32(open)}); err != nil {
			return fmt.Errorf("reporting the progress of the drain: %w", err)
		}

		if open == 0 {
			return nil
		}

		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-tick.C:
		}
	}
}
