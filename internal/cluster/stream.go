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

// What the stream's metadata say of it.
const (
	// metaEpoch is the epoch of event ids. It is not the stream's creation,
	// which a restored stream would have had twice.
	metaEpoch = "peald.epoch"
	// metaBase is the last entry that the stream had when it got its epoch: up
	// to there, entries have earlier epochs.
	metaBase = "peald.base"
	// metaPrevious is the epoch before, which batches may have that were on
	// their way at that time.
	metaPrevious = "peald.previous"
	// metaFormat is that of the stream's messages.
	metaFormat = "peald.format"
	formatNow  = "1"
)

// duplicates is how long the stream knows appends that are repeated, which
// they are for appendFor.
const duplicates = 2 * time.Minute

// log is the stream as its leader described it.
type log struct {
	epoch, previous   string
	base, first, last uint64
	at                time.Time // by the leader's clock
	replicas          int
	marked            bool // made or taken over by a version that keeps marks
}

// accepts reports whether a batch of an epoch belongs into the log at an entry.
// Versions that wrote no epoch can't be told apart.
func (l *log) accepts(epoch string, entry uint64) bool {
	return epoch == l.epoch || epoch == "" || epoch == l.previous || entry <= l.base
}

// streamConfig is what the stream is to be.
func (n *Node) streamConfig(replicas int) jetstream.StreamConfig {
	remember := duplicates
	if n.cfg.MaxAge > 0 {
		remember = min(remember, n.cfg.MaxAge)
	}
	most := n.cfg.MaxBytes
	if most <= 0 {
		most = -1 // as JetStream has it
	}
	return jetstream.StreamConfig{
		Name:        n.cfg.Name,
		Description: "The log of a cluster of peald.",
		Subjects:    []string{n.subjects.entries},
		Replicas:    replicas,
		MaxAge:      n.cfg.MaxAge,
		MaxBytes:    most,
		Duplicates:  remember,
		AllowDirect: true,
		RePublish:   &jetstream.RePublish{Source: n.subjects.entries, Destination: n.subjects.live},
		Metadata:    map[string]string{metaFormat: formatNow},
	}
}

// openLog finds the stream, or makes it.
func (n *Node) openLog(ctx context.Context) (log, error) {
	release, ok := n.storage.hold()
	if !ok {
		return log{}, errors.New("JetStream is restarting")
	}
	defer release()
	if err := n.openable(); err != nil {
		return log{}, err
	}
	stream, err := n.js.Stream(ctx, n.cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return n.createLog(ctx)
	}
	if err != nil {
		return log{}, err
	}
	l, err := describe(stream.CachedInfo())
	if err != nil {
		return l, err
	}
	if l, err = n.checkLog(ctx, stream.CachedInfo(), l); err != nil {
		return l, err
	}
	return l, n.marks.open(n.logKey(), l)
}

// logKey names the log among those in the node's directory.
func (n *Node) logKey() string {
	if n.alone() {
		return "alone/" + n.cfg.Name
	}
	return "cluster/" + n.cfg.Name
}

// alone reports whether the node has a log that is its own.
func (n *Node) alone() bool { return n.server != nil && n.server.alone }

// checkLog gives the log a new epoch if it is not what the node has used before,
// or not all of it: ids that were given must not be given again, and clients
// must get to know that events are missing.
func (n *Node) checkLog(ctx context.Context, info *jetstream.StreamInfo, l log) (log, error) {
	why, unsure := n.marks.suspect(n.logKey(), l, n.alone(), l.replicas == 1)
	n.mu.Lock()
	n.state.unsure = unsure
	n.mu.Unlock()
	switch {
	case why != "":
		n.log.Error("the event log begins a new epoch: clients with earlier ids get a reset", "reason", why)
		return n.renew(ctx, info, broker.NewEpoch())
	case n.alone() && !l.marked:
		return n.renew(ctx, info, l.epoch) // which takes it over
	}
	return l, nil
}

// createLog makes the stream, unless another node was faster.
func (n *Node) createLog(ctx context.Context) (log, error) {
	replicas, err := n.replicas()
	if err != nil {
		return log{}, err
	}
	cfg := n.streamConfig(replicas)
	cfg.Metadata[metaEpoch], cfg.Metadata[metaBase] = broker.NewEpoch(), "0"
	stream, err := n.js.CreateStream(ctx, cfg)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		stream, err = n.js.Stream(ctx, n.cfg.Name)
	} else if err == nil {
		n.log.Info("made the cluster's log", "replicas", replicas)
	}
	if err != nil {
		return log{}, err
	}
	l, err := describe(stream.CachedInfo())
	if err != nil {
		return l, err
	}
	if n.alone() && n.marks.used(n.logKey()) {
		n.log.Error("the event log is gone: a new one begins, clients with earlier ids get a reset", "dir", n.cfg.Embedded.Dir)
	}
	return l, n.marks.open(n.logKey(), l)
}

