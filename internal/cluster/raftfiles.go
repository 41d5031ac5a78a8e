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
	"slices"

	"github.com/minio/highwayhash"
)

// If the Raft snapshot of the cluster's metadata is damaged, the server doesn't start.
// If the Raft snapshot of the event log's group is damaged, the node has no replica of
// the event log. Damaged files are therefore set aside: a node without the file gets
// its contents from the other nodes.

const (
	// raftGroups is the directory of the Raft groups below the server's store.
	raftGroups = "jetstream/$SYS/_js_"
	// damagedPrefix is the prefix that is added to the names of damaged files.
	damagedPrefix = "damaged-"
	// snapshotHeader is the length of a snapshot's header: the term, the index,
	// and the length of the peer list.
	snapshotHeader = 8 + 8 + 4
	// peersHeader is the length of the peer list's header.
	peersHeader = 4 + 4
	// peerName is the length of a peer's name.
	peerName = 8
	// plausibleTerms is an upper bound on a group's term: an election takes
	// seconds.
	plausibleTerms = 1 << 40
)

// setDamagedAside renames the files of Raft groups that the server can't read, or that
// belong to groups without this node, and logs each. The node gets their contents from
// the other nodes. The server of the node called name must not be running.
func setDamagedAside(store, name string, log *slog.Logger) error {
	checkSnapshot := func(group string, data []byte) error { return checkSnapshot(group, serverID(name), data) }

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
				return fmt.Errorf("reading a file of a Raft group: %w; if you remove the file, the node gets it from the other nodes", err)
			}
			damage := check(filepath.Base(group), data)
			if damage == nil {
				continue
			}
			to := filepath.Join(group, damagedPrefix+filepath.Base(file))
			if err := os.Rename(file, to); err != nil {
				return fmt.Errorf("%s is damaged (%w); if you remove it, the node gets it from the other nodes", file, err)
			}
			log.Error("set a damaged file aside", "file", file, "to", to, "error", damage)
		}
	}

	return nil
}

// serverID returns the id by which NATS servers identify the server with a name in the
// peer lists of Raft groups: each of the first bytes of its SHA-256 as a digit.
func serverID(name string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum := sha256.Sum256([]byte(name))
	id := make([]byte, peerName)
	for i := range id {
		id[i] = digits[int(sum[i])%len(digits)]
	}
	return string(id)
}

// checkSnapshot returns an error if a snapshot of a group is damaged, or if the server
// with the id own isn't a peer in it. In that case, the snapshot belongs to another
// cluster. Its checksum depends only on the name of the group, and all clusters have a
// group for metadata with the same name.
func checkSnapshot(group, own string, data []byte) error {
	if len(data) < snapshotHeader+highwayhash.Size64 {
		return fmt.Errorf("too short: %d bytes", len(data))
	}
	key := sha256.Sum256([]byte(group))
	hash, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		return err
	}
	content, sum := data[:len(data)-highwayhash.Size64], data[len(data)-highwayhash.Size64:]
	_, _ = hash.Write(content) // never fails
	if !bytes.Equal(hash.Sum(nil), sum) {
		return errors.New("wrong checksum")
	}

	peers := content[snapshotHeader:]
	length := binary.LittleEndian.Uint32(content[snapshotHeader-4:])
	if length < peersHeader {
		return fmt.Errorf("peer list is %d bytes long; want at least %d", length, peersHeader)
	}
	if uint64(length) > uint64(len(peers)) {
		return fmt.Errorf("peer list is %d bytes long, but only %d bytes remain", length, len(peers))
	}
	peers = peers[:length]
	if want := binary.LittleEndian.Uint32(peers[4:]); uint64(want)*peerName > uint64(len(peers)-peersHeader) {
		return fmt.Errorf("%d peers don't fit into a peer list of %d bytes", want, len(peers))
	} else if !hasPeer(peers[peersHeader:peersHeader+want*peerName], own) {
		return errors.New("this node isn't a peer")
	}
	return nil
}

// hasPeer reports whether a list of peers' names contains one.
func hasPeer(names []byte, name string) bool {
	for peer := range slices.Chunk(names, peerName) {
		if string(peer) == name {
			return true
		}
	}
	return false
}

// checkTerm returns an error if the file that holds a group's current term and vote is
// damaged.
func checkTerm(_ string, data []byte) error {
	if len(data) < 8 {
		return fmt.Errorf("too short: %d bytes", len(data))
	}
	if term := binary.LittleEndian.Uint64(data); term > plausibleTerms {
		return fmt.Errorf("implausible term %d", term)
	}
	return nil
}
