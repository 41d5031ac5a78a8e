package listen_test

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/peald/peald/internal/listen"
)

// slotted listens with n slots. Until the listener closes, it sends each connection
// that it accepts to accepted.
func slotted(t *testing.T, n int) (dial func() net.Conn, accepted chan net.Conn, listener net.Listener) {
	t.Helper()

	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	listener = listen.Slotted(tcp, n)
	accepted = make(chan net.Conn)

	go func() {
		defer close(accepted)
		for {
			conn, err := listener.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("accept: %v", err)
				}
				return
			}
			accepted <- conn
		}
	}()

	t.Cleanup(func() {
		_ = listener.Close()
		for conn := range accepted {
			_ = conn.Close()
		}
	})

	dial = func() net.Conn {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}

	return dial, accepted, listener
}

func TestSlotIsHeldUntilClose(t *testing.T) {
	t.Parallel()

	dial, accepted, _ := slotted(t, 2)
	for range 3 {
		dial()
	}

	first, second := <-accepted, <-accepted
	select {
	case <-accepted:
		t.Fatal("two slots, but a third connection is accepted")
	default:
	}

	_ = first.Close()
	_ = first.Close() // must not release a second slot
	third := <-accepted
	dial()
	select {
	case <-accepted:
		t.Fatal("closing a connection twice released two slots")
	default:
	}

	_, _ = second.Close(), third.Close()
}

func TestTakeOver(t *testing.T) {
	t.Parallel()

	dial, accepted, _ := slotted(t, 1)
	dial()
	dial()

	conn := <-accepted
	owner, ok := conn.(interface{ TakeOver() func() })
	if !ok {
		t.Fatalf("a %T has no slot to take over", conn)
	}
	release := owner.TakeOver()
	_ = conn.Close()
	select {
	case <-accepted:
		t.Fatal("Close released the slot that was taken over")
	default:
	}

	release()
	next := <-accepted
	_ = next.Close()
	if owner, ok := next.(interface{ TakeOver() func() }); !ok || owner.TakeOver() != nil {
		t.Error("a closed connection has a slot to take over")
	}
}

func TestConnectionHasADescriptor(t *testing.T) {
	t.Parallel()

	dial, accepted, _ := slotted(t, 1)
	dial()

	conn := <-accepted
	defer conn.Close()
	if _, ok := conn.(syscall.Conn); !ok {
		t.Errorf("a %T hides its descriptor", conn)
	}
}

func TestCloseUnblocksAccept(t *testing.T) {
	t.Parallel()

	dial, accepted, listener := slotted(t, 1)
	dial()
	conn := <-accepted
	defer conn.Close()

	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	if _, more := <-accepted; more {
		t.Error("a closed listener accepts a connection")
	}
}
