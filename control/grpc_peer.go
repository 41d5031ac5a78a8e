package control

import (
	"context"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/peald/peald/control/rest"
)

// peerOf returns the address of the caller's socket. For REST calls, it is the
// address of the HTTP client without its port. For callers on a Unix socket, it
// is "unix".
func peerOf(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}

	// The REST gateway sets this header. It is ignored on calls from anyone else.
	from := metadata.ValueFromIncomingContext(ctx, "x-forwarded-for")

	switch {
	case rest.InProcess(p.Addr) && len(from) > 0:
		return from[0]
	case rest.InProcess(p.Addr), p.Addr.Network() == "unix":
		return "unix"
	}

	return p.Addr.String()
}

// transportOf returns "rest" or "grpc", depending on how a call was made.
func transportOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil && rest.InProcess(p.Addr) {
		return "rest"
	}

	return "grpc"
}
