package listen_test

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/peald/peald/internal/listen"
)

// TestPeerTimeout checks the options of accepted sockets. Checking their effect
// would require a network that loses packets.
func TestPeerTimeout(t *testing.T) {
	t.Parallel()

	const after = 45 * time.Second
	l := open(t, listen.Socket{Key: "sse.addr", Addr: "127.0.0.1:0", PeerTimeout: after})

	checkOptions(t, l, after)

	l.SetPeerTimeout(time.Minute)
	checkOptions(t, l, time.Minute)
}

func checkOptions(t *testing.T, l *listen.Listener, after time.Duration) {
	t.Helper()

	dialed, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer dialed.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	raw, err := conn.(*net.TCPConn).SyscallConn()
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
		err := raw.Control(func(fd uintptr) { got, getErr = unix.GetsockoptInt(int(fd), c.level, c.option) })
		if err != nil || getErr != nil || got != c.want {
			t.Errorf("%s is %d (%v, %v), want %d", c.name, got, err, getErr, c.want)
		}
	}
}
