package presence

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	presencev1 "github.com/peald/peald/gen/peal/presence/v1"
	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
	"github.com/peald/peald/internal/node"
)

const (
	// changesInterval is the time between announcements of changes.
	changesInterval = 250 * time.Millisecond
	// announceInterval is the time between announcements without changes.
	announceInterval = time.Second
	// countedFor is how long a node's streams count towards users' limits after its
	// last announcement: one interval, plus some time for a late announcement. It is
	// shorter than the default delay before browsers reconnect, because if a node is
	// killed, all of its browsers reconnect at the same time.
	countedFor = 2 * time.Second
	// lostAfter is how long a node must be silent to be considered lost.
	lostAfter = 5 * time.Second
	// forgottenAfter is how long a node must be silent before it is no longer listed as
	// lost.
	forgottenAfter = 10 * time.Minute
	// inboxSize is the maximum number of messages from other nodes that are queued. Any
	// others are dropped, and the node requests the full state again.
	inboxSize = 4096
)

// Config configures a [Directory].
type Config struct {
	// Conn is the connection to the cluster. The caller must close it.
	Conn *nats.Conn
	// Cluster is the name of the cluster, and the prefix of its subjects.
	Cluster string
	// Node is the name of this node.
	Node string
	// Broker holds the streams of this node.
	Broker *broker.Broker
	// Version is this daemon's version, and StartedAt is the time when it started.
	Version   string
	StartedAt time.Time
	// Status returns the current status of this node.
	Status func() node.Status
	// Logger receives log messages for the operator. If nil, nothing is logged.
	Logger *slog.Logger
}

// A Handler handles calls from other nodes. Its responses cover only its own node. Its
// methods must be safe for concurrent use.
type Handler interface {
	// HandleQuery handles a call with one response.
	HandleQuery(ctx context.Context, method string, request []byte) (response []byte, err error)
	// HandleWatch handles a call that keeps responding. It returns when ctx is done,
	// when send fails, or when there are no more responses.
	HandleWatch(ctx context.Context, method string, request []byte, send func(response []byte) error) error
}

// Directory is a node's directory of the other nodes in the cluster. Its methods
// are safe for concurrent use.
type Directory struct {
	cfg         Config
	log         *slog.Logger
	incarnation uint64
	changes     *broker.Changes
	metrics     metrics
	draining    atomic.Bool

	// Owned by Run.

	number     uint64 // of the last announcement
	announced  time.Time
	checked    time.Time
	hello      bool         // the next announcement asks other nodes to announce themselves
	lastStatus *pealv1.Node // the status in the last announcement
	lastDuties []string     // the duties in the last announcement
	inbox      chan *nats.Msg
	pageInbox  string               // the subject of requested pages
	replaced   map[uint64]time.Time // by incarnation, when a node with the same name replaced it

	mu         sync.RWMutex
	nodes      map[uint64]*remoteNode // by incarnation
	duplicates map[string]*duplicates // by name
	change     chan struct{}          // closed and replaced when a node joins, is lost or leaves
	duties     map[string]time.Time   // the duties that this node is ready to perform, and since when

	follower atomic.Pointer[Follower] // nil if changes aren't followed
}

// remoteNode is another node. Only Run writes to it, and holds Directory.mu when it
// writes fields that other goroutines read.
type remoteNode struct {
	name        string
	incarnation uint64
	status      *pealv1.Node
	duties      []string  // those that it is ready to perform
	seen        time.Time // when its last announcement arrived
	lost        bool
	counts      *counts // nil until they are known

	// Read only by Run.

	next  uint64 // the number of the next announcement
	stale bool   // counts must be requested: an announcement was missed, or the node is new
	pull  *pull  // the pull in progress; nil if there is none
}

