package daemon_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/peald/peald/daemon"
)

// TestFamilyOfUnspecifiedAddresses: 0.0.0.0 is IPv4 alone, the others are both.
func TestFamilyOfUnspecifiedAddresses(t *testing.T) {
	t.Parallel()
	probe, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6: %v", err)
	}
	_ = probe.Close()

	for host, isBoth := range map[string]bool{"0.0.0.0": false, "[::]": true, "": true} {
		d := start(t, func(cfg *daemon.Config) {
			cfg.SSE.Addr, cfg.GRPC.Addr, cfg.REST.Addr = host+":0", host+":0", host+":0"
			cfg.Control.Insecure = true
		})
		for key, addr := range map[string]string{"sse.addr": d.SSE, "grpc.addr": d.GRPC, "rest.addr": d.REST} {
			bound := netip.MustParseAddrPort(addr)
			if bound.Addr().Is4() == isBoth {
				t.Errorf("%s %s:0 is bound as %s", key, host, addr)
			}

			_, port, _ := net.SplitHostPort(addr)
			for family, want := range map[string]bool{"127.0.0.1": true, "::1": isBoth} {
				conn, err := net.Dial("tcp", net.JoinHostPort(family, port))
				if err == nil {
					_ = conn.Close()
				}
				if (err == nil) != want {
					t.Errorf("%s %s:0 accepts at %s: %t, want %t", key, host, family, err == nil, want)
				}
			}
		}
	}
}
