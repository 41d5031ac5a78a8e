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
	var limit int
	var limitErr error
	if err := raw.Control(func(fd uintptr) {
		limit, limitErr = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	}); err != nil || limitErr != nil || limit != int(after.Milliseconds()) {
		t.Errorf("sent bytes may wait for %d ms (%v, %v), want %s", limit, err, limitErr, after)
	}
}
