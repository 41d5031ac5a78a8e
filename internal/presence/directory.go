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
	// changesEvery is how soon changes are announced.
	changesEvery = 250 * time.Millisecond
	// announceEvery is how often a daemon says that it is there.
	announceEvery = time.Second
	// doubtedAfter is how long a daemon's counts are held against users: an
	// announcement, and one that is late. It is less than the time after
	// which browsers come back by default, as they do all at once when their
	// daemon is killed.
	doubtedAfter = 2 * time.Second
	// lostAfter is how long a daemon may be silent until it is lost.
	lostAfter = 5 * time.Second
	// forgottenAfter is how long a lost daemon is said to be missing.
	forgottenAfter = 10 * time.Minute
	// buffered is how many messages of others may wait to be heard. Those
	// beyond are dropped, and made up for by asking.
	buffered = 4096
)

// Config says what a directory is of.
type Config struct {
	// Conn is the connection to the cluster, and remains the caller's.
	Conn *nats.Conn
	// Cluster is the cluster's name, with which its subjects begin.
	Cluster string
	// Node is this daemon's name.
	Node string
	// Broker holds this daemon's streams.
	Broker *broker.Broker
	// Version is the version of this daemon, and StartedAt the time when it started.
	Version   string
	StartedAt time.Time
	// Status returns the current status of this node.
	Status func() node.Status
	// Logger gets what an operator should know; nothing where nil.
	Logger *slog.Logger
}

// Answerer answers calls of other daemons, from what its own daemon holds. Its
// methods are called at the same time.
type Answerer interface {
	// Answer answers a call once.
	Answer(ctx context.Context, method string, request []byte) (response []byte, err error)
	// Tell goes on answering until ctx ends, send fails, or there is no more.
	Tell(ctx context.Context, method string, request []byte, send func(response []byte) error) error
}

// Directory is what a daemon knows of the others. Its methods may be called at
// the same time.
type Directory struct {
	cfg         Config
	log         *slog.Logger
	incarnation uint64
	changes     *broker.Changes
	figures     figures
	draining    atomic.Bool

	// What follows belongs to Run.

	number    uint64 // of the last announcement
	announced time.Time
	looked    time.Time
	hello     bool         // others are to say that they are there
	said      *pealv1.Node // the standing that was announced last
	in        chan *nats.Msg
	pages     string               // where pages are sent to
	replaced  map[uint64]time.Time // when another daemon of its name took an incarnation's place

	mu     sync.RWMutex
	nodes  map[uint64]*remoteNode // the others, by incarnation
	twins  map[string]*twins      // by name
	change chan struct{}          // closed and made anew when a node comes, is lost or leaves
}

// remoteNode is what is known of another daemon. It is written by Run, under
// Directory.mu but for what only Run reads.
type remoteNode struct {
	name        string
	incarnation uint64
	standing    *pealv1.Node
	heard       time.Time
	lost        bool
	counts      *counts // nil until they are known

	// What follows is read by Run alone.

	next  uint64 // the number of the announcement that comes next
	stale bool   // one was missed, or none has been heard
	pull  *pull  // under way
}

// New returns a directory that knows of nobody until it runs.
func New(cfg Config) *Directory {
	d := &Directory{
		cfg:         cfg,
		log:         cfg.Logger,
		incarnation: rand.Uint64(),
		changes:     cfg.Broker.Changes(),
		nodes:       make(map[uint64]*remoteNode),
		twins:       make(map[string]*twins),
		replaced:    make(map[uint64]time.Time),
		change:      make(chan struct{}),
		hello:       true,
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.figures = newFigures()
	return d
}

// Name is this daemon's.
func (d *Directory) Name() string { return d.cfg.Node }

// SetDraining has others know that this daemon's streams are being ended.
func (d *Directory) SetDraining(draining bool) { d.draining.Store(draining) }

// subject is where a daemon of the cluster is spoken to: all of them, or the
// one of an incarnation.
func (d *Directory) subject(what string) string { return d.cfg.Cluster + "." + what }

func (d *Directory) subjectOf(what string, incarnation uint64) string {
	return fmt.Sprintf("%s.%s.%016x", d.cfg.Cluster, what, incarnation)
}

// Run tells others of this daemon, hears of them, and has calls answered, until
// ctx ends. Then it says that the daemon leaves.
func (d *Directory) Run(ctx context.Context, answers Answerer) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	d.in = make(chan *nats.Msg, buffered)
	d.pages = d.cfg.Conn.NewInbox()
	for _, subject := range []string{
		d.subject("announce"), d.subjectOf("state", d.incarnation), d.pages,
	} {
		sub, err := d.cfg.Conn.ChanSubscribe(subject, d.in)
		if err != nil {
			return fmt.Errorf("listening to other nodes: %w", err)
		}
		defer func() { _ = sub.Unsubscribe() }()
	}
	asked := newAnswering(d, answers)
	if err := asked.listen(); err != nil {
		return err
	}
	running.Go(func() { asked.run(ctx) })

	tick := time.NewTicker(changesEvery)
	defer tick.Stop()
	d.announce(time.Now())
	for {
		select {
		case <-ctx.Done():
			d.leave()
			return nil
		case now := <-tick.C:
			d.announce(now)
			d.look(now)
		case msg := <-d.in:
			d.hear(msg, time.Now())
		}
	}
}

