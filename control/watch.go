package control

import (
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// WatchConnections implements pealv1.ControlServiceServer.
func (s *Service) WatchConnections(_ *pealv1.WatchConnectionsRequest, stream grpc.ServerStreamingServer[pealv1.WatchConnectionsResponse]) error {
	watch, err := s.broker.Watch()
	if err != nil {
		return fmt.Errorf("beginning a watch: %w", err)
	}
	defer watch.Close()
	for _, u := range watch.Present {
		err := stream.Send(&pealv1.WatchConnectionsResponse{Event: &pealv1.WatchConnectionsResponse_Present{Present: user(u)}})
		if err != nil {
			return fmt.Errorf("telling who is present: %w", err)
		}
	}
	err = stream.Send(&pealv1.WatchConnectionsResponse{Event: &pealv1.WatchConnectionsResponse_SnapshotComplete{
		SnapshotComplete: &pealv1.SnapshotComplete{AnonymousConnections: toInt32(watch.Anonymous)},
	}})
	if err != nil {
		return fmt.Errorf("telling who is present: %w", err)
	}
	for {
		select {
		case <-s.draining:
			return broker.ErrClosed
		case <-stream.Context().Done():
			return stream.Context().Err()
		case c, ok := <-watch.C:
			if !ok {
				return watch.Err()
			}
			if err := stream.Send(change(c)); err != nil {
				return fmt.Errorf("telling of a change: %w", err)
			}
		}
	}
}

func change(c broker.Connection) *pealv1.WatchConnectionsResponse {
	at := timestamppb.New(c.At)
	if c.Open {
		return &pealv1.WatchConnectionsResponse{Event: &pealv1.WatchConnectionsResponse_Opened{
			Opened: &pealv1.StreamOpened{UserId: c.User, Connections: toInt32(c.Connections), Time: at},
		}}
	}
	return &pealv1.WatchConnectionsResponse{Event: &pealv1.WatchConnectionsResponse_Ended{
		Ended: &pealv1.StreamEnded{UserId: c.User, Connections: toInt32(c.Connections), Time: at, Reason: c.Reason.String()},
	}}
}
