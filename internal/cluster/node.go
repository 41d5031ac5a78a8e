package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/peald/peald/internal/broker"
)

// Node is a node of a cluster. What is published on it is delivered by all nodes.
// Its methods are safe for concurrent use.
type Node struct {
	cfg      Config
	log      *slog.Logger
	broker   *broker.Broker
	name     string
	subjects subjects
	server   *embeddedServer // nil where the servers are somebody else's
	marks    *marks          // nil where the servers are somebody else's
	storage  *storage        // nil where the servers are somebody else's
	conn     *nats.Conn
	js       jetstream.JetStream
	figures  *figures
	appender *appender

	tail    chan struct{} // has a token when there may be more to read
	nudge   chan struct{} // has a token when it is time to probe
	applied atomic.Uint64 // the last entry of the stream that was applied
	newest  atomic.Pointer[position]

	skipped skipped // the reader's own

	// The prober's own.

	worries worries
	replica replicaCheck

	memberNames map[string]string // names of members that were not heard of, by id
	askedNames  time.Time         // when they were asked for last

	adjusted bool      // the stream is as configured, or was
	doubt    *position // an entry that the stream's leader didn't have
	doubted  time.Time // since when

	denials   refusals // what the servers don't permit
	gapFills  atomic.Int64
	elsewhere func(broker.Audience) int // how many streams others have; nil where unknown

	mu       sync.Mutex
	state    state
	onChange func(serving bool) // called under mu
}

// position is where the reader is, and what tells the entry there from another
// in its place: when the stream took it in.
type position struct {
	entry uint64
	at    time.Time
}

// subjects are what the cluster uses of NATS besides JetStream's own.
type subjects struct {
	entries string // what is to be appended
	live    string // what has been
}

// Start starts a node that fills b, a broker that is a replica; b is suspended
// until the node serves. Run must be called, and Close.
//
// An error is one of the configuration or of this machine. That other nodes
// can't be reached is none.
func Start(cfg Config, b *broker.Broker) (_ *Node, err error) {
	n := &Node{
		cfg:      cfg,
		log:      cfg.Logger,
		broker:   b,
		subjects: subjects{entries: cfg.Name + ".entries", live: cfg.Name + ".live"},
		tail:     make(chan struct{}, 1),
		nudge:    make(chan struct{}, 1),
		appender: newAppender(rand.Uint64()),
	}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	n.figures = newFigures(n)
	n.state.reason = "it has not found its cluster yet"
	defer func() {
		if err != nil {
			n.Close()
		}
	}()
	options, err := n.reach()
	if err != nil {
		return nil, err
	}
	n.conn, err = n.connect(options...)
	if err != nil {
		return nil, fmt.Errorf("connecting to NATS: %w", err)
	}
	// What is not answered is tried anew.
	n.js, err = jetstream.New(n.conn, jetstream.WithPublishAsyncTimeout(attemptFor))
	if err != nil {
		return nil, fmt.Errorf("using JetStream: %w", err)
	}
	return n, nil
}

// reach gives the node its name, starts the server inside if there is to be one,
// and returns how to connect.
func (n *Node) reach() (options []nats.Option, err error) {
	if own := n.cfg.Embedded; own != nil {
		n.storage = newStorage(own.Dir)
		n.marks = readMarks(own.Dir, own.Sync, n.storage, n.log)
		if n.name, err = nodeName(own.Dir, n.marks, n.log); err != nil {
			return nil, err
		}
		if err := n.storage.try(storageRoom); err != nil {
			// JetStream may recover nothing; of several nodes, it can from others.
			n.storage.report(err.Error(), len(own.Peers) == 0)
		}
		n.marks.setNodeName(n.name)
		if n.server, err = startServer(n.cfg.Name, n.name, *own, n.storage, n.log); err != nil {
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
		nats.IgnoreAuthErrorAbort(), // credentials may be made good, in their file or at the servers
		nats.ReconnectBufSize(-1),   // an append that can't be sent is to fail, and be tried anew
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				n.log.Warn("the connection to NATS is lost", "error", err)
			}
		}),
		nats.ConnectHandler(func(c *nats.Conn) {
			if c.MaxPayload() < broker.MaxData+2*entryOverhead {
				n.log.Warn("the NATS servers don't take messages as large as the daemon would: larger ones are refused", "max_payload", c.MaxPayload())
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) {
			n.log.Info("connected to NATS again", "server", c.ConnectedServerName())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			switch {
			case errors.Is(err, nats.ErrSlowConsumer): // what was not applied is read again
			case errors.Is(err, nats.ErrPermissionViolation):
				n.denied(err, time.Now())
			default:
				n.log.Warn("NATS", "error", err)
			}
		}),
	)...)
}

// Name is the node's own, by which its cluster knows it.
func (n *Node) Name() string { return n.name }

// Run has the node read, append and look after itself until ctx ends. Then it
// leaves the cluster in good order. An error is why it can't go on.
func (n *Node) Run(ctx context.Context, onChange func(serving bool)) error {
	n.mu.Lock()
	n.onChange = onChange
	n.mu.Unlock()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var running sync.WaitGroup
	running.Go(func() { n.appendAll(ctx) })
	running.Go(func() { n.readAll(ctx) })
	running.Go(func() { n.probeAll(ctx) })
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
		n.server.handOver(n.cfg.Name)
	}
	return nil
}

// Close ends what Start began. Run must have returned.
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

// Publish has m published on all nodes. It returns once a quorum of the
// stream's replicas have it and it has come back to this node.
//
// Besides those of [broker.Broker.Publish] it returns a
// *[broker.UnavailableError] while that can't be had, after some seconds, or at
// once while the node knows.
func (n *Node) Publish(ctx context.Context, m broker.Message) (broker.Receipt, error) {
	wait, err := n.Submit(ctx, m)
	if err != nil {
		return broker.Receipt{}, err
	}
	return wait(ctx)
}

// Submit is Publish in two steps: messages that one goroutine submits are
// published in that order, and it may submit the next before it waits for what
// became of the one before.
func (n *Node) Submit(ctx context.Context, m broker.Message) (wait func(context.Context) (broker.Receipt, error), err error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	if serving, reason := n.Serving(); !serving {
		return nil, &broker.UnavailableError{Reason: "the daemon can't publish: " + reason}
	}
	s, err := n.appender.submit(ctx, &m, n.largestEntry())
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (broker.Receipt, error) {
		receipt, err := n.appender.wait(ctx, s)
		if err == nil && n.elsewhere != nil {
			receipt.Recipients += n.elsewhere(m.Audience)
		}
		return receipt, err
	}, nil
}

// largestEntry is the largest batch that the servers take, in bytes.
func (n *Node) largestEntry() int {
	return int(n.conn.MaxPayload()) - entryOverhead
}
