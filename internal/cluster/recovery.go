package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// recovery tracks a node's recovery from storage faults. It is owned by the goroutine
// that calls watchStorage.
type recovery struct {
	logged    bool          // the fault has been logged
	advised   bool          // the operator has been advised to restart the node
	minFree   int           // number of bytes that the disk must accept
	pause     time.Duration // minimum time before the next fault is handled
	recovered time.Time     // when the last fault ended
	restarted time.Time     // when JetStream was last restarted
}

// watchStorage runs until ctx is done. While the event log can't be written, it rejects
// messages and tries to recover the log.
func (n *Node) watchStorage(ctx context.Context) {
	r := recovery{minFree: storageMinFree, pause: storageInterval}
	tick := time.NewTicker(storageInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.storage.wake:
		case <-tick.C:
			if !n.server.JetStreamEnabled() {
				n.storage.report("JetStream has stopped", true)
			}
		}
		if phase, cause, _ := n.storage.current(); phase != storageWritable {
			n.rejectMessages(&r, cause)
			n.recoverStorage(ctx, &r)
		}
	}
}

// rejectMessages makes the appender reject messages, with the storage fault as the
// reason, if the fault prevents publishing.
func (n *Node) rejectMessages(r *recovery, cause string) {
	if !r.logged {
		r.logged = true
		n.log.Error("event log cannot be written", "dir", n.storage.dir, "cause", cause)
	}
	n.updateServing(time.Now())
	if reason := n.fault(); reason != "" {
		largest := n.appender.suspend(reason)
		r.minFree = max(r.minFree, largest+entryOverhead)
	}
}

// recoverStorage makes the appender accept messages again if the disk accepts writes
// and the event log is intact.
func (n *Node) recoverStorage(ctx context.Context, r *recovery) {
	s, now := n.storage, time.Now()
	if phase, _, _ := s.current(); phase == storageFailed && !n.tryStorage(r, now) {
		return
	}
	if n.fault() != "" && !n.logIntact(ctx) || !s.move(storageChecking, storageWritable) {
		return
	}

	r.logged, r.advised, r.minFree = false, false, storageMinFree
	if now.Sub(r.recovered) < storageStable {
		r.pause = min(2*r.pause, storageMaxPause)
	} else {
		r.pause = storageInterval
	}
	r.recovered = now
	n.log.Info("event log can be written again", "dir", s.dir)
	n.appender.resume()
	n.updateServing(time.Now())
	n.wakeProber()
}

// tryStorage reports whether the disk accepts writes again and the event log can be
// checked. On a standalone node, it restarts JetStream first if necessary.
func (n *Node) tryStorage(r *recovery, now time.Time) bool {
	if !r.recovered.IsZero() && now.Before(r.recovered.Add(r.pause)) {
		return false
	}
	err := errors.Join(n.storage.try(r.minFree), n.marks.retry())
	expire := n.cfg.MaxAge > 0 && now.Sub(r.restarted) > storageRestartInterval
	switch _, _, broken := n.storage.current(); {
	case !broken:
	case !n.standalone():
		if err == nil && !r.advised {
			r.advised = true
			n.log.Warn("disk accepts writes again, restart needed", "dir", n.storage.dir)
		}
		return false
	case err == nil || expire:
		r.restarted = now
		if !n.restartJetStream() {
			return false
		}
	}
	return err == nil && n.storage.move(storageFailed, storageChecking)
}

// restartJetStream restarts JetStream, and reports whether it succeeded.
func (n *Node) restartJetStream() bool {
	s := n.storage
	s.opening.Lock()
	defer s.opening.Unlock()
	err := n.server.ShutdownJetStream()
	s.mu.Lock()
	s.broken = false // reports from now on are about new faults
	s.mu.Unlock()
	if err = errors.Join(err, n.server.startJetStream()); err != nil {
		n.log.Debug("cannot restart JetStream", "error", err)
		s.report(err.Error(), true)
	}
	_, _, broken := s.current()
	return !broken
}

// logIntact reports whether, after a restart of JetStream, the open event log still has
// everything that has been read from it. If it doesn't, logIntact makes the reader
// reopen it, which starts a new epoch: an id must not be used twice.
func (n *Node) logIntact(ctx context.Context) bool {
	epoch, applied := n.openEpoch(), n.applied.Load()
	if epoch == "" {
		return true // the reader will open it
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	stream, err := n.js.Stream(ctx, n.cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		n.leaveLog(epoch)
	}
	if err != nil {
		return false
	}
	found, err := describe(stream.CachedInfo())
	if err != nil {
		return false
	}
	if found.epoch != epoch || found.last < applied {
		n.leaveLog(epoch)
		return false
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.quorumAt, n.state.trouble = time.Now(), ""
	return true
}
