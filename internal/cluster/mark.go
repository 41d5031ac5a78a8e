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

// markName is the file in a node's directory that records what the node has
// used of its logs.
const markName = "mark"

// marks is a node's memory of its logs, outside of the logs' own files: which
// log it used last, and how far it has applied it. With it a node finds at its
// start that a log has lost its end, was replaced by an older copy, or was set
// aside while the node used another one.
//
// Each start writes the file anew, under another inode, and records the inode in
// it: a file that is a copy, as after a backup was restored, shows it. Each
// entry is written into the file before its events are delivered. That costs a
// system call and no wait for the disk: it outlives the process, and for a
// failure of the machine the record has the id of the machine's boot.
//
// The methods of a nil *marks do nothing. They may be called concurrently.
type marks struct {
	path    string
	storage *storage // is told of what can't be written
	log     *slog.Logger

	mu     sync.Mutex
	file   *os.File // nil until a log is opened
	record record
	key    string // of the log that is open
	failed bool   // the last write has failed

	// doubt is why the record of the earlier run can't be relied on; empty if
	// it can, and once the first log has been opened.
	doubt string
	// absent reports whether there was no record, as in the directory of a
	// version that kept none.
	absent bool
}

// record is the content of the file, as JSON after a checksum.
type record struct {
	// Node is the node's name; empty in records of versions that left it out.
	Node string `json:"node,omitempty"`
	// Last is the key of the log that was used last.
	Last string `json:"last"`
	// Logs are the logs that were used, by key.
	Logs map[string]marked `json:"logs"`
	// Boot is the id of the machine's boot; empty where there is none.
	Boot string `json:"boot,omitempty"`
	// Clean reports whether the node was shut down in order.
	Clean bool `json:"clean"`
	// Inode and Born identify the file itself; 0 where they are not known.
	Inode uint64 `json:"inode,omitempty"`
	Born  int64  `json:"born,omitempty"`
}

// marked holds the position up to which a log was used.
type marked struct {
	Epoch string `json:"epoch"`
	// Entry is the last entry that was applied, and At when the log took it in,
	// in Unix nanoseconds; 0 where that is not known.
	Entry uint64 `json:"entry"`
	At    int64  `json:"at,omitempty"`
}

// readMarks reads what earlier runs have recorded in dir. Records of logs that
// were not written through to the disk don't outlive a failure of the machine.
func readMarks(dir string, synced bool, storage *storage, log *slog.Logger) *marks {
	m := &marks{path: filepath.Join(dir, markName), storage: storage, log: log}
	m.doubt = m.read(synced)
	if m.record.Logs == nil {
		m.record.Logs = make(map[string]marked)
	}
	return m
}

// read returns why the record can't be relied on.
func (m *marks) read(synced bool) (doubt string) {
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
		return "the directory is a copy: " + m.path + " is not the file that the node wrote"
	case !r.Clean && !synced && (r.Boot == "" || r.Boot != bootID()):
		return "the machine has failed, and with cluster.sync off the disk may lack what was acknowledged last"
	}
	return ""
}

// nodeName returns the node's name of the earlier run; empty where it is not
// known.
func (m *marks) nodeName() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.record.Node
}

// setNodeName has the node's name recorded with the log that is opened next.
func (m *marks) setNodeName(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.record.Node = name
}

func checksum(text []byte) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE(text)) }

// suspect returns why the log with a key must not go on as it is: it is not the
// one that the node has used last, or not all of it. alone is whether nobody but
// this node has the log and decides on it; single whether it has one replica.
//
// unsure is an entry that the log should have, and doesn't: a leader that was
// just elected may have yet to take it in.
func (m *marks) suspect(key string, l log, alone, single bool) (why string, unsure *position) {
	if m == nil {
		return "", nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.record.Logs[key]
	short := ok && known.Epoch == l.epoch && l.last < known.Entry
	switch {
	case alone && m.absent && !l.marked:
		return "", nil // the log is of a version that recorded nothing
	case alone && m.doubt != "":
		return m.doubt, nil
	case alone && (!ok || known.Epoch != l.epoch):
		return "it is not the log that the node has used", nil
	case alone && m.record.Last != key:
		return fmt.Sprintf("it was set aside while the node used %s", m.record.Last), nil
	case short && (alone || single):
		return fmt.Sprintf("it has lost its end: it has %d entries, and had %d", l.last, known.Entry), nil
	case short:
		return "", &position{known.Entry, time.Unix(0, known.At)}
	case ok && m.doubt == "" && m.record.Last != "" && m.record.Last != key && known.Epoch == l.epoch && l.last == known.Entry:
		// All nodes have set it aside, or it would have gone on.
		return fmt.Sprintf("it was set aside while the node used %s", m.record.Last), nil
	}
	return "", nil
}

// used reports whether the log with a key was used in an earlier run.
func (m *marks) used(key string) bool {
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.record.Logs[key]
	return ok
}

// open records that the log with a key is used from here on.
func (m *marks) open(key string, l log) (err error) {
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
	// Ids of positions up to the log's first entry may be handed out at once.
	known := m.record.Logs[key]
	if known.Epoch != l.epoch {
		known = marked{Epoch: l.epoch}
	}
	if known.Entry < l.first-1 {
		known.Entry, known.At = l.first-1, 0
	}
	m.record.Logs[key] = known
	m.record.Last, m.key = key, key
	m.record.Clean, m.record.Boot = false, bootID()
	if m.file == nil {
		if err := m.create(); err != nil {
			return fmt.Errorf("recording the use of the log: %w", err)
		}
	} else if err := m.write(); err != nil {
		return fmt.Errorf("recording the use of the log: %w", err)
	}
	m.doubt, m.absent = "", false
	return nil
}

// create puts a new file in the place of the old one. The caller has m.mu.
func (m *marks) create() (err error) {
	const private = 0o600
	made := m.path + ".new"
	file, err := os.OpenFile(made, os.O_RDWR|os.O_CREATE|os.O_TRUNC, private)
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
	m.record.Inode, m.record.Born = identity(made)
	if err := m.write(); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return os.Rename(made, m.path)
}

// note records that an entry of the open log is about to be delivered.
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
	m.record.Logs[m.key] = marked{epoch, entry, at.UnixNano()}
	if m.file == nil {
		return
	}
	err := m.write()
	if m.failed = err != nil; m.failed {
		m.storage.report(fmt.Sprintf("recording the position in the log: %v", err), false)
	}
}

// again writes the record to a new file if the last attempt has failed, and
// returns why it fails now.
func (m *marks) again() error {
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

// markBlock divides the length of the file, so that a record
// overwrites the one before in place.
const markBlock = 4096

// write writes the record. The caller has m.mu.
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

// close records that the node is shut down in order: its logs are on the disk.
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
		m.log.Warn("cannot record that the node was shut down", "error", err)
	}
	_ = m.file.Close()
	m.file = nil
}
