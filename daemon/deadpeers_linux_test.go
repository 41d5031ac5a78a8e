package daemon_test

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/peald/peald/daemon"
)

// Whether the system then does as it is told takes a network that loses
// packets; what it is told, a socket says.
func TestAcceptedConnectionsLoseDeadPeers(t *testing.T) {
	t.Parallel()
	const after = 45 * time.Second
	listener, err := daemon.ListenForBrowsers(t.Context(), after)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialled, err := new(net.Dialer).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer dialled.Close()
	conn, err := listener.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name                string
		level, option, want int
	}{
		{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(after.Milliseconds())},
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
	} {
		var got int
		var getErr error
		if err := raw.Control(func(fd uintptr) { got, getErr = unix.GetsockoptInt(int(fd), c.level, c.option) }); err != nil || getErr != nil || got != c.want {
			t.Errorf("%s is %d (%v, %v), want %d", c.name, got, err, getErr, c.want)
		}
	}
}
