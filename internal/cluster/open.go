package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/peald/peald/internal/broker"
)

// openLog opens the event log, and creates it if there is none.
func (n *Node) openLog(ctx context.Context) (eventLog, error) {
	release, ok := n.storage.hold()
	if !ok {
		return eventLog{}, errRestarting
	}
	defer release()
	if err := n.canOpen(); err != nil {
		return eventLog{}, err
	}

	stream, err := n.js.Stream(ctx, n.cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return n.createLog(ctx)
	}
	if err != nil {
		return eventLog{}, err
	}
	l, err := describe(stream.CachedInfo())
	if err != nil {
		return l, err
	}
	if err := n.confirm(ctx, l); err != nil {
		return l, err
	}
	if l, err = n.checkLog(ctx, stream.CachedInfo(), l); err != nil {
		return l, err
	}
	return l, n.marks.open(n.logKey(), l)
}

// canOpen returns an error if a standalone node must not open or create its event log
// at the moment. While the disk is failing, JetStream may not have recovered the log,
// and the marks can't be written.
func (n *Node) canOpen() error {
	if phase, _, _ := n.storage.current(); phase == storageFailed && n.standalone() {
		return errors.New(n.storage.reason())
	}
	return nil
}

// logKey returns the key that identifies the event log among those in the node's
// directory.
func (n *Node) logKey() string {
	if n.standalone() {
		return "alone/" + n.cfg.Name
	}
	return "cluster/" + n.cfg.Name
}

// checkLog starts a new epoch if the event log isn't the one that the node used last,
// or if part of it is missing. Ids must not be used twice, and clients must learn that
// events are missing.
func (n *Node) checkLog(ctx context.Context, info *jetstream.StreamInfo, l eventLog) (eventLog, error) {
	reason, doubt := n.marks.check(n.logKey(), l, n.standalone(), l.leader == n.name)
	n.mu.Lock()
	n.state.openDoubt = doubt
	n.mu.Unlock()

	switch {
	case reason != "":
		renewed, err := n.renew(ctx, info, broker.NewEpoch())
		if err != nil {
			return l, fmt.Errorf("starting a new epoch (%s): %w", reason, err)
		}
		n.log.Error("event log starts a new epoch, clients with earlier ids get a reset", "reason", reason)
		return renewed, nil
	case n.standalone() && !l.hasBase:
		return n.renew(ctx, info, l.epoch) // adopt the log
	}
	return l, nil
}

// createLog creates the event log, unless another node has done so in the meantime.
func (n *Node) createLog(ctx context.Context) (eventLog, error) {
	replicas, err := n.replicas()
	if err != nil {
		return eventLog{}, err
	}
	cfg := n.streamConfig(replicas)
	cfg.Metadata[metaEpoch], cfg.Metadata[metaBase] = broker.NewEpoch(), "0"
	stream, err := n.js.CreateStream(ctx, cfg)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		stream, err = n.js.Stream(ctx, n.cfg.Name)
	} else if err == nil {
		n.log.Info("created the event log", "replicas", replicas)
		if n.marks.used(n.logKey()) {
			n.log.Error("event log is gone, clients with earlier ids get a reset", "dir", n.cfg.Embedded.Dir)
		}
	}
	if err != nil {
		return eventLog{}, err
	}

	l, err := describe(stream.CachedInfo())
	if err != nil {
		return l, err
	}
	return l, n.marks.open(n.logKey(), l)
}

// streamConfig returns the configuration of the event log's stream.
func (n *Node) streamConfig(replicas int) jetstream.StreamConfig {
	window := deduplicateFor
	if n.cfg.MaxAge > 0 {
		window = min(window, n.cfg.MaxAge)
	}
	maxBytes := n.cfg.MaxBytes
	if maxBytes <= 0 {
		maxBytes = -1 // no limit in JetStream
	}
	return jetstream.StreamConfig{
		Name:        n.cfg.Name,
		Description: "The event log of a cluster of peald.",
		Subjects:    []string{n.subjects.entries},
		Replicas:    replicas,
		MaxAge:      n.cfg.MaxAge,
		MaxBytes:    maxBytes,
		Duplicates:  window,
		AllowDirect: true,
		RePublish:   &jetstream.RePublish{Source: n.subjects.entries, Destination: n.subjects.live},
		Metadata:    map[string]string{metaFormat: currentFormat},
	}
}

// replicas returns how many replicas a new event log should have.
func (n *Node) replicas() (int, error) {
	switch {
	case n.cfg.Replicas > 0:
		return n.cfg.Replicas, nil
	case n.server != nil:
		return n.server.replicas()
	default:
		return defaultReplicas, nil
	}
}

// renew sets the epoch of the event log.
func (n *Node) renew(ctx context.Context, info *jetstream.StreamInfo, epoch string) (eventLog, error) {
	cfg := info.Config
	cfg.Metadata = maps.Clone(cfg.Metadata)
	if old := cfg.Metadata[metaEpoch]; old != epoch {
		cfg.Metadata[metaEpoch], cfg.Metadata[metaPrevious] = epoch, old
		cfg.Metadata[metaRenewed] = info.TimeStamp.UTC().Format(time.RFC3339Nano)
	}
	cfg.Metadata[metaBase] = strconv.FormatUint(info.State.LastSeq, 10)
	stream, err := n.js.UpdateStream(ctx, cfg)
	if err != nil {
		return eventLog{}, err
	}
	return describe(stream.CachedInfo())
}
