package listen_test

import (
	"net"
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

func TestHandOverWithReusePort(t *testing.T) {
	t.Parallel()

	from := open(t, reusing("127.0.0.1:0"))
	to := open(t, reusing(from.Address()))
	accept(t, from)
	accepted := accept(t, to)

	if !from.HandOver(t.Context()) {
		t.Fatal("HandOver returned false although another socket listens on the address")
	}
	for range 20 {
		awaitClient(t, accepted, dial(t, from.Address()))
	}
}

func TestHandOverOfInheritedSocket(t *testing.T) {
	t.Parallel()

	from, other := inherited(t)
	accept(t, from)
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

	shared, _ := inherited(t) // Nothing accepts on the other descriptor.
	for name, l := range map[string]*listen.Listener{
		"exclusive":  open(t, listen.Socket{Key: "sse.addr", Addr: "127.0.0.1:0"}),
		"reuse_port": open(t, reusing("127.0.0.1:0")),
		"inherited":  shared,
	} {
		accepted := accept(t, l)

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
