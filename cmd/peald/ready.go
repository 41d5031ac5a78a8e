package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/peald/peald/daemon"
)

// readyFileAt is the path of a file that is there while all listeners accept.
// An empty path is no file.
type readyFileAt string

// write puts the addresses into the file. Whoever waits for it never finds half
// of them: the file appears whole.
func (path readyFileAt) write(addresses daemon.Addresses) (err error) {
	if path == "" {
		return nil
	}
	content, err := json.Marshal(addresses)
	if err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(string(path)), "."+filepath.Base(string(path))+".*")
	if err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary.Name())
		}
	}()
	const readableByAll = 0o644 // CreateTemp's own is for its user alone
	_, writeErr := temporary.Write(append(content, '\n'))
	if err := errors.Join(writeErr, temporary.Chmod(readableByAll), temporary.Close()); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	if err := os.Rename(temporary.Name(), string(path)); err != nil {
		return fmt.Errorf("ready file: %w", err)
	}
	return nil
}

func (path readyFileAt) remove() error {
	if path == "" {
		return nil
	}
	if err := os.Remove(string(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("ready file: %w", err)
	}
	return nil
}
