package rest

import (
	"context"
	"fmt"
	"math"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// inProcessBuffer is the size of the in-process connection's buffer, in bytes.
const inProcessBuffer = 256 << 10

// inProcess serves a gRPC server to this process alone, over an in-memory connection.
type inProcess struct {
	server *grpc.Server
	conn   *grpc.ClientConn
	served chan struct{} // closed when Serve has returned
}

// serveInProcess starts serving server. The caller must close the returned inProcess,
// which also stops server.
func serveInProcess(server *grpc.Server) (*inProcess, error) {
	listener := bufconn.Listen(inProcessBuffer)
	conn, err := grpc.NewClient("passthrough:///control",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// Retrying a publish call would publish a second event.
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
	)
	if err != nil {
		return nil, fmt.Errorf("connecting REST to gRPC: %w", err)
	}

	p := &inProcess{server: server, conn: conn, served: make(chan struct{})}

	go func() {
		defer close(p.served)
		// Serve returns only when the server is stopped: nothing else closes the
		// listener.
		_ = p.server.Serve(listener)
	}()

	return p, nil
}

// close cancels the calls in progress, stops the server and waits for both.
func (p *inProcess) close() {
	_ = p.conn.Close()
	p.server.Stop()
	<-p.served
}

// InProcess reports whether addr, the peer address of a gRPC call, belongs to a
// [Handler]'s in-process connection.
func InProcess(addr net.Addr) bool { return addr.Network() == "bufconn" }
