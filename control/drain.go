package control

import (
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// drainReport is the time between two reports of how far a drain is.
const drainReport = 100 * time.Millisecond

// Drain implements pealv1.ControlServiceServer.
func (s *Service) Drain(_ *pealv1.DrainRequest, stream grpc.ServerStreamingServer[pealv1.DrainResponse]) error {
	if s.end == nil {
		return refuse(codes.FailedPrecondition, reasonNotEndable, "this daemon can't be ended by a call")
	}
	s.end()
	tick := time.NewTicker(drainReport)
	defer tick.Stop()
	for {
		left := s.broker.Stats().Total.Connections
		if err := stream.Send(&pealv1.DrainResponse{Connections: toInt32(left)}); err != nil {
			return fmt.Errorf("telling how far the drain is: %w", err)
		}
		if left == 0 {
			return nil
		}
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-tick.C:
		}
	}
}