// New returns a directory, which is empty until Run is called.
func New(cfg Config) *Directory {
	d := &Directory{
		cfg:         cfg,
		log:         cfg.Logger,
		incarnation: rand.Uint64(),
		changes:     cfg.Broker.Changes(),
		nodes:       make(map[uint64]*remoteNode),
		duplicates:  make(map[string]*duplicates),
		replaced:    make(map[uint64]time.Time),
		change:      make(chan struct{}),
		hello:       true,
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.metrics = newMetrics()
	return d
}

// Name returns the name of this node.
func (d *Directory) Name() string { return d.cfg.Node }

// SetDraining sets whether this node announces that it is draining.
func (d *Directory) SetDraining(draining bool) { d.draining.Store(draining) }

// subject returns the subject for messages of the given kind to all nodes in the
// cluster.
func (d *Directory) subject(kind string) string { return d.cfg.Cluster + "." + kind }

// subjectOf returns the subject for messages of the given kind to one node.
func (d *Directory) subjectOf(kind string, incarnation uint64) string {
	return fmt.Sprintf("%s.%s.%016x", d.cfg.Cluster, kind, incarnation)
}

// Run announces this node, tracks the other nodes, and passes their calls to handler
// until ctx is done. Before it returns, it announces that this node is leaving.
func (d *Directory) Run(ctx context.Context, handler Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	d.inbox = make(chan *nats.Msg, inboxSize)
	d.pageInbox = d.cfg.Conn.NewInbox()
	for _, subject := range []string{
		d.subject("announce"), d.subjectOf("state", d.incarnation), d.pageInbox,
	} {
		sub, err := d.cfg.Conn.ChanSubscribe(subject, d.inbox)
		if err != nil {
			return fmt.Errorf("subscribing to cluster subjects: %w", err)
		}
		defer func() { _ = sub.Unsubscribe() }()
	}

	r := newResponder(d, handler)
	if err := r.subscribe(); err != nil {
		return err
	}
	running.Go(func() { r.run(ctx) })

	tick := time.NewTicker(changesInterval)
	defer tick.Stop()
	d.announce(time.Now())
	for {
		select {
		case <-ctx.Done():
			d.leave()
			return nil
		case now := <-tick.C:
			d.announce(now)
			d.checkNodes(now)
		case msg := <-d.inbox:
			d.receive(msg, time.Now())
		}
	}
}

// receive handles a message from another node, or from this one.
func (d *Directory) receive(msg *nats.Msg, now time.Time) {
	d.metrics.receivedBytes.Add(float64(len(msg.Data)))

	var err error
	switch msg.Subject {
	case d.subject("announce"):
		a := new(presencev1.Announcement)
		if err = proto.Unmarshal(msg.Data, a); err == nil && a.GetIncarnation() != d.incarnation {
			d.receiveAnnouncement(a, now)
		}
	case d.pageInbox:
		page := new(presencev1.StatePage)
		if err = proto.Unmarshal(msg.Data, page); err == nil {
			d.receivePage(page, now)
		}
	default:
		request := new(presencev1.StateRequest)
		if err = proto.Unmarshal(msg.Data, request); err == nil {
			d.sendPage(msg.Reply, request.GetAfter())
		}
	}

	if err != nil {
		d.log.Warn("malformed message on cluster subject", "subject", msg.Subject, "error", err)
	}
}

func (d *Directory) receiveAnnouncement(a *presencev1.Announcement, now time.Time) {
	d.metrics.received.Inc()
	n := d.nodes[a.GetIncarnation()]
	if a.GetLeaving() {
		if n != nil {
			d.removeNode(n)
			d.log.Info("node left the cluster", "node", n.name)
		}
		return
	}

	if n == nil {
		n = d.addNode(a, now)
	}
	if a.GetHello() {
		d.announced = time.Time{} // announce this node immediately
	}

	missed := a.GetNumber() != n.next
	n.next = a.GetNumber() + 1
	n.stale = n.stale || missed

	d.mu.Lock()
	defer d.mu.Unlock()
	n.seen = now
	if n.lost {
		n.lost = false
		d.log.Info("node is reachable again", "node", n.name)
		d.notify()
	}
	if s := a.GetStatus(); s != nil {
		n.status, n.duties = s, a.GetDuties()
	}
	if n.counts != nil {
		n.counts.apply(a)
		d.follower.Load().noteAnnounced(a.GetChanged())
	}
	if n.pull != nil && n.pull.counts != nil {
		n.pull.counts.apply(a)
		if missed {
			n.pull = nil // its pages may be older than the missed announcement
		}
	}

	d.adoptBans(a.GetChanged().GetBans(), now)
}

// addNode adds a previously unknown node.
func (d *Directory) addNode(a *presencev1.Announcement, now time.Time) *remoteNode {
	n := &remoteNode{name: a.GetNode(), incarnation: a.GetIncarnation(), seen: now, next: a.GetNumber(), stale: true}
	for _, other := range d.nodes {
		if other.name == n.name {
			d.removeNode(other) // the node was restarted
			d.replaced[other.incarnation] = now
		}
	}
	_, again := d.replaced[n.incarnation]
	delete(d.replaced, n.incarnation)

	d.mu.Lock()
	d.nodes[n.incarnation] = n
	d.notify()
	d.mu.Unlock()

	if again {
		d.noteDuplicate(n.name, now)
		return n
	}
	d.log.Info("node joined the cluster", "node", n.name)
	return n
}

func (d *Directory) removeNode(n *remoteNode) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.nodes, n.incarnation)
	d.follower.Load().noteAll(n.counts)
	d.notify()
}

