package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/peald/peald/daemon"
)

// readyFile is a file that is there while all listeners accept. Without a path
// it is no file.
type readyFile struct {
	path string

	mu      sync.Mutex
	written fs.FileInfo // of the file as this process wrote it
	over    bool
}

// check refuses a path at which no ready file can be, or where there is
// something else that nobody meant to lose. It changes nothing there: a daemon
// that is running may have written what is.
func (f *readyFile) check() error {
	if f.path == "" {
		return nil
	}

	folder := filepath.Dir(f.path)
	temporary, err := os.CreateTemp(folder, temporaryName(f.path))
	if err != nil {
		return f.failed("its folder takes no file", err)
	}
	if err := errors.Join(temporary.Close(), os.Remove(temporary.Name())); err != nil {
		return f.failed("its folder takes no file", err)
	}

	found, err := os.Lstat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return f.failed("it can't be looked at", err)
	}

	if !found.Mode().IsRegular() || !isReadyFile(f.path, found.Size()) {
		return &daemon.SettingError{
			Key:      "--ready-file",
			Given:    strconv.Quote(f.path) + ", which is there and is no ready file",
			Accepted: "a path at which there is nothing, or an earlier ready file",
		}
	}

	return nil
}

// isReadyFile says whether the file holds addresses and nothing else.
func isReadyFile(path string, size int64) bool {
	const most = 4 << 10
	if size > most {
		return false
	}
	content, err := os.ReadFile(path) //nolint:gosec // Whoever starts the daemon says which.
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

// write puts the addresses into the file. Whoever waits for it never finds half
// of them: the file appears whole, in the place of an earlier one.
func (f *readyFile) write(addresses daemon.Addresses) (err error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	if f.path == "" || f.over {
		return nil
	}

	content, err := json.Marshal(addresses)
	if err != nil {
		return f.failed("its content can't be encoded", err)
	}

	temporary, err := os.CreateTemp(filepath.Dir(f.path), temporaryName(f.path))
	if err != nil {
		return f.failed("it can't be written", err)
	}

	defer func() {
		if err != nil {
			_ = os.Remove(temporary.Name())
		}
	}()

	const readableByAll = 0o644 // CreateTemp's own is for its user alone
	_, writeErr := temporary.Write(append(content, '\n'))

	written, statErr := temporary.Stat()
	if err := errors.Join(writeErr, statErr, temporary.Chmod(readableByAll), temporary.Close()); err != nil {
		return f.failed("it can't be written", err)
	}
	if err := os.Rename(temporary.Name(), f.path); err != nil {
		return f.failed("it can't be written", err)
	}

	f.written = written
	return nil
}

// remove takes the file away for good, if it is still the one that this
// process wrote.
func (f *readyFile) remove() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	if f.written == nil {
		return
	}
	found, err := os.Lstat(f.path)
	// A file that was made after ours was removed may have its number.
	if err == nil && os.SameFile(found, f.written) && found.ModTime().Equal(f.written.ModTime()) {
		_ = os.Remove(f.path) // it is the end, and nobody left to complain to
	}
	f.written = nil
}

func (f *readyFile) failed(what string, err error) error {
	// The system's own words name a temporary file that nobody asked for.
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	} else if link, ok := errors.AsType[*os.LinkError](err); ok {
		err = link.Err
	}
	return fmt.Errorf("--ready-file %s: %s: %w", f.path, what, err)
}
