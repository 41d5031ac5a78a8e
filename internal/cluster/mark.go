package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// markName is the name of the file in a node's directory that records how far into its
// event logs the node has got.
const markName = "mark"

// marks is a node's record of its event logs, kept outside their own files. It holds
// which event log the node used last, and the last entry that it applied from each.
// With this record, a node can detect at startup that an event log has lost its last
// entries, has been replaced by an older copy, or is stale because the node has used
// another one since.
//
// Each start creates a new file, with a new inode, and records the inode in the file.
// The next start can then detect a copy of the file, such as one from a restored
// backup. Each entry is recorded before its events are delivered. That takes a system
// call but no disk sync, so the record survives a crash of the process. To detect a
// crash of the machine, the record contains the machine's boot id.
//
// Its methods are safe for concurrent use. On a nil *marks, they do nothing.
type marks struct {
	path    string
	storage *storage // receives write errors
	log     *slog.Logger

	mu     sync.Mutex
	file   *os.File // nil until an event log is opened
	record record
	key    string // of the open event log
	failed bool   // the last write failed

	// unreliable explains why the record from the last run can't be relied on. It is
	// empty if the record is reliable, and once an event log has been opened.
	unreliable string
	// absent is true if there was no record. Earlier versions kept none.
	absent bool
	// anyEpoch is true if it is unknown which epochs the open event log has had.
	anyEpoch bool
}

// record is the content of the file, which consists of a checksum followed by the
// record in JSON.
type record struct {
	// Node is the node's name. It is empty in records from earlier versions.
	Node string `json:"node,omitempty"`
	// Last is the key of the event log used last.
	Last string `json:"last"`
	// Logs holds the marks of the event logs used so far, by key.
	Logs map[string]logMark `json:"logs"`
	// Boot is the machine's boot id. It is empty if unknown.
	Boot string `json:"boot,omitempty"`
	// Clean reports whether the node was shut down cleanly.
	Clean bool `json:"clean"`
	// Inode and Born identify the file itself. They are 0 if unknown.
	Inode uint64 `json:"inode,omitempty"`
	Born  int64  `json:"born,omitempty"`
}

// logMark is the position up to which an event log has been used.
type logMark struct {
	Epoch string `json:"epoch"`
	// Entry is the last entry that was applied. At is the time when the event log
	// stored it, in Unix nanoseconds, or 0 if unknown.
	Entry uint64 `json:"entry"`
	At    int64  `json:"at,omitempty"`
	// Epochs are the epochs that the event log has had, up to maxEpochs, the current one
	// last. It is empty in records from earlier versions.
	Epochs []string `json:"epochs,omitempty"`
	// Snapshot is the revision of the last known snapshot of the retained values, or 0
	// if there was none.
	Snapshot uint64 `json:"snapshot,omitempty"`
}

// maxEpochs is the number of epochs of an event log that are recorded. A snapshot of
// the retained values is from the current epoch or, if the node hasn't run for long
// since, from one of the last.
const maxEpochs = 16

// readMarks reads the record that earlier runs left in dir. If synced is false, the
// record is unreliable after a crash of the machine.
func readMarks(dir string, synced bool, storage *storage, log *slog.Logger) *marks {
	m := &marks{path: filepath.Join(dir, markName), storage: storage, log: log}
	m.unreliable = m.read(synced)
	if m.record.Logs == nil {
		m.record.Logs = make(map[string]logMark)
	}
	return m
}

// read reads the record. If the record can't be relied on, read returns the reason.
func (m *marks) read(synced bool) (unreliable string) {
	data, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		m.absent = true
		return m.path + " is missing"
	}
	if err != nil {
		return err.Error()
	}
	var r record
	sum, text, _ := bytes.Cut(bytes.TrimSpace(data), []byte(" "))
	if string(sum) != checksum(text) || json.Unmarshal(text, &r) != nil {
		return m.path + " is damaged"
	}
	m.record = r
	inode, born := identity(m.path)
	switch {
	case r.Inode != inode || r.Born != born:
		return "the directory is a copy: " + m.path + " has a different inode"
	case !r.Clean && !synced && (r.Boot == "" || r.Boot != bootID()):
		return "the machine crashed with cluster.sync off: the disk may lack acknowledged entries"
	}
	return ""
}

// nodeName returns the node's name in the last run, or "" if it is unknown.
func (m *marks) nodeName() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.record.Node
}

// setNodeName sets the node's name, which is recorded when an event log is opened.
func (m *marks) setNodeName(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.record.Node = name
}

func checksum(text []byte) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE(text)) }