// notify wakes the watches after the set of nodes has changed. The caller must hold
// d.mu.
func (d *Directory) notify() {
	close(d.change)
	d.change = make(chan struct{})
}

// checkNodes detects lost nodes and requests missing counts.
func (d *Directory) checkNodes(now time.Time) {
	late := d.checked.Add(changesInterval)
	d.checked = now
	d.forgetReplaced(now)
	if now.Sub(late) > announceInterval {
		return // this process was suspended, and announcements are still queued
	}

	for _, n := range d.nodes {
		silent := now.Sub(n.seen)
		switch {
		case silent > forgottenAfter, n.lost && isRemoved(n.name, d.cfg.Status().Members):
			d.removeNode(n)
		case silent > lostAfter && !n.lost:
			d.log.Warn("node lost", "node", n.name, "silent", silent.Round(time.Millisecond).String())
			d.mu.Lock()
			d.follower.Load().noteAll(n.counts)
			n.lost, n.counts = true, nil
			d.notify()
			d.mu.Unlock()
			n.stale, n.pull = true, nil
		case n.lost:
		case n.stale && n.pull == nil, n.pull != nil && now.Sub(n.pull.requested) > pageTimeout:
			d.startPull(n, now)
		}
	}
}

// isRemoved reports whether the members are known and the node isn't one of them.
func isRemoved(name string, members []string) bool {
	return len(members) > 0 && !slices.Contains(members, name)
}

// adoptBans applies bans from other nodes to this node.
func (d *Directory) adoptBans(bans []*presencev1.Ban, now time.Time) {
	for _, ban := range bans {
		err := d.cfg.Broker.AdoptBan(broker.Ban{
			User:      ban.GetUser(),
			Set:       now.Add(-ban.GetAgo().AsDuration()),
			Until:     now.Add(ban.GetRemaining().AsDuration()),
			KeepUntil: now.Add(ban.GetKeep().AsDuration()),
		})
		if err != nil {
			d.log.Debug("cannot adopt a ban", "error", err)
		}
	}
}

// remoteNodes returns the names of the reachable nodes, by incarnation, the names of
// the lost nodes, and a channel that is closed when either set changes.
func (d *Directory) remoteNodes() (reachable map[uint64]string, lost []string, change <-chan struct{}) {
	reachable = make(map[uint64]string)
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, n := range d.nodes {
		if n.lost {
			lost = append(lost, n.name)
		} else {
			reachable[n.incarnation] = n.name
		}
	}
	return reachable, lost, d.change
}
