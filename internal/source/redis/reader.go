package redis

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/peald/peald/internal/source"
)

const (
	// consumerPrefix is the prefix of the names of consumers. The rest is the node's name.
	consumerPrefix = "peald:"
	// A reader that is stopped has grace to acknowledge entries and to release its locks.
	grace = 3 * time.Second
	// reportInterval is the time between two reports of the lag.
	reportInterval = 5 * time.Second
)

// reader reads the streams of one source. It implements [source.Reader].
type reader struct {
	cfg      Config
	consumer string
	log      *slog.Logger

	tokens []string // of the streams' last locks; each is owned by its stream
}

// Run implements [source.Reader].
func (r *reader) Run(ctx context.Context, sink *source.Sink) error {
	graceful, stop := source.WithGrace(ctx, grace)
	defer stop()

	// The lock of each stream is extended while a command for the stream is executed.
	commands, err := r.cfg.newClient(2*len(r.cfg.Streams) + 1)
	if err != nil {
		return err
	}
	defer func() { _ = commands.Close() }()

	waits, err := r.cfg.newClient(len(r.cfg.Streams))
	if err != nil {
		return err
	}

	group, ctx := errgroup.WithContext(ctx)
	defer closeWith(ctx, waits)()

	held := &heldStreams{sink: sink}
	for i, name := range r.cfg.Streams {
		s := &stream{
			reader: r, name: name, commands: commands, waits: waits, sink: sink, held: held, graceful: graceful,
			token: &r.tokens[i], batch: firstBatch,
		}
		group.Go(func() error {
			if err := s.run(ctx); err != nil {
				return fmt.Errorf("stream %q: %w", name, err)
			}

			return nil
		})
	}
	group.Go(func() error { return r.reportLag(ctx, commands, held, sink) })

	return group.Wait()
}

// closeWith closes client when ctx ends, or when the returned function is called, which
// returns once the client is closed. Closing a client is the only way to end commands
// that wait for entries.
func closeWith(ctx context.Context, client goredis.UniversalClient) (stop func()) {
	closed := make(chan struct{})
	unregister := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = client.Close()
	})

	return func() {
		if unregister() {
			_ = client.Close()
		} else {
			<-closed
		}
	}
}

// heldStreams is the set of streams whose lock this reader holds.
type heldStreams struct {
	sink *source.Sink

	mu    sync.Mutex
	names []string
}

// add adds a stream, which makes the source active.
func (h *heldStreams) add(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()

	h.names = append(h.names, name)
	h.sink.Active()
}

// remove removes a stream.
func (h *heldStreams) remove(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()

	h.names = slices.DeleteFunc(h.names, func(n string) bool { return n == name })
}

// wait makes the source a standby unless another of its streams is held.
func (h *heldStreams) wait() {
	h.mu.Lock()
	defer h.mu.Unlock()

	if len(h.names) == 0 {
		h.sink.Standby()
	}
}

// list returns the names of the streams.
func (h *heldStreams) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()

	return slices.Clone(h.names)
}