// check returns the reason why the event log with the given key needs a new epoch: it
// isn't the one that the node used last, or part of it is missing. The reason is empty
// if no new epoch is needed. standalone is true if only this node has the event log.
//
// leads is true if this node leads the event log. No node of the majority that elected
// it has entries that it lacks. If its own files are a copy, or lack entries since a
// crash, the others may be in the same situation.
//
// doubt is an entry that the event log should have but doesn't. That doesn't prove that
// the entry is lost: a newly elected leader may still be applying its own log.
func (m *marks) check(key string, l eventLog, standalone, leads bool) (reason string, doubt *position) {
	if m == nil {
		return "", nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.record.Logs[key]
	short := ok && known.Epoch == l.epoch && l.last < known.Entry
	switch {
	case !standalone && leads && m.unreliable != "" && !m.absent && l.last > 0:
		return m.unreliable, nil
	case standalone && m.absent && !l.hasBase:
		return "", nil // an earlier version created the event log
	case standalone && m.unreliable != "":
		return m.unreliable, nil
	case standalone && (!ok || known.Epoch != l.epoch):
		return "not the event log that the node used last", nil
	case standalone && m.record.Last != key:
		return "stale: the node has used the event log " + m.record.Last + " since", nil
	case short && (standalone || l.replicas == 1):
		return fmt.Sprintf("the last entries are lost: it ends at %d, expected %d", l.last, known.Entry), nil
	case short:
		return "", &position{known.Entry, time.Unix(0, known.At)}
	case ok && m.unreliable == "" && m.record.Last != "" && m.record.Last != key && known.Epoch == l.epoch && m.isStale(known, l):
		return "stale: the node has used the event log " + m.record.Last + " since", nil
	}
	return "", nil
}

// isStale reports whether no other node has used an event log since this node last used
// it: the event log has no new entries, or none since the last entry of the one that
// this node used instead. The caller must hold m.mu.
func (m *marks) isStale(known logMark, l eventLog) bool {
	return l.last == known.Entry || l.lastAt.Before(time.Unix(0, m.record.Logs[m.record.Last].At))
}

// reliable reports whether the record from the last run can be relied on. That includes
// the record of a new node.
func (m *marks) reliable() bool {
	if m == nil {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.unreliable == "" || m.absent
}

// used reports whether the event log with the given key has been used in an earlier
// run.
func (m *marks) used(key string) bool {
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.record.Logs[key]
	return ok
}

// open records that the event log with the given key is used from now on.
func (m *marks) open(key string, l eventLog) (err error) {
	if m == nil {
		return nil
	}
	defer func() {
		if err != nil {
			m.storage.report(err.Error(), false)
		}
	}()
	m.mu.Lock()
	defer m.mu.Unlock()

	// Clients may immediately get ids for positions before the first entry.
	known := m.record.Logs[key]
	m.anyEpoch = len(known.Epochs) == 0
	if known.Epoch != l.epoch {
		known.Epoch, known.Entry, known.At = l.epoch, 0, 0
	}
	known.addEpoch(l.epoch)
	if known.Entry < l.first-1 {
		known.Entry, known.At = l.first-1, 0
	}
	m.record.Logs[key] = known
	m.record.Last, m.key = key, key
	m.record.Clean, m.record.Boot = false, bootID()
	if m.file == nil {
		if err := m.create(); err != nil {
			return fmt.Errorf("recording the use of the event log: %w", err)
		}
	} else if err := m.write(); err != nil {
		return fmt.Errorf("recording the use of the event log: %w", err)
	}
	m.unreliable, m.absent = "", false
	return nil
}

// create writes the record to a new file that replaces the old one. The caller must
// hold m.mu.
func (m *marks) create() (err error) {
	const private = 0o600
	path := m.path + ".new"
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, private) //nolint:gosec // the operator names its directory
	if err != nil {
		return err
	}
	m.file = file
	defer func() {
		if err != nil {
			_ = file.Close()
			m.file = nil
		}
	}()
	m.record.Inode, m.record.Born = identity(path)
	if err := m.write(); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return os.Rename(path, m.path)
}

// note records that an entry in the open event log is about to be delivered.
func (m *marks) note(epoch string, entry uint64, at time.Time) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.record.Logs[m.key]
	if known.Epoch != epoch || entry <= known.Entry {
		return
	}
	known.Entry, known.At = entry, at.UnixNano()
	m.update(known)
}

// update records what is known about the open event log. The caller must hold m.mu.
func (m *marks) update(known logMark) {
	m.record.Logs[m.key] = known
	if m.file == nil {
		return
	}
	err := m.write()
	if m.failed = err != nil; m.failed {
		m.storage.report(fmt.Sprintf("recording the position in the event log: %v", err), false)
	}
}

// retry writes the record to a new file if the last write failed.
func (m *marks) retry() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.failed {
		return nil
	}
	if m.file != nil {
		_ = m.file.Close()
	}
	err := m.create()
	m.failed = err != nil
	return err
}

// The length of the file is a multiple of markBlock, so that a record can overwrite the
// previous one in place.
const markBlock = 4096

// write writes the record. The caller must hold m.mu.
func (m *marks) write() error {
	text, err := json.Marshal(&m.record)
	if err != nil {
		return err
	}
	data := append([]byte(checksum(text)+" "), text...)
	data = append(data, '\n')
	if rest := len(data) % markBlock; rest > 0 {
		data = append(data, bytes.Repeat([]byte{'\n'}, markBlock-rest)...)
	}
	_, err = m.file.WriteAt(data, 0)
	return err
}

// close records that the node has been shut down cleanly, with its event logs on disk.
func (m *marks) close() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file == nil {
		return
	}
	m.record.Clean = true
	err := m.write()
	if err == nil {
		err = m.file.Sync()
	}
	if err != nil {
		m.log.Warn("cannot record the shutdown", "error", err)
	}
	_ = m.file.Close()
	m.file = nil
}
