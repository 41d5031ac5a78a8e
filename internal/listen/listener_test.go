package listen_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/peald/peald/internal/listen"
)

func open(t *testing.T, s listen.Socket) *listen.Listener {
	t.Helper()

	l, err := listen.Open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })

	return l
}

func TestReachable(t *testing.T) {
	t.Parallel()

	for addr, want := range map[string]string{
		"[::]:8080":      "localhost:8080",
		"0.0.0.0:8080":   "127.0.0.1:8080",
		"127.0.0.1:9091": "127.0.0.1:9091",
		"[::1]:9091":     "[::1]:9091",
	} {
		if got := listen.Reachable(addr); got != want {
			t.Errorf("Reachable(%q) = %q, want %q", addr, got, want)
		}
	}
}

// TestUnspecifiedAddresses checks that 0.0.0.0 is IPv4 only, and that the other
// unspecified addresses are both IPv4 and IPv6.
func TestUnspecifiedAddresses(t *testing.T) {
	t.Parallel()

	probe, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6: %v", err)
	}
	_ = probe.Close()

	for host, isBoth := range map[string]bool{"0.0.0.0": false, "[::]": true, "": true} {
		for name, timeout := range map[string]time.Duration{"browsers": time.Minute, "control plane": 0} {
			l := open(t, listen.Socket{Key: "sse.addr", Addr: host + ":0", PeerTimeout: timeout})

			bound := netip.MustParseAddrPort(l.Address())
			if bound.Addr().Is4() == isBoth {
				t.Errorf("%s: %s:0 is bound as %s", name, host, bound)
			}

			_, port, _ := net.SplitHostPort(l.Address())
			for family, want := range map[string]bool{"127.0.0.1": true, "::1": isBoth} {
				conn, err := net.Dial("tcp", net.JoinHostPort(family, port))
				if err == nil {
					_ = conn.Close()
				}
				if (err == nil) != want {
					t.Errorf("%s: %s:0 accepts at %s: %t, want %t", name, host, family, err == nil, want)
				}
			}
		}
	}
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()

	l := open(t, listen.Socket{Key: "grpc.addr", Addr: "127.0.0.1:0"})
	_, err := listen.Open(t.Context(), listen.Socket{Key: "grpc.addr", Addr: l.Address()})

	if want := "grpc.addr " + l.Address() + ": address already in use; set a different address, or port 0 for any free port"; err == nil || err.Error() != want {
		t.Errorf("error is %v, want %s", err, want)
	}
}

func TestInheritedSocketOfAnotherType(t *testing.T) {
	t.Parallel()

	file, err := net.Listen("unix", socketDir(t)+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()

	_, err = listen.Open(t.Context(), listen.Socket{Key: "sse.addr", PeerTimeout: time.Minute, Inherited: file})
	if err == nil || !strings.Contains(err.Error(), "sse.addr: the inherited socket is of type unix; want a TCP socket") {
		t.Errorf("error is %v", err)
	}
}

// TestCloseWithPending closes a listener while it is being handed over. The
// connections that were accepted in the meantime must be closed, too.
func TestCloseWithPending(t *testing.T) {
	t.Parallel()

	l := open(t, listen.Socket{Key: "sse.addr", Addr: "127.0.0.1:0"})
	var pending, clients []net.Conn
	for range 3 {
		conn, client := net.Pipe()
		pending, clients = append(pending, conn), append(clients, client)
	}

	release := l.HoldTurn(pending...)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	release()

	for _, client := range clients {
		_ = client.SetDeadline(time.Now().Add(time.Minute))
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("a pending connection isn't closed: %v", err)
		}
	}
}
