package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/peald/peald/daemon"
)

// readyFile is a file that exists while all listeners accept connections. An empty
// path disables it.
type readyFile struct {
	path string

	mu      sync.Mutex
	written fs.FileInfo // of the file that this process wrote; nil if there is none
	removed bool        // no file may be written from now on
}

// check returns an error if no file can be written at the path, or if something
// other than a ready file exists there. It doesn't change an existing file, which
// may belong to a running daemon.
func (f *readyFile) check() error {
	if f.path == "" {
		return nil
	}

	folder := filepath.Dir(f.path)
	temporary, err := os.CreateTemp(folder, temporaryName(f.path))
	if err != nil {
		return f.failed("create a file in its directory", err)
	}
	if err := errors.Join(temporary.Close(), os.Remove(temporary.Name())); err != nil {
		return f.failed("create a file in its directory", err)
	}

	found, err := os.Lstat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return f.failed("stat", err)
	}

	if !found.Mode().IsRegular() || !isReadyFile(f.path, found.Size()) {
		return fmt.Errorf("--ready-file: %q exists and is not a ready file; want an unused path or an earlier ready file", f.path)
	}

	return nil
}

// isReadyFile reports whether the file contains addresses and nothing else.
func isReadyFile(path string, size int64) bool {
	const limit = 4 << 10
	if size > limit {
		return false
	}
	content, err := os.ReadFile(path) //nolint:gosec // The operator chooses the path.
	if err != nil {
		return false
	}
	var addresses map[string]string
	if err := json.Unmarshal(content, &addresses); err != nil || len(addresses) != 3 {
		return false
	}
	return addresses["sse"] != "" && addresses["grpc"] != "" && addresses["rest"] != ""
}

func temporaryName(path string) string { return "." + filepath.Base(path) + ".*" }

// write writes the addresses to the file. It replaces an earlier file atomically,
// so that a waiting process never reads partial content.
func (f *readyFile) write(addresses daemon.Addresses) (err error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if f.path == "" || f.removed {
		return nil
	}

	content, err := json.Marshal(addresses)
	if err != nil {
		return f.failed("encode the addresses", err)
	}

	temporary, err := os.CreateTemp(filepath.Dir(f.path), temporaryName(f.path))
	if err != nil {
		return f.failed("write", err)
	}

	defer func() {
		if err != nil {
			_ = os.Remove(temporary.Name())
		}
	}()

	const readableByAll = 0o644 // CreateTemp makes the file readable only by its owner
	_, writeErr := temporary.Write(append(content, '\n'))

	written, statErr := temporary.Stat()
	if err := errors.Join(writeErr, statErr, temporary.Chmod(readableByAll), temporary.Close()); err != nil {
		return f.failed("write", err)
	}
	if err := os.Rename(temporary.Name(), f.path); err != nil {
		return f.failed("write", err)
	}

	f.written = written
	return nil
}

// remove removes the file if it is still the one that this process wrote, and
// prevents further writes.
func (f *readyFile) remove() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.removed = true
	if f.written == nil {
		return
	}
	found, err := os.Lstat(f.path)
	// Compare the time too: after a removal, a new file may get the same inode.
	if err == nil && os.SameFile(found, f.written) && found.ModTime().Equal(f.written.ModTime()) {
		_ = os.Remove(f.path) // nothing can handle an error during shutdown
	}
	f.written = nil
}

func (f *readyFile) failed(action string, err error) error {
	// The wrapped error would name the temporary file.
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	} else if link, ok := errors.AsType[*os.LinkError](err); ok {
		err = link.Err
	}
	return fmt.Errorf("--ready-file %s: %s: %w", f.path, action, err)
}
