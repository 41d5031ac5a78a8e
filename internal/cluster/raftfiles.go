package cluster

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/minio/highwayhash"
)

// The server refuses to start on a damaged Raft snapshot of its cluster's
// metadata, and holds no replica of the log on one of the log's group. The
// other nodes have both, so that a node is better off without the file.

const (
	// raftGroups is the directory of the Raft groups in the server's store.
	raftGroups = "jetstream/$SYS/_js_"
	// setAside is the prefix of the names that damaged files get.
	setAside = "damaged-"
	// snapshotHeader is the length of what precedes the peers in a snapshot:
	// term, index, and the length of the peers.
	snapshotHeader = 8 + 8 + 4
	// peersHeader is the length of what precedes the names of the peers.
	peersHeader = 4 + 4
	// peerName is the length of a name.
	peerName = 8
	// plausibleTerms bounds the terms that a group can have had: an election
	// takes seconds.
	plausibleTerms = 1 << 40
)

// setDamagedAside renames files of the Raft groups in a server's store that the
// server can't read, and logs each. The node gets from the others what it lacks
// then. The server must not run.
func setDamagedAside(store string, log *slog.Logger) error {
	groups, err := os.ReadDir(filepath.Join(store, raftGroups))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listing the Raft groups: %w", err)
	}
	for _, g := range groups {
		group := filepath.Join(store, raftGroups, g.Name())
		files := map[string]func(group string, data []byte) error{filepath.Join(group, "tav.idx"): checkTerm}
		snapshots, err := os.ReadDir(filepath.Join(group, "snapshots"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("listing snapshots: %w", err)
		}
		for _, s := range snapshots {
			files[filepath.Join(group, "snapshots", s.Name())] = checkSnapshot
		}

		for file, check := range files {
			data, err := os.ReadFile(file) //nolint:gosec // it is below the operator's directory
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return fmt.Errorf("checking the files of a Raft group: %w; remove the file if it can't be read, and the node gets it from the other nodes", err)
			}
			damage := check(filepath.Base(group), data)
			if damage == nil {
				continue
			}
			to := filepath.Join(group, setAside+filepath.Base(file))
			if err := os.Rename(file, to); err != nil {
				return fmt.Errorf("%s is damaged (%w): remove it, and the node gets it from the other nodes", file, err)
			}
			log.Error("set a damaged file aside", "file", file, "to", to, "error", damage)
		}
	}
	return nil
}

// checkSnapshot returns what is wrong with a snapshot of a group.
func checkSnapshot(group string, data []byte) error {
	if len(data) < snapshotHeader+highwayhash.Size64 {
		return fmt.Errorf("too short: %d bytes", len(data))
	}
	key := sha256.Sum256([]byte(group))
	hash, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		return err
	}
	content, sum := data[:len(data)-highwayhash.Size64], data[len(data)-highwayhash.Size64:]
	_, _ = hash.Write(content) // which can't fail
	if !bytes.Equal(hash.Sum(nil), sum) {
		return errors.New("wrong checksum")
	}

	peers := content[snapshotHeader:]
	length := binary.LittleEndian.Uint32(content[snapshotHeader-4:])
	if uint64(length) > uint64(len(peers)) || length < peersHeader {
		return fmt.Errorf("%d bytes of peers, of %d", length, len(peers))
	}
	peers = peers[:length]
	if want := binary.LittleEndian.Uint32(peers[4:]); uint64(want)*peerName > uint64(len(peers)-peersHeader) {
		return fmt.Errorf("%d peers in %d bytes", want, len(peers))
	}
	return nil
}

// checkTerm returns what is wrong with the file that holds a group's term, and
// for whom the node has voted in it.
func checkTerm(_ string, data []byte) error {
	if len(data) < 8 {
		return fmt.Errorf("too short: %d bytes", len(data))
	}
	if term := binary.LittleEndian.Uint64(data); term > plausibleTerms {
		return fmt.Errorf("implausible term %d", term)
	}
	return nil
}
