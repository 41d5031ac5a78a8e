package daemon

import (
	"fmt"
	"net"
)

// Inherited are sockets that listen already, opened by whoever started the
// process, such as systemd. A daemon takes them in place of its own; it opens
// those that are nil by the Config's addresses, which count for nothing
// otherwise. Others may have the same sockets.
type Inherited struct {
	SSE, GRPC, REST net.Listener
}

// over puts the addresses of the sockets into cfg, so that what is asked of an
// address is asked of theirs.
func (i Inherited) over(cfg Config) Config {
	for _, s := range []struct {
		listener net.Listener
		addr     *string
	}{{i.SSE, &cfg.SSE.Addr}, {i.GRPC, &cfg.GRPC.Addr}, {i.REST, &cfg.REST.Addr}} {
		if s.listener != nil {
			*s.addr = address(s.listener)
		}
	}
	return cfg
}

// listenForBrowsers takes the socket that was inherited for browsers.
func (i Inherited) listenForBrowsers(cfg Config) (*net.TCPListener, error) {
	tcp, ok := i.SSE.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("the socket for browsers that was inherited is of %s, accepted: one of TCP", i.SSE.Addr().Network())
	}
	return tcp, loseDeadPeersOf(tcp, deadAfter(cfg))
}
