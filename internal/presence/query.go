package presence

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"

	presencev1 "github.com/peald/peald/gen/peal/presence/v1"
)

const (
	// queryTimeout limits how long other nodes may take to reply.
	queryTimeout = time.Second
	// Up to maxConcurrentQueries queries are handled concurrently, and up to
	// maxQueuedQueries are queued. Any others are dropped.
	maxConcurrentQueries = 4
	maxQueuedQueries     = 256
)

// Query calls a method on all other nodes, and passes their responses to receive, one
// at a time. It waits for up to a second, or for three quarters of the time until ctx's
// deadline if that is shorter. It returns the sorted names of the nodes that didn't
// respond, including lost ones.
func (d *Directory) Query(ctx context.Context, method string, request []byte, receive func(node string, response []byte)) (missing []string) {
	awaited, missing, _ := d.remoteNodes()
	if len(awaited) == 0 {
		return sorted(missing)
	}
	timeout := queryTimeout
	if deadline, ok := ctx.Deadline(); ok {
		// Leave time to return the responses to the caller.
		timeout = min(timeout, time.Until(deadline)*3/4)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	failed, err := d.query(ctx, method, request, awaited, receive)
	if err != nil {
		d.log.Debug("cluster query failed", "method", method, "error", err)
	}
	missing = append(missing, failed...)
	for _, name := range awaited {
		missing = append(missing, name)
	}
	d.metrics.unanswered.Add(float64(len(awaited) + len(failed)))
	return sorted(missing)
}

func sorted(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// query sends a query and receives the replies. It removes each node that replies from
// awaited, and returns when awaited is empty or ctx is done. Failed holds the names of
// the nodes that replied with an error.
func (d *Directory) query(ctx context.Context, method string, request []byte, awaited map[uint64]string, receive func(node string, response []byte)) (failed []string, err error) {
	query, err := proto.Marshal(&presencev1.Query{Incarnation: d.incarnation, Method: method, Request: request})
	if err != nil {
		return nil, err
	}
	inbox := d.cfg.Conn.NewInbox()
	replies, err := d.cfg.Conn.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = replies.Unsubscribe() }()
	if err := d.cfg.Conn.PublishRequest(d.subject("ask"), inbox, query); err != nil {
		return nil, err
	}

	for len(awaited) > 0 {
		msg, err := replies.NextMsgWithContext(ctx)
		if err != nil {
			return failed, err
		}
		reply := new(presencev1.Reply)
		if err := proto.Unmarshal(msg.Data, reply); err != nil {
			d.log.Warn("malformed reply to a cluster query", "method", method, "error", err)
			continue
		}

		name, ok := awaited[reply.GetIncarnation()]
		delete(awaited, reply.GetIncarnation())
		if reason := reply.GetError(); reason != "" {
			d.log.Warn("cluster query failed on a node", "node", reply.GetNode(), "method", method, "error", reason)
			if ok {
				failed = append(failed, name)
			}
			continue
		}
		receive(reply.GetNode(), reply.GetResponse())
	}

	return failed, nil
}

// responder handles queries and watches from other nodes.
type responder struct {
	directory *Directory
	handler   Handler
	queries   chan *nats.Msg
	watches   chan *nats.Msg
	subs      []*nats.Subscription

	mu       sync.Mutex
	watchers map[string]*watcher // by inbox
}

func newResponder(d *Directory, handler Handler) *responder {
	return &responder{
		directory: d, handler: handler,
		queries:  make(chan *nats.Msg, maxQueuedQueries),
		watches:  make(chan *nats.Msg, maxQueuedQueries),
		watchers: make(map[string]*watcher),
	}
}

func (r *responder) subscribe() error {
	d := r.directory
	for subject, to := range map[string]chan *nats.Msg{
		d.subject("ask"):                     r.queries,
		d.subjectOf("follow", d.incarnation): r.watches,
	} {
		sub, err := d.cfg.Conn.ChanSubscribe(subject, to)
		if err != nil {
			return fmt.Errorf("subscribing to cluster subjects: %w", err)
		}
		r.subs = append(r.subs, sub)
	}
	return nil
}

// run handles queries and watches until ctx is done.
func (r *responder) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for range maxConcurrentQueries {
		running.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case msg := <-r.queries:
					r.handleQuery(ctx, msg)
				}
			}
		})
	}

	for {
		select {
		case <-ctx.Done():
			for _, sub := range r.subs {
				_ = sub.Unsubscribe()
			}
			return
		case msg := <-r.watches:
			r.handleWatch(ctx, msg, &running)
		}
	}
}

func (r *responder) handleQuery(ctx context.Context, msg *nats.Msg) {
	d := r.directory
	query := new(presencev1.Query)
	if err := proto.Unmarshal(msg.Data, query); err != nil {
		d.log.Warn("malformed cluster query", "error", err)
		return
	}
	if query.GetIncarnation() == d.incarnation {
		return
	}

	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	reply := &presencev1.Reply{Incarnation: d.incarnation, Node: d.cfg.Node}
	response, err := r.handler.HandleQuery(ctx, query.GetMethod(), query.GetRequest())
	if err != nil {
		reply.Error = err.Error()
	} else {
		reply.Response = response
	}
	d.send(msg.Reply, reply)
}
