package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// storageEvery is the time between attempts to write to a disk that failed.
	storageEvery = time.Second
	// storageMostPause bounds the pause after which a fault is looked at that
	// came back soon after the last one; the pause doubles each time.
	storageMostPause = time.Minute
	// storageStable is for how long the log must be writable until the next
	// fault is looked at without a pause again.
	storageStable = time.Minute
	// storageExpires is how often JetStream is restarted while the disk stays
	// full, so that it removes what has expired.
	storageExpires = time.Minute
	// storageRoom is how many bytes a disk must take to count as writable: a
	// full batch.
	storageRoom = maxBatchBytes + entryOverhead
	// trialName is the file in a node's directory that is written to find
	// whether its disk takes anything.
	trialName = "trial"
)

// storagePhase is what is known of a node's storage.
type storagePhase int

const (
	// storageWritable: nothing has failed.
	storageWritable storagePhase = iota
	// storageFailed: a write has failed, and the disk has taken none since.
	storageFailed
	// storageChecked: the disk takes writes again, and the log is checked for
	// what it had before.
	storageChecked
)

// storage tracks whether a node can write its event log to its disk.
//
// JetStream keeps the first error of a write: it appends nothing from then on,
// and doesn't answer publishers, until it is restarted. [Node.watchStorage] does
// that on a node alone, once the disk takes writes again. Among others, a server
// whose JetStream starts while it is connected answers for a moment as if it were
// alone, that there is no such stream: there, an operator restarts the node.
//
// The methods of a nil *storage do nothing. They may be called concurrently.
type storage struct {
	dir  string
	wake chan struct{} // has a token when a fault was reported

	// opening is held while JetStream restarts, and for reading by whoever
	// would take a stream that has yet to be recovered for one that is gone.
	opening sync.RWMutex

	mu     sync.Mutex
	phase  storagePhase
	cause  string // of the fault, as the system describes it
	broken bool   // JetStream has to be restarted
}

func newStorage(dir string) *storage {
	return &storage{dir: dir, wake: make(chan struct{}, 1)}
}

// report records that a write to the event log has failed. broken is whether
// JetStream takes nothing more because of it. It returns at once: it is called
// while JetStream holds its locks.
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
// JetStream has to be restarted.
func (s *storage) current() (phase storagePhase, cause string, broken bool) {
	if s == nil {
		return storageWritable, "", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase, s.cause, s.broken
}

// move changes the phase, unless another fault was reported meanwhile.
func (s *storage) move(from, to storagePhase) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != from {
		return false
	}
	s.phase = to
	return true
}

// reason returns why the event log can't be written; empty if it can.
func (s *storage) reason() string {
	phase, cause, _ := s.current()
	switch {
	case phase == storageWritable:
		return ""
	case phase == storageChecked:
		return "its event log is checked after a failed write: " + s.dir
	case isFull(cause):
		return "the disk of its event log is full: " + s.dir
	}
	return fmt.Sprintf("its event log can't be written: %s: %s", s.dir, cause)
}

// isFull reports whether an error's text says that a disk, or the share of it
// that the daemon may use, is full.
func isFull(cause string) bool {
	return strings.Contains(cause, syscall.ENOSPC.Error()) || strings.Contains(cause, syscall.EDQUOT.Error())
}

// hold keeps JetStream from being restarted until release is called. It reports
// false if that is going on.
func (s *storage) hold() (release func(), ok bool) {
	if s == nil {
		return func() {}, true
	}
	return s.opening.RUnlock, s.opening.TryRLock()
}

// try returns why the disk doesn't take a number of bytes.
func (s *storage) try(room int) (err error) {
	const private = 0o600
	path := filepath.Join(s.dir, trialName)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, private) //nolint:gosec // the operator names its directory
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, file.Close(), os.Remove(path))
	}()
	if _, err := file.Write(make([]byte, room)); err != nil {
		return err
	}
	return file.Sync()
}

// writeError returns the cause of a write of JetStream that has failed, out of
// what the server logs of it.
func writeError(text string) (cause string, ok bool) {
	for _, before := range []string{"ritical write error: ", "disabling JetStream: "} {
		if _, cause, ok = strings.Cut(text, before); ok {
			return cause, true
		}
	}
	return "", false
}

// storageWatch is what a node's watch over its storage remembers.
type storageWatch struct {
	told      bool          // the operator knows of the fault
	asked     bool          // and that the node must be restarted
	need      int           // bytes that the disk must take
	pause     time.Duration // before the next fault is looked at
	healed    time.Time     // when the last fault was over
	restarted time.Time     // when JetStream was restarted last
}

