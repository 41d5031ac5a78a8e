package listen

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
	// MaxSocketPath is the maximum length of a socket file's path, in bytes. The
	// system needs one more byte for a NUL.
	MaxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

	// unixScheme is the prefix of addresses that are paths.
	unixScheme = "unix:"

	// probeTimeout bounds the check for another process on a socket file.
	probeTimeout = time.Second
)

// SocketPath returns the absolute path of the socket file that addr names as
// unix:PATH or unix:///PATH, and reports whether addr has this form. The error
// states why there can be no socket file at that path.
func SocketPath(addr string) (path string, isFile bool, err error) {
	path, isFile = strings.CutPrefix(addr, unixScheme)
	if !isFile {
		return "", false, nil
	}

	if rest, withAuthority := strings.CutPrefix(path, "//"); withAuthority {
		if path = rest; !strings.HasPrefix(path, "/") {
			return "", true, errors.New("host before the path")
		}
	}

	switch {
	case path == "" || strings.HasSuffix(path, "/") || strings.ContainsRune(path, 0):
		return "", true, errors.New("no file name")
	case strings.HasPrefix(path, "@"):
		return "", true, errors.New("abstract socket, which has no permissions")
	}

	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", true, errors.New("unknown working directory")
	}
	if len(absolute) > MaxSocketPath {
		return "", true, fmt.Errorf("path of %d bytes", len(absolute))
	}

	return absolute, true, nil
}

// listenUnix creates the socket file at path with mode. It replaces a socket
// file that a dead process left behind.
func listenUnix(ctx context.Context, key, path string, mode fs.FileMode) (net.Listener, error) {
	failed := func(err error) error {
		return fmt.Errorf("%s %s%s: %w", key, unixScheme, path, cause(err))
	}

	if err := removeStale(ctx, path); err != nil {
		return nil, failed(err)
	}

	// Nobody must be able to use the file before its mode is set.
	lc := net.ListenConfig{Control: removePermissions}
	raw, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, failed(err)
	}

	listener, ok := raw.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(failed(errors.New("not a unix socket")), raw.Close())
	}
	// When the listener is closed, a later process may have put its own socket there.
	listener.SetUnlinkOnClose(false)

	created, err := os.Lstat(path)
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err != nil {
		return nil, errors.Join(failed(err), listener.Close(), os.Remove(path))
	}

	return &socketFile{UnixListener: listener, path: path, created: created}, nil
}

// removeStale removes a socket at path on which no process listens. It returns
// an error if anything else is there.
func removeStale(ctx context.Context, path string) error {
	found, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if found.Mode().Type() != fs.ModeSocket {
		return errors.New("existing file is not a socket; not replacing it")
	}

	dialer := net.Dialer{Timeout: probeTimeout}
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = conn.Close()
		return errInUse
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, syscall.ECONNREFUSED):
		return err
	}

	// If two processes start together, both may have found the same stale socket.
	// Remove only that one, not the socket that the other process has since
	// created.
	aside := filepath.Join(filepath.Dir(path), "."+rand.Text()[:10])
	if err := os.Rename(path, aside); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if taken, err := os.Lstat(aside); err == nil && !os.SameFile(found, taken) {
		return errors.Join(errInUse, os.Rename(aside, path))
	}

	return os.Remove(aside)
}

// socketFile is a listener on a socket file. It removes the file when it is closed.
type socketFile struct {
	*net.UnixListener

	path    string
	created fs.FileInfo

	once sync.Once
}

// Close also removes the file, if it is still the one that was created.
func (s *socketFile) Close() error {
	s.once.Do(func() {
		if found, err := os.Lstat(s.path); err == nil && os.SameFile(found, s.created) {
			_ = os.Remove(s.path) // A leftover file is harmless: the next process removes it.
		}
	})

	return s.UnixListener.Close()
}
