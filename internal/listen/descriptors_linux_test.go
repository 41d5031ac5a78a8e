package listen_test

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/peald/peald/internal/listen"
)

// TestAcceptorErrors checks that errors are those of package net, which net/http
// recognizes.
func TestAcceptorErrors(t *testing.T) {
	socket, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()

	closed := make(chan error, 1)
	a := listen.NewAcceptor()
	go func() {
		_, _, err := a.Accept(socket)
		closed <- err
	}()
	a.WaitUntilOpen()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-closed; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept returned %v, want net.ErrClosed", err)
	}

	err = listen.AcceptError(socket.Addr(), "fcntl", unix.EMFILE)
	if temporary, ok := errors.AsType[net.Error](err); !ok || !temporary.Temporary() || !errors.Is(err, syscall.EMFILE) { //nolint:staticcheck // net/http uses it.
		t.Errorf("%v isn't a temporary error", err)
	}
}