// watchStorage has the node reject what is published while its event log can't be
// written, and take it again once it can be, until ctx ends.
func (n *Node) watchStorage(ctx context.Context) {
	w := storageWatch{need: storageRoom, pause: storageEvery}
	again := time.NewTicker(storageEvery)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.storage.wake:
		case <-again.C:
			if !n.server.JetStreamEnabled() {
				n.storage.report("JetStream has stopped", true)
			}
		}
		if phase, cause, _ := n.storage.current(); phase != storageWritable {
			n.rejectPublishing(&w, cause)
			n.healStorage(ctx, &w)
		}
	}
}

// rejectPublishing has everything that is published, or about to be, fail with
// the fault of the storage, if that keeps it from the log.
func (n *Node) rejectPublishing(w *storageWatch, cause string) {
	if !w.told {
		w.told = true
		n.log.Error("event log cannot be written", "dir", n.storage.dir, "cause", cause)
	}
	n.judge(time.Now())
	if reason := n.fault(); reason != "" {
		largest := n.appender.suspend("the daemon can't publish: " + reason)
		w.need = max(w.need, largest+entryOverhead)
	}
}

// healStorage has the node publish again if its disk takes writes, and the log is
// what it was.
func (n *Node) healStorage(ctx context.Context, w *storageWatch) {
	s, now := n.storage, time.Now()
	if phase, _, _ := s.current(); phase == storageFailed && !n.tryStorage(w, now) {
		return
	}
	if n.fault() != "" && !n.logIntact(ctx) || !s.move(storageChecked, storageWritable) {
		return
	}
	w.told, w.asked, w.need = false, false, storageRoom
	if now.Sub(w.healed) < storageStable {
		w.pause = min(2*w.pause, storageMostPause)
	} else {
		w.pause = storageEvery
	}
	w.healed = now
	n.log.Info("event log can be written again", "dir", s.dir)
	n.appender.resume()
	n.judge(time.Now())
	n.wakeProber()
}

// tryStorage restarts the JetStream of a node alone if the disk takes writes again,
// and reports whether the log can be checked then.
func (n *Node) tryStorage(w *storageWatch, now time.Time) bool {
	if !w.healed.IsZero() && now.Before(w.healed.Add(w.pause)) {
		return false
	}
	err := errors.Join(n.storage.try(w.need), n.marks.again())
	expire := n.cfg.MaxAge > 0 && now.Sub(w.restarted) > storageExpires
	switch _, _, broken := n.storage.current(); {
	case !broken:
	case !n.alone():
		if err == nil && !w.asked {
			w.asked = true
			n.log.Warn("event log can be written again after a restart of the node", "dir", n.storage.dir)
		}
		return false
	case err == nil || expire:
		w.restarted = now
		if !n.restartJetStream() {
			return false
		}
	}
	return err == nil && n.storage.move(storageFailed, storageChecked)
}

// restartJetStream opens the event log anew, and reports whether it is open.
func (n *Node) restartJetStream() bool {
	s := n.storage
	s.opening.Lock()
	defer s.opening.Unlock()
	err := n.server.ShutdownJetStream()
	s.mu.Lock()
	s.broken = false // what is reported from here on is new
	s.mu.Unlock()
	if err = errors.Join(err, n.server.startJetStream()); err != nil {
		n.log.Debug("JetStream cannot be restarted", "error", err)
		s.report(err.Error(), true)
	}
	_, _, broken := s.current()
	return !broken
}

// logIntact reports whether the log that is read has everything that was read of
// it, now that JetStream was restarted. If not, the reader opens it anew, which
// gives it another epoch: a place in it must not be given twice.
func (n *Node) logIntact(ctx context.Context) bool {
	epoch, applied := n.openEpoch(), n.applied.Load()
	if epoch == "" {
		return true // the reader has yet to open it
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	stream, err := n.js.Stream(ctx, n.cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		n.leave(epoch)
	}
	if err != nil {
		return false
	}
	found, err := describe(stream.CachedInfo())
	if err != nil {
		return false
	}
	if found.epoch != epoch || found.last < applied {
		n.leave(epoch)
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.quorum, n.state.trouble = time.Now(), ""
	return true
}

// fault returns why nothing can be published for a fault of this node's storage;
// empty if it can be, as where other nodes have the log too.
func (n *Node) fault() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.faultLocked()
}

// faultLocked is fault for a caller that has n.mu.
func (n *Node) faultLocked() string {
	s := &n.state
	if n.alone() || s.replicas == 1 && s.leader == n.name {
		return n.storage.reason()
	}
	return ""
}

// storageError is of a log that isn't opened while its storage fails.
type storageError struct{ reason string }

func (e *storageError) Error() string { return e.reason }

// openable returns why a log that is this node's own must not be opened or made
// now: while the disk fails, JetStream may have recovered nothing, and what would
// be recorded of the log can't be.
func (n *Node) openable() error {
	if phase, _, _ := n.storage.current(); phase == storageFailed && n.alone() {
		return &storageError{n.storage.reason()}
	}
	return nil
}
