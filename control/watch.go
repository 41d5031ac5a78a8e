package control

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// WatchConnections implements pealv1.ControlServiceServer.
func (s *Service) WatchConnections(_ *pealv1.WatchConnectionsRequest, stream grpc.ServerStreamingServer[pealv1.WatchConnectionsResponse]) error {
	if s.cluster != nil {
		return s.watchCluster(stream.Context(), stream.Send)
	}
	return s.watchOwn(stream.Context(), stream.Send)
}

// watchOwn tells of the streams that this daemon holds.
func (s *Service) watchOwn(ctx context.Context, send func(*pealv1.WatchConnectionsResponse) error) error {
	watch, err := s.broker.Watch()
	if err != nil {
		return fmt.Errorf("beginning a watch: %w", err)
	}
	defer watch.Close()
	for _, u := range watch.Present {
		if err := send(present(user(u))); err != nil {
			return fmt.Errorf("telling who is present: %w", err)
		}
	}
	if err := send(snapshotComplete(toInt32(watch.Anonymous))); err != nil {
		return fmt.Errorf("telling who is present: %w", err)
	}
	for {
		select {
		case <-s.draining:
			return broker.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		case c, ok := <-watch.C:
			if !ok {
				return watch.Err()
			}
			if err := send(change(c)); err != nil {
				return fmt.Errorf("telling of a change: %w", err)
			}
		}
	}
}

func present(u *pealv1.User) *pealv1.WatchConnectionsResponse {
	return &pealv1.WatchConnectionsResponse{Event: &pealv1.WatchConnectionsResponse_Present{Present: u}}
}

func snapshotComplete(anonymous int32) *pealv1.WatchConnectionsResponse {
	return &pealv1.WatchConnectionsResponse{Event: &pealv1.WatchConnectionsResponse_SnapshotComplete{
		SnapshotComplete: &pealv1.SnapshotComplete{AnonymousConnections: anonymous},
	}}
}

func change(c broker.Connection) *pealv1.WatchConnectionsResponse {
	at := timestamppb.New(c.At)
	if c.Open {
		return opened(c.User, toInt32(c.Connections), at)
	}
	return endedFor(c.User, toInt32(c.Connections), at, c.Reason.String())
}

func opened(user string, connections int32, at *timestamppb.Timestamp) *pealv1.WatchConnectionsResponse {
	return &pealv1.WatchConnectionsResponse{Event: &pealv1.WatchConnectionsResponse_Opened{
		Opened: &pealv1.StreamOpened{UserId: user, Connections: connections, Time: at},
	}}
}

func endedFor(user string, connections int32, at *timestamppb.Timestamp, reason string) *pealv1.WatchConnectionsResponse {
	return &pealv1.WatchConnectionsResponse{Event: &pealv1.WatchConnectionsResponse_Ended{
		Ended: &pealv1.StreamEnded{UserId: user, Connections: connections, Time: at, Reason: reason},
	}}
}
