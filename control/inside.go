package control

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// insideBuffer is what fits between the two ends of the connection inside the
// process.
const insideBuffer = 256 << 10

// inside is a gRPC server that only this process can reach, and the connection
// to it. It belongs to the Service, which closes it.
type inside struct {
	server *grpc.Server
	conn   *grpc.ClientConn
	served chan struct{} // closed when the server's goroutine is gone
}

// openInside starts an inside that lives until s is closed.
func (s *Service) openInside() (*grpc.ClientConn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("the control plane is closed")
	}
	listener := bufconn.Listen(insideBuffer)
	conn, err := grpc.NewClient("passthrough:///control",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// A repeated publish is a second event.
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
	)
	if err != nil {
		return nil, fmt.Errorf("connecting REST to gRPC: %w", err)
	}
	in := &inside{server: s.GRPCServer(), conn: conn, served: make(chan struct{})}
	go func() {
		defer close(in.served)
		// It ends by Stop alone: nothing else closes the listener.
		_ = in.server.Serve(listener)
	}()
	s.inside = append(s.inside, in)
	return conn, nil
}

func (in *inside) close() {
	_ = in.conn.Close()
	in.server.Stop()
	<-in.served
}
