package daemon

import (
	"context"
	"io/fs"
	"net"
	"strings"
	"time"

	"github.com/peald/peald/internal/listen"
)

// Addresses holds the addresses that a daemon listens on. Each is HOST:PORT or, for the
// control plane, unix:/PATH.
type Addresses struct {
	SSE  string `json:"sse"`
	GRPC string `json:"grpc"`
	REST string `json:"rest"`
}

// Reachable returns the HOST:PORT at which processes on this machine reach a
// listener bound to addr, even if it is bound to all addresses.
func Reachable(addr string) string { return listen.Reachable(addr) }

// CurlTarget returns the arguments for curl, up to the path, that reach an HTTP
// listener bound to addr.
func CurlTarget(addr string) string {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return "--unix-socket " + path + " http://localhost"
	}
	return "http://" + Reachable(addr)
}

// Inherited holds listening sockets that the process was started with, for example by
// systemd. In place of each nil socket, the daemon opens one at the address in its
// Config. It ignores the Config's addresses for the others. Other processes may share
// the sockets.
type Inherited struct {
	SSE, GRPC, REST net.Listener
}

// override returns cfg with the addresses of the inherited sockets, so that checks of
// addresses apply to these sockets.
func (i Inherited) override(cfg Config) Config {
	for _, s := range []struct {
		listener net.Listener
		addr     *string
	}{{i.SSE, &cfg.SSE.Addr}, {i.GRPC, &cfg.GRPC.Addr}, {i.REST, &cfg.REST.Addr}} {
		if s.listener != nil {
			*s.addr = listen.Address(s.listener)
		}
	}
	return cfg
}

// sockets holds a daemon's listening sockets. They are opened before anything runs, so
// that an unavailable address is an error at startup.
type sockets struct{ sse, grpc, rest *listen.Listener }

func openSockets(ctx context.Context, cfg Config, inherited Inherited) (_ sockets, err error) {
	var s sockets
	defer func() {
		if err != nil {
			s.close()
		}
	}()

	s.sse, err = listen.Open(ctx, listen.Socket{
		Key:         "sse.addr",
		Addr:        cfg.SSE.Addr,
		PeerTimeout: peerTimeout(cfg),
		ReusePort:   cfg.SSE.ReusePort,
		Inherited:   inherited.SSE,
	})
	if err != nil {
		return s, err
	}

	s.grpc, err = listen.Open(ctx, listen.Socket{
		Key:       "grpc.addr",
		Addr:      cfg.GRPC.Addr,
		Mode:      fs.FileMode(cfg.GRPC.SocketMode),
		ReusePort: cfg.SSE.ReusePort,
		Inherited: inherited.GRPC,
	})
	if err != nil {
		return s, err
	}

	s.rest, err = listen.Open(ctx, listen.Socket{
		Key:       "rest.addr",
		Addr:      cfg.REST.Addr,
		Mode:      fs.FileMode(cfg.REST.SocketMode),
		ReusePort: cfg.SSE.ReusePort,
		Inherited: inherited.REST,
	})
	return s, err
}

// peerTimeout returns how long a browser may go without acknowledging anything before
// its connection is considered broken. It is longer than the broker's timeout for a
// socket that accepts no bytes, so that the broker detects a merely slow browser first.
func peerTimeout(cfg Config) time.Duration { return cfg.SSE.WriteTimeout + cfg.SSE.Heartbeat }

func (s sockets) addresses() Addresses {
	return Addresses{SSE: s.sse.Address(), GRPC: s.grpc.Address(), REST: s.rest.Address()}
}

// close closes the sockets that are open. It may be called more than once.
func (s sockets) close() {
	for _, socket := range []*listen.Listener{s.sse, s.grpc, s.rest} {
		if socket != nil {
			_ = socket.Close()
		}
	}
}
