package listen_test

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/peald/peald/internal/listen"
)

func TestCloseSilent(t *testing.T) {
	t.Parallel()

	tracked := listen.Track(open(t, listen.Socket{Key: "grpc.addr", Addr: "127.0.0.1:0"}))
	connect := func() (client, server net.Conn) {
		client, err := net.Dial("tcp", tracked.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err = tracked.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = client.Close(), server.Close() })

		return client, server
	}

	silent, _ := connect()
	active, server := connect()
	if _, err := active.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}

	tracked.CloseSilent()
	late, _ := connect()

	for name, conn := range map[string]net.Conn{"silent": silent, "late": late} {
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the %s connection is open: %v", name, err)
		}
	}
	if _, err := server.Write([]byte("x")); err != nil {
		t.Errorf("the active connection is closed: %v", err)
	}

	tracked.CloseAll()
	if _, err := server.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the active connection is open after CloseAll: %v", err)
	}
}
