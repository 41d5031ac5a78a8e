package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/peald/peald/internal/broker"
)

// Node is a node of a cluster. A message published on one node is delivered by all
// nodes. The methods of a Node are safe for concurrent use.
type Node struct {
	cfg      Config
	log      *slog.Logger
	broker   *broker.Broker
	name     string
	subjects subjects
	server   *embeddedServer // nil with external servers
	marks    *marks          // nil with external servers
	storage  *storage        // nil with external servers
	conn     *nats.Conn
	js       jetstream.JetStream
	metrics  *metrics
	appender *appender
	prober   *prober
	saver    *saver
	denials  rejections // permissions that the servers have denied

	noRetained atomic.Bool // the servers have denied access to the stream that holds the retained values

	readWake  chan struct{} // has a token when there may be more to read
	probeWake chan struct{} // has a token when the prober should probe now

	applied     atomic.Uint64            // the number of the last entry that was applied
	lastApplied atomic.Pointer[position] // the same entry, with its time
	gapFills    atomic.Int64

	elsewhere func(broker.Audience) int // estimates the recipients on other nodes; nil if unknown

	// The fields below are owned by the reader.

	skip             skipped
	snapshotFailures int // consecutive failures to read the retained values

	mu       sync.Mutex
	state    state
	onChange func(serving bool) // called with mu held
}

// subjects holds the NATS subjects of the event log and the retained values.
type subjects struct {
	entries string // for entries to append
	live    string // for entries that have been appended
	head    string // for the heads of snapshots of the retained values
	chunks  string // for the chunks of these snapshots
}

// Start starts a node that fills b, which must be a replica. b is suspended until the
// node is serving. The caller must call Run and Close.
//
// An error means that there is a problem with the configuration or with this machine.
// It isn't an error if other nodes are unreachable.
func Start(cfg Config, b *broker.Broker) (_ *Node, err error) {
	n := &Node{
		cfg:    cfg,
		log:    cfg.Logger,
		broker: b,
		subjects: subjects{entries: cfg.Name + ".entries", live: cfg.Name + ".live",
			head: cfg.Name + ".retained.head", chunks: cfg.Name + ".retained.chunks"},
		readWake:  make(chan struct{}, 1),
		probeWake: make(chan struct{}, 1),
		appender:  newAppender(rand.Uint64()),
	}

	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	n.metrics = newMetrics(n)
	n.prober = newProber(n)
	n.saver = &saver{node: n}
	n.state.reason = "not connected to the cluster yet"
	defer func() {
		if err != nil {
			n.Close()
		}
	}()

	options, err := n.setUp()
	if err != nil {
		return nil, err
	}
	n.conn, err = n.connect(options...)
	if err != nil {
		return nil, fmt.Errorf("connecting to NATS: %w", err)
	}
	n.js, err = jetstream.New(n.conn, jetstream.WithPublishAsyncTimeout(attemptTimeout))
	if err != nil {
		return nil, fmt.Errorf("using JetStream: %w", err)
	}
	return n, nil
}

// setUp sets the node's name, starts the embedded server if one is configured, and
// returns the options for connecting.
func (n *Node) setUp() (options []nats.Option, err error) {
	if embedded := n.cfg.Embedded; embedded != nil {
		n.storage = newStorage(embedded.Dir)
		n.marks = readMarks(embedded.Dir, embedded.Sync, n.storage, n.log)
		if n.name, err = nodeName(embedded.Dir, n.marks, n.log); err != nil {
			return nil, err
		}
		if err := n.storage.try(storageMinFree); err != nil {
			// JetStream may fail to recover the log. A standalone node must restart
			// JetStream later. A node in a cluster gets the log from the other nodes.
			n.storage.report(err.Error(), len(embedded.Peers) == 0)
		}
		n.marks.setNodeName(n.name)
		if n.server, err = startServer(n.cfg.Name, n.name, *embedded, n.storage, n.log); err != nil {
			return nil, err
		}
		return []nats.Option{nats.InProcessServer(n.server)}, nil
	}

	host, _ := os.Hostname()
	n.name = fmt.Sprintf("%s-%x", host, rand.Uint32())
	options = append(options, nats.RetryOnFailedConnect(true))
	if file := n.cfg.External.CredentialsFile; file != "" {
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("cluster.credentials_file: %w", err)
		}
		options = append(options, nats.UserCredentials(file))
	}

	if encryption := n.cfg.External.TLS; encryption != nil {
		options = append(options, nats.Secure(encryption))
	}
	return options, nil
}

func (n *Node) connect(options ...nats.Option) (*nats.Conn, error) {
	url := ""
	if n.cfg.External != nil {
		url = n.cfg.External.URL
	}
	return nats.Connect(url, append(options,
		nats.Name(n.name),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // the credentials may be corrected later, in their file or on the servers
		nats.ReconnectBufSize(-1),   // without a connection, an append must fail immediately, so that it is retried
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				n.log.Warn("disconnected from NATS", "error", err)
			}
		}),
		nats.ConnectHandler(func(c *nats.Conn) {
			if c.MaxPayload() < broker.MaxData+2*entryOverhead {
				n.log.Warn("NATS max_payload too small for the largest messages", "max_payload", c.MaxPayload(), "want", broker.MaxData+2*entryOverhead)
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) {
			n.log.Info("reconnected to NATS", "server", c.ConnectedServerName())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			switch {
			case errors.Is(err, nats.ErrSlowConsumer): // the reader reads dropped entries again
			case errors.Is(err, nats.ErrPermissionViolation):
				n.noteDenial(err, time.Now())
			default:
				n.log.Warn("NATS error", "error", err)
			}
		}),
	)...)
}

