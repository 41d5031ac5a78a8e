package listen_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/peald/peald/internal/listen"
)

// socketDir returns a directory for socket files. The path of t.TempDir is too
// long on some systems.
func socketDir(t *testing.T) string {
	t.Helper()

	if runtime.GOOS == "windows" {
		t.Skip("files have no permissions on Windows")
	}
	dir, err := os.MkdirTemp("", "peald") //nolint:usetesting // See above.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })

	return dir
}

func fileSocket(path string) listen.Socket {
	return listen.Socket{Key: "grpc.addr", Addr: "unix:" + path, Mode: 0o660}
}

func TestSocketFile(t *testing.T) {
	t.Parallel()

	path := filepath.Join(socketDir(t), "s")
	l := open(t, fileSocket(path))

	if got := l.Address(); got != "unix:"+path {
		t.Errorf("Address is %q, want %q", got, "unix:"+path)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("the file has mode %v (%v), want %v", info.Mode(), err, fs.ModeSocket|0o660)
	}

	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is left after Close: %v", err)
	}
}

func TestStaleSocketFileIsReplaced(t *testing.T) {
	t.Parallel()

	path := filepath.Join(socketDir(t), "s")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	_ = stale.Close()

	_ = open(t, fileSocket(path)).Close()

	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}

func TestFilesInUseAreNotReplaced(t *testing.T) {
	t.Parallel()

	dir := socketDir(t)

	live := filepath.Join(dir, "live")
	listener, err := net.Listen("unix", live)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}

	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), link); err != nil {
		t.Fatal(err)
	}

	datagrams := filepath.Join(dir, "datagrams")
	other, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: datagrams})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()

	for path, want := range map[string]string{
		live:                            "another process is listening there",
		file:                            "existing file is not a socket",
		link:                            "existing file is not a socket",
		datagrams:                       "wrong type for socket",
		dir:                             "existing file is not a socket",
		filepath.Join(dir, "none", "s"): "no such file",
	} {
		before, _ := os.Lstat(path)

		_, err := listen.Open(t.Context(), fileSocket(path))
		if err == nil || !strings.HasPrefix(err.Error(), "grpc.addr unix:"+path+": ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want %q", path, err, want)
		}
		if after, err := os.Lstat(path); before != nil && (err != nil || !os.SameFile(before, after)) {
			t.Errorf("%s has changed: %v", path, err)
		}
	}
}

// TestSocketFileOfAnotherProcess replaces the file, as a process that starts
// while this one shuts down would.
func TestSocketFileOfAnotherProcess(t *testing.T) {
	t.Parallel()

	path := filepath.Join(socketDir(t), "s")
	l := open(t, fileSocket(path))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()

	_ = l.Close()

	if _, err := os.Lstat(path); err != nil {
		t.Errorf("Close has removed the other process's file: %v", err)
	}
}
