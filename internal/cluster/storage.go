package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// storageInterval is the time between attempts to write to a failed disk.
	storageInterval = time.Second
	// storageMaxPause is the maximum pause before the node handles a fault that occurs
	// soon after the previous one. The pause doubles each time.
	storageMaxPause = time.Minute
	// storageStable is how long the event log must stay writable for the pause to be
	// reset.
	storageStable = time.Minute
	// storageRestartInterval is the time between restarts of JetStream while the
	// disk is full. A restart removes expired entries.
	storageRestartInterval = time.Minute
	// storageMinFree is the number of bytes that a disk must accept to count as
	// writable. It is enough for a full batch.
	storageMinFree = maxBatchBytes + entryOverhead
	// trialName is the name of a file in a node's directory that is written to find out
	// whether the disk accepts writes.
	trialName = "trial"
)

// errRestarting means that JetStream is being restarted.
var errRestarting = errors.New("JetStream is restarting")

// storagePhase is the phase of a node's storage.
type storagePhase int

const (
	// storageWritable means that no write has failed.
	storageWritable storagePhase = iota
	// storageFailed means that a write has failed and that the disk has accepted none
	// since.
	storageFailed
	// storageChecking means that the disk accepts writes again, and that the event
	// log is being checked for lost entries.
	storageChecking
)

// storage tracks whether a node can write its event log to disk.
//
// After its first write error, JetStream appends nothing and doesn't reply to
// publishers until it is restarted. On a standalone node, [Node.watchStorage] restarts
// it once the disk accepts writes again. That isn't possible in a cluster: if JetStream
// starts while the server is connected to other nodes, it briefly acts as if the server
// were alone, and replies that there is no such stream. The operator must therefore
// restart the node.
//
// Its methods are safe for concurrent use. On a nil *storage, they do nothing.
type storage struct {
	dir  string
	wake chan struct{} // has a token after a fault has been reported

	// opening is locked while JetStream restarts. It is read-locked by code that could
	// mistake a stream that hasn't been recovered yet for a missing one.
	opening sync.RWMutex

	mu     sync.Mutex
	phase  storagePhase
	cause  string // of the fault, from the operating system
	broken bool   // JetStream must be restarted
}

func newStorage(dir string) *storage {
	return &storage{dir: dir, wake: make(chan struct{}, 1)}
}

// report records that a write to the event log has failed. broken is true if JetStream
// must be restarted. JetStream calls report with locks held, so report doesn't block.
func (s *storage) report(cause string, broken bool) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = s.broken || broken
	if s.phase == storageFailed {
		return
	}
	s.phase, s.cause = storageFailed, cause
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// current returns the phase, the cause of the fault if there is one, and whether
// JetStream must be restarted.
func (s *storage) current() (phase storagePhase, cause string, broken bool) {
	if s == nil {
		return storageWritable, "", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase, s.cause, s.broken
}

// move changes the phase from one value to another. It reports false if the phase is no
// longer from, because another fault has been reported.
func (s *storage) move(from, to storagePhase) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != from {
		return false
	}
	s.phase = to
	return true
}

// reason returns the reason why the event log can't be written, or an empty string if
// it can.
func (s *storage) reason() string {
	phase, cause, _ := s.current()
	switch {
	case phase == storageWritable:
		return ""
	case phase == storageChecking:
		return "checking the event log after a failed write: " + s.dir
	case isFull(cause):
		return "the disk of its event log is full: " + s.dir
	}
	return fmt.Sprintf("cannot write the event log: %s: %s", s.dir, cause)
}

// isFull reports whether the text of an error means that a disk is full or that a quota
// is exhausted.
func isFull(cause string) bool {
	return strings.Contains(cause, syscall.ENOSPC.Error()) || strings.Contains(cause, syscall.EDQUOT.Error())
}

// hold prevents JetStream from being restarted until release is called. It reports
// false if JetStream is already being restarted.
func (s *storage) hold() (release func(), ok bool) {
	if s == nil {
		return func() {}, true
	}
	return s.opening.RUnlock, s.opening.TryRLock()
}

// try returns an error if the disk doesn't accept the given number of bytes.
func (s *storage) try(bytes int) (err error) {
	const private = 0o600
	path := filepath.Join(s.dir, trialName)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, private) //nolint:gosec // the operator names its directory
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, file.Close(), os.Remove(path))
	}()
	if _, err := file.Write(make([]byte, bytes)); err != nil {
		return err
	}
	return file.Sync()
}

// parseWriteError parses a log line from the server about a failed JetStream write.
func parseWriteError(line string) (cause string, ok bool) {
	for _, prefix := range []string{"ritical write error: ", "disabling JetStream: "} {
		if _, cause, ok = strings.Cut(line, prefix); ok {
			return cause, true
		}
	}
	return "", false
}
