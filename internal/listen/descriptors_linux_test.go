package listen_test

import (
	"errors"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/peald/peald/internal/listen"
)

// withoutDescriptors calls f while only descriptor 0 may be opened, which is in use.
func withoutDescriptors(t *testing.T, f func()) {
	t.Helper()

	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	f()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
}

// checkTemporary checks that net/http would accept again after err.
func checkTemporary(t *testing.T, what string, err error) {
	t.Helper()

	//nolint:errorlint,staticcheck // This is what net/http does.
	if ne, ok := err.(net.Error); !ok || !ne.Temporary() || !errors.Is(err, unix.EMFILE) {
		t.Errorf("%s returned %v (%T), want a temporary error of too many descriptors", what, err, err)
	}
}

// connect returns the server's end of a connection.
func connect(t *testing.T) *net.TCPConn {
	t.Helper()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial(t, l.Addr().String())
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// openDescriptors returns the number of the process's open descriptors.
func openDescriptors(t *testing.T) int {
	t.Helper()

	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

//nolint:paralleltest // Other tests need descriptors.
func TestTooManyDescriptors(t *testing.T) {
	l := open(t, listen.Socket{Key: "sse.addr", Addr: "127.0.0.1:0"})
	dial(t, l.Address())
	pending := connect(t)

	var accepted, duplicated error
	withoutDescriptors(t, func() {
		_, _, accepted = l.AcceptDescriptor()
		_, duplicated = listen.Duplicate(pending)
	})
	checkTemporary(t, "AcceptDescriptor", accepted)
	checkTemporary(t, "Duplicate", duplicated)
	if err := pending.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection wasn't closed: %v", err)
	}

	fd, _, err := l.AcceptDescriptor()
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(fd)

	// Now only accept4 fails.
	dial(t, l.Address())
	withoutDescriptors(t, func() { _, _, accepted = l.AcceptDescriptor() })
	checkTemporary(t, "AcceptDescriptor", accepted)
}

var errClose = errors.New("close failed")

// badClose is a connection that reports an error when it is closed.
type badClose struct{ *net.TCPConn }

func (c badClose) Close() error { return errors.Join(c.TCPConn.Close(), errClose) }

//nolint:paralleltest // Other tests open descriptors.
func TestDuplicateThatCannotClose(t *testing.T) {
	conn := connect(t)
	before := openDescriptors(t)
	if _, err := listen.Duplicate(badClose{conn}); !errors.Is(err, errClose) {
		t.Errorf("Duplicate returned %v, want %v", err, errClose)
	}
	if after := openDescriptors(t); after != before-1 {
		t.Errorf("%d descriptors are open, want %d", after, before-1)
	}
}

// TestCloseWhileAccepting closes a listener while AcceptDescriptor waits.
func TestCloseWhileAccepting(t *testing.T) {
	t.Parallel()

	for range 20 {
		l := open(t, listen.Socket{Key: "sse.addr", Addr: "127.0.0.1:0"})
		dial(t, l.Address())
		accepted, ended := make(chan struct{}), make(chan error)
		go func() {
			for {
				fd, _, err := l.AcceptDescriptor()
				if err != nil {
					ended <- err
					return
				}
				_ = unix.Close(fd)
				close(accepted)
			}
		}()
		<-accepted
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Fatalf("AcceptDescriptor returned %v, want %v", err, net.ErrClosed)
		}
	}
}
