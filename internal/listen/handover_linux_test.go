package listen_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/peald/peald/internal/listen"
)

// accept accepts connections until l closes, and sends the address of each
// client.
func accept(t *testing.T, l net.Listener) <-chan string {
	t.Helper()

	clients := make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			clients <- conn.RemoteAddr().String()
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})

	return clients
}

// dial opens a connection and returns the client's address.
func dial(t *testing.T, addr string) string {
	t.Helper()

	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })

	return conn.LocalAddr().String()
}

// awaitClient waits until client is among the accepted ones.
func awaitClient(t *testing.T, clients <-chan string, client string) {
	t.Helper()

	for got := range clients {
		if got == client {
			return
		}
	}
}

func reusing(addr string) listen.Socket {
	return listen.Socket{Key: "sse.addr", Addr: addr, ReusePort: true}
}

// byDescriptor is a listener that accepts descriptors.
type byDescriptor struct{ *listen.Listener }

// Accept implements [net.Listener].
func (l byDescriptor) Accept() (net.Conn, error) {
	fd, remote, err := l.AcceptDescriptor()
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err == nil && remote.String() != conn.RemoteAddr().String() {
		err = fmt.Errorf("AcceptDescriptor returned address %s, want %s", remote, conn.RemoteAddr())
	}
	return conn, err
}

// eachWay runs a test with Accept and with AcceptDescriptor.
func eachWay(t *testing.T, test func(t *testing.T, way func(*listen.Listener) net.Listener)) {
	t.Helper()
	t.Run("Accept", func(t *testing.T) {
		t.Parallel()
		test(t, func(l *listen.Listener) net.Listener { return l })
	})
	t.Run("AcceptDescriptor", func(t *testing.T) {
		t.Parallel()
		test(t, func(l *listen.Listener) net.Listener { return byDescriptor{l} })
	})
}

func TestHandOverWithReusePort(t *testing.T) {
	t.Parallel()
	eachWay(t, testHandOverWithReusePort)
}

func testHandOverWithReusePort(t *testing.T, way func(*listen.Listener) net.Listener) {
	t.Helper()

	from := open(t, reusing("127.0.0.1:0"))
	to := open(t, reusing(from.Address()))
	accept(t, way(from))
	accepted := accept(t, way(to))

	if !from.HandOver(t.Context()) {
		t.Fatal("HandOver returned false although another socket listens on the address")
	}
	for range 20 {
		awaitClient(t, accepted, dial(t, from.Address()))
	}
}

func TestHandOverOfInheritedSocket(t *testing.T) {
	t.Parallel()
	eachWay(t, testHandOverOfInheritedSocket)
}

func testHandOverOfInheritedSocket(t *testing.T, way func(*listen.Listener) net.Listener) {
	t.Helper()

	from, other := inherited(t)
	accept(t, way(from))
	accepted := accept(t, other)

	if !from.HandOver(t.Context()) {
		t.Fatal("HandOver returned false although another process accepts on the socket")
	}
	for range 20 {
		awaitClient(t, accepted, dial(t, from.Address()))
	}
}

func TestHandOverWithoutAnotherProcess(t *testing.T) {
	t.Parallel()
	eachWay(t, testHandOverWithoutAnotherProcess)
}

func testHandOverWithoutAnotherProcess(t *testing.T, way func(*listen.Listener) net.Listener) {
	t.Helper()

	shared, _ := inherited(t) // Nothing accepts on the other descriptor.
	for name, l := range map[string]*listen.Listener{
		"exclusive":  open(t, listen.Socket{Key: "sse.addr", Addr: "127.0.0.1:0"}),
		"reuse_port": open(t, reusing("127.0.0.1:0")),
		"inherited":  shared,
	} {
		accepted := accept(t, way(l))

		if l.HandOver(t.Context()) {
			t.Errorf("%s: HandOver returned true", name)
		}
		awaitClient(t, accepted, dial(t, l.Address()))
	}
}

// inherited returns a listener on an inherited socket, and the descriptor that
// another process would have for that socket.
func inherited(t *testing.T) (*listen.Listener, net.Listener) {
	t.Helper()

	socket, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	file, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	other, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })

	return open(t, listen.Socket{Key: "sse.addr", Inherited: socket}), other
}

// descriptorListener is the part of a slotted listener that accepts descriptors.
type descriptorListener interface {
	net.Listener
	AcceptDescriptor() (fd int, remote net.Addr, err error)
	Conn(fd int, remote net.Addr) (net.Conn, error)
	TakeOver() (release func())
	Release()
}

func TestSlotsOfDescriptors(t *testing.T) {
	t.Parallel()

	socket := open(t, listen.Socket{Key: "sse.addr", Addr: "127.0.0.1:0"})
	slots := listen.Slotted(socket, 1).(descriptorListener)

	// Each connection needs the only slot, so the one before must release it.
	next := func() int {
		client := dial(t, socket.Address())
		fd, remote, err := slots.AcceptDescriptor()
		if err != nil {
			t.Fatal(err)
		}
		if remote.String() != client {
			t.Errorf("AcceptDescriptor returned address %s, want %s", remote, client)
		}
		return fd
	}
	closeFD := func(fd int) {
		if err := os.NewFile(uintptr(fd), "").Close(); err != nil {
			t.Error(err)
		}
	}

	closeFD(next())
	slots.Release()

	fd := next()
	release := slots.TakeOver()
	closeFD(fd)
	release()

	conn, err := slots.Conn(next(), new(net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}

	closed := make(chan error, 1)
	go func() {
		_, _, err := slots.AcceptDescriptor()
		closed <- err
	}()
	if err := slots.Close(); err != nil {
		t.Error(err)
	}
	if err := <-closed; !errors.Is(err, net.ErrClosed) {
		t.Errorf("AcceptDescriptor returned %v after Close, want net.ErrClosed", err)
	}
}

// TestConnOfResetConnection accepts connections that their clients have reset. The sockets
// no longer have a remote address then, but the connections must.
func TestConnOfResetConnection(t *testing.T) {
	t.Parallel()

	socket := open(t, listen.Socket{Key: "sse.addr", Addr: "127.0.0.1:0"})
	slots := listen.Slotted(socket, 1).(descriptorListener)
	t.Cleanup(func() { _ = slots.Close() })
	for _, reset := range []bool{true, false} {
		client, err := net.Dial("tcp", socket.Address())
		if err != nil {
			t.Fatal(err)
		}
		if reset {
			if err := errors.Join(client.(*net.TCPConn).SetLinger(0), client.Close()); err != nil {
				t.Fatal(err)
			}
		} else {
			t.Cleanup(func() { _ = client.Close() })
		}

		fd, remote, err := slots.AcceptDescriptor()
		if err != nil {
			t.Fatal(err)
		}
		conn, err := slots.Conn(fd, remote)
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.RemoteAddr(); got == nil || got.String() != remote.String() {
			t.Errorf("reset %t: the connection has the remote address %v, want %s", reset, got, remote)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestDescriptorsAreUnsupported(t *testing.T) {
	t.Parallel()

	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	slots := listen.Slotted(tcp, 1).(descriptorListener)
	for range 2 { // the first call must not keep the slot
		if _, _, err := slots.AcceptDescriptor(); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("AcceptDescriptor returned %v, want ErrUnsupported", err)
		}
	}
}
