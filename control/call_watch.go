package control

import (
	"google.golang.org/grpc"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// WatchConnections implements pealv1.ControlServiceServer.
func (s *Service) WatchConnections(_ *pealv1.WatchConnectionsRequest, stream grpc.ServerStreamingServer[pealv1.WatchConnectionsResponse]) error {
	if s.cluster != nil {
		return s.watchCluster(stream.Context(), stream.Send)
	}

	return s.watchLocal(stream.Context(), stream.Send)
}