// Name returns the node's name in the cluster.
func (n *Node) Name() string { return n.name }

// Run runs the node until ctx is done, and then hands over any leadership it has. It
// calls onChange when the node starts or stops serving. It returns an error if the node
// can't continue.
func (n *Node) Run(ctx context.Context, onChange func(serving bool)) error {
	n.mu.Lock()
	n.onChange = onChange
	n.mu.Unlock()

	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var running sync.WaitGroup
	running.Go(func() { n.appendAll(ctx) })
	running.Go(func() { n.readAll(ctx) })
	running.Go(func() { n.prober.run(ctx) })
	running.Go(func() { n.saver.run(ctx) })
	if n.server != nil {
		running.Go(func() { n.server.followPeers(ctx) })
		running.Go(func() { n.watchStorage(ctx) })
		select {
		case <-ctx.Done():
		case err := <-n.server.fatal:
			fail(err)
		}
	}

	<-ctx.Done()
	running.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	if n.server != nil {
		n.server.handOver(n.retainedStream())
		n.server.handOver(n.cfg.Name)
	}
	return nil
}

// Close releases all resources that Start acquired. It must not be called before Run
// has returned.
func (n *Node) Close() {
	if n.js != nil {
		n.js.CleanupPublisher()
	}
	if n.conn != nil {
		n.conn.Close()
	}
	if n.server != nil {
		n.server.stop()
	}
	n.marks.close()
}

// Publish publishes m on all nodes. It returns once a quorum of the event log's
// replicas has stored m and this node has applied it.
//
// In addition to the errors from [broker.Broker.Publish], it returns a
// *[broker.UnavailableError] if the event log doesn't store m within 10 s. If the node
// isn't serving, it returns that error immediately.
func (n *Node) Publish(ctx context.Context, m broker.Message) (broker.Receipt, error) {
	wait, err := n.Submit(ctx, m)
	if err != nil {
		return broker.Receipt{}, err
	}
	return wait(ctx)
}

// Submit is the first step of Publish, and the returned function is the second.
// Messages from one goroutine are published in the order in which it submits them. The
// goroutine may submit the next message before it waits for the result of the previous
// one.
func (n *Node) Submit(ctx context.Context, m broker.Message) (wait func(context.Context) (broker.Receipt, error), err error) {
	s, err := n.submit(ctx, &m, nil)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (broker.Receipt, error) {
		r, err := n.appender.wait(ctx, s)
		if err == nil && n.elsewhere != nil {
			r.receipt.Recipients += n.recipientsElsewhere(&m)
		}
		return r.receipt, err
	}, nil
}

// submit validates m and queues it for the event log. o is nil if m isn't part of an
// order.
func (n *Node) submit(ctx context.Context, m *broker.Message, o *order) (*submission, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	if serving, reason := n.Serving(); !serving {
		return nil, notPublishing(reason)
	}
	message := encode(m)
	if !m.Retain {
		applyPolicies(message, n.broker.RetainedByPolicy)
	}
	if isRetained(message) {
		// This node's values may be older than those that the message will be applied
		// to, so the final decision is made then. This check keeps the event log from
		// filling up with messages that are rejected.
		if err := n.broker.MayRetain(m, retainedFor(message)...); err != nil {
			return nil, err
		}
	}
	return n.appender.submit(ctx, m, message, o, n.maxEntry())
}

// recipientsElsewhere estimates the recipients of m on other nodes. Streams that belong
// to several of its topics count for each, as far as there are that many streams. For
// topics, the excluded user's streams may be included.
func (n *Node) recipientsElsewhere(m *broker.Message) int {
	recipients := n.elsewhere(m.Audience)
	if len(m.Topics) == 0 && m.ExcludeUser == "" {
		return recipients
	}
	for _, name := range m.Topics {
		recipients += n.elsewhere(broker.ToTopic(name))
	}
	streams := n.elsewhere(broker.Everyone())
	if m.ExcludeUser != "" {
		streams -= n.elsewhere(broker.ToUser(m.ExcludeUser))
	}
	return max(0, min(recipients, streams))
}

// ClearRetained clears retained values on all nodes, and returns how many there were.
// It returns the same errors as [broker.Broker.ClearRetained] and Publish.
func (n *Node) ClearRetained(ctx context.Context, c broker.Clear) (cleared int, err error) {
	if err := c.Validate(); err != nil {
		return 0, err
	}
	if serving, reason := n.Serving(); !serving {
		return 0, notPublishing(reason)
	}
	s, err := n.appender.submit(ctx, nil, encodeClear(c), nil, n.maxEntry())
	if err != nil {
		return 0, err
	}
	r, err := n.appender.wait(ctx, s)
	return r.cleared, err
}

// maxEntry returns the maximum size, in bytes, of a batch that the servers accept.
func (n *Node) maxEntry() int {
	return int(n.conn.MaxPayload()) - entryOverhead
}

// standalone reports whether the node has an event log of its own.
func (n *Node) standalone() bool { return n.server != nil && n.server.standalone }

// noteDenial records a permission that the servers have denied. Servers don't reply to
// requests that they deny.
func (n *Node) noteDenial(err error, now time.Time) {
	_, subject, _ := strings.Cut(err.Error(), nats.ErrPermissionViolation.Error()+": ")
	if strings.Contains(subject, n.retainedStream()) {
		n.noRetained.Store(true)
	} else {
		n.denials.note("permission denied by the NATS servers: "+subject, now)
	}
	if n.denials.isNew(subject, now) {
		n.log.Warn("permission denied by the NATS servers", "error", subject)
	}
}