// hear takes in what another daemon, or this one, has sent.
func (d *Directory) hear(msg *nats.Msg, now time.Time) {
	d.figures.heardBytes.Add(float64(len(msg.Data)))
	var err error
	switch msg.Subject {
	case d.subject("announce"):
		a := new(presencev1.Announcement)
		if err = proto.Unmarshal(msg.Data, a); err == nil && a.GetIncarnation() != d.incarnation {
			d.hearOf(a, now)
		}
	case d.pages:
		page := new(presencev1.StatePage)
		if err = proto.Unmarshal(msg.Data, page); err == nil {
			d.turnPage(page, now)
		}
	default:
		request := new(presencev1.StateRequest)
		if err = proto.Unmarshal(msg.Data, request); err == nil {
			d.sendPage(msg.Reply, request.GetAfter())
		}
	}
	if err != nil {
		d.log.Warn("something else is published where nodes speak to each other", "subject", msg.Subject, "error", err)
	}
}

// hearOf takes in an announcement.
func (d *Directory) hearOf(a *presencev1.Announcement, now time.Time) {
	d.figures.heard.Inc()
	n := d.nodes[a.GetIncarnation()]
	if a.GetLeaving() {
		if n != nil {
			d.forget(n)
			d.log.Info("a node has left the cluster", "node", n.name)
		}
		return
	}
	if n == nil {
		n = d.welcome(a, now)
	}
	if a.GetHello() {
		// Whoever is new gets to know of this daemon at once.
		d.announced = time.Time{}
	}
	missed := a.GetNumber() != n.next
	n.next = a.GetNumber() + 1
	n.stale = n.stale || missed
	d.mu.Lock()
	defer d.mu.Unlock()
	n.heard = now
	if n.lost {
		n.lost = false
		d.log.Info("a node is heard of again", "node", n.name)
		d.changed()
	}
	if s := a.GetStanding(); s != nil {
		n.standing = s
	}
	if n.counts != nil {
		n.counts.apply(a)
	}
	if n.pull != nil && n.pull.counts != nil {
		n.pull.counts.apply(a)
		if missed {
			n.pull = nil // what it has read may be older than what was missed
		}
	}
	d.adopt(a.GetChanged().GetBars(), now)
}

// welcome takes in a daemon that was not known.
func (d *Directory) welcome(a *presencev1.Announcement, now time.Time) *remoteNode {
	n := &remoteNode{name: a.GetNode(), incarnation: a.GetIncarnation(), heard: now, next: a.GetNumber(), stale: true}
	for _, other := range d.nodes {
		if other.name == n.name {
			d.forget(other) // it was started anew
			d.replaced[other.incarnation] = now
		}
	}
	_, again := d.replaced[n.incarnation]
	delete(d.replaced, n.incarnation)
	d.mu.Lock()
	d.nodes[n.incarnation] = n
	d.changed()
	d.mu.Unlock()

	if again {
		d.cameBack(n.name, now)
		return n
	}
	d.log.Info("a node has joined the cluster", "node", n.name)
	return n
}

func (d *Directory) forget(n *remoteNode) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.nodes, n.incarnation)
	d.changed()
}

// changed tells those who follow that other daemons are there than before. The
// caller has d.mu.
func (d *Directory) changed() {
	close(d.change)
	d.change = make(chan struct{})
}

// look sees who is not heard of any more, and whose counts are to be asked for.
func (d *Directory) look(now time.Time) {
	late := d.looked.Add(changesEvery)
	d.looked = now
	d.forgetReplaced(now)
	if now.Sub(late) > announceEvery {
		return // it was this daemon that stood still, and what others said waits to be heard
	}
	for _, n := range d.nodes {
		silent := now.Sub(n.heard)
		switch {
		case silent > forgottenAfter, n.lost && removed(n.name, d.cfg.Status().Members):
			d.forget(n)
		case silent > lostAfter && !n.lost:
			d.log.Warn("a node is lost", "node", n.name, "silent", silent.Round(time.Millisecond).String())
			d.mu.Lock()
			n.lost, n.counts = true, nil
			d.changed()
			d.mu.Unlock()
			n.stale, n.pull = true, nil
		case n.lost:
		case n.stale && n.pull == nil, n.pull != nil && now.Sub(n.pull.asked) > pageFor:
			d.beginPull(n, now)
		}
	}
}

// removed says whether a daemon is none of the members that the cluster counts.
func removed(name string, members []string) bool {
	return len(members) > 0 && !slices.Contains(members, name)
}

// adopt has users stay away from here too.
func (d *Directory) adopt(bars []*presencev1.Bar, now time.Time) {
	for _, bar := range bars {
		err := d.cfg.Broker.Adopt(broker.Bar{
			User:  bar.GetUser(),
			Set:   now.Add(-bar.GetAgo().AsDuration()),
			Until: now.Add(bar.GetRemaining().AsDuration()),
		})
		if err != nil {
			d.log.Debug("a user can't be kept away", "error", err)
		}
	}
}

// Elsewhere is how many streams a user has on other daemons, as these have
// announced. It leaves out those that may be dead or end their streams, since
// these come back before that is known.
func (d *Directory) Elsewhere(user string) int {
	now := time.Now()
	d.mu.RLock()
	defer d.mu.RUnlock()
	sum := 0
	for _, n := range d.nodes {
		if n.counts != nil && now.Sub(n.heard) < doubtedAfter && n.standing.GetState() == pealv1.NodeState_NODE_STATE_SERVING {
			sum += int(n.counts.users[user])
		}
	}
	return sum
}

// Recipients estimates how many streams of an audience other daemons have.
func (d *Directory) Recipients(to broker.Audience) int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	sum := 0
	for _, n := range d.nodes {
		if n.counts != nil {
			sum += n.counts.of(to)
		}
	}
	return sum
}

// others are the daemons that are to answer, and the names of those that are
// lost; and what is closed when there are others.
func (d *Directory) others() (known map[uint64]string, lost []string, change <-chan struct{}) {
	known = make(map[uint64]string)
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, n := range d.nodes {
		if n.lost {
			lost = append(lost, n.name)
		} else {
			known[n.incarnation] = n.name
		}
	}
	return known, lost, d.change
}
