package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
)

// Addresses are those that a daemon has bound.
type Addresses struct {
	SSE  string `json:"sse"`
	GRPC string `json:"grpc"`
	REST string `json:"rest"`
}

// listeners are a daemon's sockets. They are bound before anything runs, so
// that an address that cannot be had is an error of the start.
type listeners struct {
	sse, grpc, rest *net.TCPListener
}

func listen(ctx context.Context, cfg Config) (_ listeners, err error) {
	var l listeners
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.sse, err = listenTCP(ctx, "sse.addr", cfg.SSE.Addr); err != nil {
		return l, err
	}
	if l.grpc, err = listenTCP(ctx, "grpc.addr", cfg.GRPC.Addr); err != nil {
		return l, err
	}
	l.rest, err = listenTCP(ctx, "rest.addr", cfg.REST.Addr)
	return l, err
}

func listenTCP(ctx context.Context, key, addr string) (*net.TCPListener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		// Of "listen tcp 127.0.0.1:80: bind: permission denied" the end is
		// news.
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err
		}
		if call, ok := errors.AsType[*os.SyscallError](err); ok {
			err = call.Err
		}
		return nil, fmt.Errorf("%s %s: %w", key, addr, err)
	}
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s %s: not a TCP address", key, addr), listener.Close())
	}
	return tcp, nil
}

func (l listeners) addresses() Addresses {
	return Addresses{
		SSE:  l.sse.Addr().String(),
		GRPC: l.grpc.Addr().String(),
		REST: l.rest.Addr().String(),
	}
}

// close closes those that are open; closing one twice does no harm.
func (l listeners) close() {
	for _, listener := range []*net.TCPListener{l.sse, l.grpc, l.rest} {
		if listener != nil {
			_ = listener.Close()
		}
	}
}