// describe reads what the stream's leader says of it.
func describe(info *jetstream.StreamInfo) (log, error) {
	format := info.Config.Metadata[metaFormat]
	epoch := info.Config.Metadata[metaEpoch]
	if epoch == "" || format != formatNow {
		return log{}, fmt.Errorf("the stream %q is no log of a cluster of peald, or of another version (format %q, this one writes %q)",
			info.Config.Name, format, formatNow)
	}
	base, marked := info.Config.Metadata[metaBase]
	l := log{
		epoch: epoch, previous: info.Config.Metadata[metaPrevious],
		first: max(info.State.FirstSeq, 1), last: info.State.LastSeq,
		replicas: info.Config.Replicas, marked: marked, at: info.TimeStamp,
	}
	if marked {
		var err error
		if l.base, err = strconv.ParseUint(base, 10, 64); err != nil {
			return log{}, fmt.Errorf("the stream %q has an invalid %s: %w", info.Config.Name, metaBase, err)
		}
	}
	return l, nil
}

// replicas is how many nodes are to hold the stream.
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

const defaultReplicas = 3

// adjustOrSay is adjust, and tells the operator why the log is not as configured
// when that is new.
func (n *Node) adjustOrSay(ctx context.Context, info *jetstream.StreamInfo) {
	err := n.adjust(ctx, info)
	if err == nil {
		n.worries.settings = ""
		return
	}
	if why := err.Error(); why != n.worries.settings && ctx.Err() == nil {
		n.log.Warn("the cluster's log is not as configured", "error", err)
		n.worries.settings = why
	}
}

// adjust makes an existing stream what this node's configuration says. It does
// so once: nodes that are configured otherwise would undo it each time. The
// number of replicas grows with the cluster; it never shrinks by itself.
func (n *Node) adjust(ctx context.Context, info *jetstream.StreamInfo) error {
	is := info.Config
	want := is
	// Without these nothing can be read: an administrator has changed them.
	needs := n.streamConfig(is.Replicas)
	want.AllowDirect, want.RePublish = needs.AllowDirect, needs.RePublish
	altered := !is.AllowDirect || is.RePublish == nil || *is.RePublish != *needs.RePublish
	if !n.adjusted {
		mine := n.streamConfig(max(n.cfg.Replicas, is.Replicas))
		want.MaxAge, want.MaxBytes = mine.MaxAge, mine.MaxBytes
		if n.cfg.Replicas > 0 {
			want.Replicas = n.cfg.Replicas
		}
	}
	if n.cfg.Replicas == 0 && n.server != nil {
		if have, err := n.server.replicas(); err == nil {
			want.Replicas = max(is.Replicas, have)
		}
	}
	if want.MaxAge == is.MaxAge && want.MaxBytes == is.MaxBytes && want.Replicas == is.Replicas && !altered {
		n.adjusted = true
		return nil
	}
	if _, err := n.js.UpdateStream(ctx, want); err != nil {
		return fmt.Errorf("changing the cluster's log to %d replicas, %s, %d bytes: %w", want.Replicas, want.MaxAge, want.MaxBytes, err)
	}
	n.adjusted = true
	if altered {
		n.log.Warn("restored settings of the event log that nodes need to read it", "allow_direct", is.AllowDirect, "republish", is.RePublish != nil)
	}
	if want.MaxAge != is.MaxAge || want.MaxBytes != is.MaxBytes {
		n.log.Warn("changed the limits of the cluster's log to those of this node's history settings: they should be the same on all nodes, the one that started last decides",
			"max_age", want.MaxAge.String(), "max_bytes", want.MaxBytes, "had_max_age", is.MaxAge.String(), "had_max_bytes", is.MaxBytes)
	}
	if want.Replicas != is.Replicas {
		n.log.Info("changed the cluster's log", "replicas", want.Replicas)
	}
	return nil
}

// renew gives the log an epoch.
func (n *Node) renew(ctx context.Context, info *jetstream.StreamInfo, epoch string) (log, error) {
	want := info.Config
	want.Metadata = maps.Clone(want.Metadata)
	if had := want.Metadata[metaEpoch]; had != epoch {
		want.Metadata[metaEpoch], want.Metadata[metaPrevious] = epoch, had
	}
	want.Metadata[metaBase] = strconv.FormatUint(info.State.LastSeq, 10)
	stream, err := n.js.UpdateStream(ctx, want)
	if err != nil {
		return log{}, err
	}
	return describe(stream.CachedInfo())
}
