package control

import (
	"fmt"

	"google.golang.org/grpc"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// WatchConnections implements pealv1.ControlServiceServer.
func (s *Service) WatchConnections(req *pealv1.WatchConnectionsRequest, stream grpc.ServerStreamingServer[pealv1.WatchConnectionsResponse]) error {
	if topic := req.GetTopic(); topic != "" {
		if err := broker.ValidPattern(topic); err != nil {
			return fmt.Errorf("starting a watch: %w", err)
		}
	}

	if s.cluster != nil {
		return s.watchCluster(stream.Context(), req, stream.Send)
	}

	return s.watchLocal(stream.Context(), req, stream.Send)
}
