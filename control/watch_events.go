package control

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// The events of a watch.

func presentEvent(u *pealv1.User) *pealv1.WatchConnectionsResponse {
	return &pealv1.WatchConnectionsResponse{Event: &pealv1.WatchConnectionsResponse_Present{Present: u}}
}

func snapshotCompleteEvent(anonymous int32) *pealv1.WatchConnectionsResponse {
	return &pealv1.WatchConnectionsResponse{Event: &pealv1.WatchConnectionsResponse_SnapshotComplete{
		SnapshotComplete: &pealv1.SnapshotComplete{AnonymousConnections: anonymous},
	}}
}

func openedEvent(user string, connections int32, at *timestamppb.Timestamp) *pealv1.WatchConnectionsResponse {
	return &pealv1.WatchConnectionsResponse{Event: &pealv1.WatchConnectionsResponse_Opened{
		Opened: &pealv1.StreamOpened{UserId: user, Connections: connections, Time: at},
	}}
}

func endedEvent(user string, connections int32, at *timestamppb.Timestamp, reason string) *pealv1.WatchConnectionsResponse {
	return &pealv1.WatchConnectionsResponse{Event: &pealv1.WatchConnectionsResponse_Ended{
		Ended: &pealv1.StreamEnded{UserId: user, Connections: connections, Time: at, Reason: reason},
	}}
}

// changeEvent returns the event for a stream that was opened or closed.
func changeEvent(c broker.Connection) *pealv1.WatchConnectionsResponse {
	at := timestamppb.New(c.At)
	if c.Open {
		return openedEvent(c.User, toInt32(c.Connections), at)
	}

	return endedEvent(c.User, toInt32(c.Connections), at, c.Reason.String())
}
