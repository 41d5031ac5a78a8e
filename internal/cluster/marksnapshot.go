package cluster

import "slices"

// hasHad reports whether the open event log may have had an epoch.
func (m *marks) hasHad(epoch string) bool {
	if m == nil {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.anyEpoch || slices.Contains(m.record.Logs[m.key].Epochs, epoch)
}

// snapshot returns the revision of the last known snapshot of the retained values.
func (m *marks) snapshot() uint64 {
	if m == nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.record.Logs[m.key].Snapshot
}

// noteSnapshot records the latest snapshot of the retained values, by its epoch and
// revision.
func (m *marks) noteSnapshot(epoch string, revision uint64) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.record.Logs[m.key]
	if known.Snapshot == revision && slices.Contains(known.Epochs, epoch) {
		return
	}
	known.Snapshot = revision
	known.addEpoch(epoch)
	m.update(known)
}

// addEpoch adds an epoch before the current one, unless it is recorded already.
func (l *logMark) addEpoch(epoch string) {
	if epoch == "" || slices.Contains(l.Epochs, epoch) {
		return
	}
	epochs := slices.Clone(l.Epochs)
	if epoch == l.Epoch {
		epochs = append(epochs, epoch)
	} else {
		epochs = slices.Insert(epochs, max(len(epochs)-1, 0), epoch)
	}
	l.Epochs = epochs[max(len(epochs)-maxEpochs, 0):]
}
