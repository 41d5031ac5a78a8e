package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// unixScheme is how an address begins that is a path.
	unixScheme = "unix:"

	// maxSocketPath is the system's: the path and a NUL have to fit there.
	maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

	// livingTimeout bounds the look whether somebody listens on a socket.
	livingTimeout = time.Second
)

// socketPath is the path that addr names, as unix:PATH or unix:///PATH, or why
// there can be no socket. It is false for an address of another kind.
func socketPath(addr string) (path, wrong string, ok bool) {
	path, ok = strings.CutPrefix(addr, unixScheme)
	if !ok {
		return "", "", false
	}
	if rest, withAuthority := strings.CutPrefix(path, "//"); withAuthority {
		if path = rest; !strings.HasPrefix(path, "/") {
			return "", "which names a host before the path", true
		}
	}
	switch {
	case path == "" || strings.HasSuffix(path, "/") || strings.ContainsRune(path, 0):
		return "", "which names no file", true
	case strings.HasPrefix(path, "@"):
		return "", "an abstract socket, which has no permissions", true
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", "whose folder is not known", true
	}
	if len(absolute) > maxSocketPath {
		return "", fmt.Sprintf("which is a path of %d bytes", len(absolute)), true
	}
	return absolute, "", true
}

// listenUnix makes the socket file at path, with mode, in the place of one
// that a dead process has left behind.
func listenUnix(ctx context.Context, key, path string, mode FileMode) (_ net.Listener, err error) {
	failed := func(err error) error {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err
		}
		if call, ok := errors.AsType[*os.SyscallError](err); ok {
			err = call.Err
		}
		if file, ok := errors.AsType[*fs.PathError](err); ok {
			err = file.Err
		}
		return fmt.Errorf("%s %s%s: %w", key, unixScheme, path, err)
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, failed(err)
	}
	// The file has its mode from the first moment on that anybody could use it.
	lc := net.ListenConfig{Control: closedToAll}
	raw, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, failed(err)
	}
	listener, ok := raw.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(failed(errors.New("not a unix socket")), raw.Close())
	}
	// Whoever starts later may have put another in its place.
	listener.SetUnlinkOnClose(false)
	made, err := os.Lstat(path)
	if err == nil {
		err = os.Chmod(path, fs.FileMode(mode))
	}
	if err != nil {
		return nil, errors.Join(failed(err), listener.Close(), os.Remove(path))
	}
	return &socketFile{UnixListener: listener, path: path, made: made}, nil
}

// removeStale makes room at path, if what is there is a socket on which nobody
// listens.
func removeStale(ctx context.Context, path string) error {
	found, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if found.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file that is no socket, and it is left alone")
	}
	dialer := net.Dialer{Timeout: livingTimeout}
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		return errors.New("another process listens there")
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, syscall.ECONNREFUSED):
		return err
	}
	// Of two processes that start at once, each may have found the same socket
	// stale: what is taken away has to be that one, and not what the other has
	// made since.
	aside := filepath.Join(filepath.Dir(path), "."+rand.Text()[:10])
	if err := os.Rename(path, aside); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if taken, err := os.Lstat(aside); err == nil && !os.SameFile(found, taken) {
		return errors.Join(errors.New("another process listens there"), os.Rename(aside, path))
	}
	return os.Remove(aside)
}

// socketFile is a listener on a socket file, which goes with it.
type socketFile struct {
	*net.UnixListener

	path string
	made fs.FileInfo

	once sync.Once
}

// Close also removes the file, if it is still the one that was made.
func (s *socketFile) Close() error {
	s.once.Do(func() {
		if found, err := os.Lstat(s.path); err == nil && os.SameFile(found, s.made) {
			_ = os.Remove(s.path) // it is the end, and nobody left to complain to
		}
	})
	return s.UnixListener.Close()
}
