package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/peald/peald/internal/source"
)

const (
	// fetchMessages and fetchBytes limit what the client has requested and not yet passed
	// on.
	fetchMessages = 2048
	fetchBytes    = 16 << 20
	// maxBatch limits the messages that are published together.
	maxBatch = 1024
	// compareInterval is how often the sequencer is compared with the consumer's state
	// while it is incomplete.
	compareInterval = 250 * time.Millisecond
	// handoverTimeout limits how long the Reader takes to return its messages when it
	// stops.
	handoverTimeout = 3 * time.Second

	pinHeader = "Nats-Pin-Id"
)

// session is one run of a Reader.
type session struct {
	cfg      Config
	options  source.Options
	conn     *nats.Conn
	denied   *denials
	sink     *source.Sink
	js       jetstream.JetStream
	consumer jetstream.Consumer
	group    string   // the consumer's priority group
	headers  []string // that the mapping uses

	queue      *sequencer // used by consume only, as are the next three
	last       snapshot
	asked      time.Time // when last was read
	pruned     uint64    // the floor up to which queue has forgotten settled messages
	deliveries chan delivery
	fetchError error // why fetch has ended; must be read only after deliveries is closed

	state activity

	pin    atomic.Pointer[string] // the last pin that the server has given to this client; nil if none
	floor  atomic.Uint64          // the consumer's floor
	oldest atomic.Int64           // when the oldest message that isn't settled was written; 0 if there is none
}

// consume publishes and acknowledges messages until ctx ends or something fails. Then it
// returns the messages that aren't settled to the server.
func (s *session) consume(ctx context.Context) error {
	limit := max(fetchBytes, 2*int(s.conn.MaxPayload()))
	messages, err := s.consumer.Messages(
		jetstream.PullMaxMessagesWithBytesLimit(fetchMessages, limit),
		jetstream.PullExpiry(pullTime),
		jetstream.PullHeartbeat(heartbeat),
		jetstream.PullPriorityGroup(s.group),
		jetstream.WithMessagesErrOnMissingHeartbeat(false), // watch notices a consumer that is gone
	)
	if err != nil {
		return fmt.Errorf("read the consumer: %w", err)
	}

	s.deliveries = make(chan delivery, maxBatch)
	go s.fetch(messages)
	defer s.handOver(messages)

	for {
		if err := s.receive(ctx); err != nil {
			return err
		}
		if !s.queue.complete {
			if err := s.compare(ctx); err != nil {
				return err
			}
		}

		for batch := s.queue.next(maxBatch); len(batch) > 0; batch = s.queue.next(maxBatch) {
			if err := s.publish(ctx, batch); err != nil {
				return err
			}
		}
	}
}

// fetch passes messages to deliveries until the iterator is closed.
func (s *session) fetch(messages jetstream.MessagesContext) {
	defer close(s.deliveries)

	for {
		m, err := messages.Next()
		if err != nil {
			s.fetchError = err
			return
		}

		meta, err := m.Metadata()
		if err != nil {
			s.fetchError = fmt.Errorf("message without the consumer's metadata: %w", err)
			messages.Stop()
			return
		}
		pin := m.Headers().Get(pinHeader)
		if last := s.pin.Load(); last == nil || *last != pin {
			s.pin.Store(&pin)
		}

		s.deliveries <- delivery{m, meta.Sequence.Stream, meta.Sequence.Consumer, pin, meta.Timestamp}
	}
}

// receive waits for a delivery, or for the next comparison, and adds everything that has
// been fetched by then to the queue.
func (s *session) receive(ctx context.Context) error {
	var compare <-chan time.Time
	if !s.queue.complete && len(s.queue.arrived) > 0 {
		compare = time.After(compareInterval)
	}

	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-compare:
		return nil
	case d, ok := <-s.deliveries:
		if !ok {
			return fmt.Errorf("read the consumer: %w", s.fetchError)
		}
		s.add(d)
	}

	for range maxBatch {
		select {
		case d, ok := <-s.deliveries:
			if !ok {
				return fmt.Errorf("read the consumer: %w", s.fetchError)
			}
			s.add(d)
		default:
			return nil
		}
	}

	return nil
}

func (s *session) add(d delivery) {
	if s.queue.add(d) {
		// An error means that the connection is closed. Then receive fails too.
		_ = d.message.Ack()
	}
}

// compare compares the queue with a recent state of the consumer.
func (s *session) compare(ctx context.Context) error {
	if time.Since(s.asked) >= compareInterval {
		info, err := s.info(ctx)
		if err != nil {
			return err
		}
		s.asked = time.Now()
		s.last = snapshot{pinned(info), info.Delivered.Consumer, info.NumAckPending, info.Delivered.Stream, info.AckFloor.Stream}
	}

	if s.queue.compare(s.last) {
		s.state.set(s.sink, true)
	}

	return nil
}

// info returns the consumer's state.
func (s *session) info(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()

	info, err := s.consumer.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the state of consumer %q: %w", s.cfg.Consumer, err)
	}

	return info, nil
}

// publish publishes a batch, and acknowledges the messages that are settled.
func (s *session) publish(ctx context.Context, batch []delivery) error {
	s.oldest.Store(batch[0].written.UnixNano())
	defer s.oldest.Store(0)

	settled, err := s.sink.Publish(ctx, s.convert(batch))

	count := settled.Count
	if s.cfg.DeadLetter != "" {
		for _, rejected := range settled.Rejected {
			if failed := s.storeRejected(ctx, &batch[rejected.Index], rejected.Err); failed != nil {
				count, err = rejected.Index, failed
				break
			}
		}
	}

	for i := range batch[:count] {
		if failed := batch[i].message.Ack(); failed != nil {
			count, err = i, errors.Join(err, fmt.Errorf("acknowledge a message: %w", failed))
			break
		}
	}
	s.queue.settle(batch[:count])
	if floor := s.floor.Load(); floor > s.pruned {
		s.queue.prune(floor)
		s.pruned = floor
	}

	return err
}

// convert returns messages in the form of package source.
func (s *session) convert(batch []delivery) []source.Record {
	records := make([]source.Record, len(batch))

	for i, d := range batch {
		records[i] = source.Record{
			Origin:    d.message.Subject(),
			Partition: s.cfg.Stream,
			Offset:    offset(d),
			Value:     d.message.Data(),
		}
		for _, name := range s.headers {
			if values := d.message.Headers()[name]; len(values) > 0 {
				records[i].Fields = append(records[i].Fields, source.Field{Name: name, Value: values[len(values)-1]})
			}
		}
	}

	return records
}

// offset returns what identifies a message in its stream.
func offset(d delivery) string {
	return strconv.FormatUint(d.stream, 10) + "-" + strconv.FormatInt(d.written.UnixNano(), 10)
}

// handOver returns all messages that aren't settled, so that another node can read them at
// once, and waits until fetch has ended.
func (s *session) handOver(messages jetstream.MessagesContext) {
	messages.Drain()
	timeout := time.AfterFunc(handoverTimeout, s.conn.Close)
	defer timeout.Stop()
	for d := range s.deliveries {
		s.add(d)
	}

	for _, d := range s.queue.unsettled() {
		_ = d.message.Nak() // On a failure, the server waits for ack_wait.
	}
	s.unpin()
	_ = s.conn.FlushTimeout(handoverTimeout)
}

// unpin makes the server choose another client, if this one is pinned.
func (s *session) unpin() {
	ctx, cancel := context.WithTimeout(context.Background(), handoverTimeout)
	defer cancel()

	pin := s.pin.Load()
	if pin == nil || s.conn.IsClosed() {
		return
	}
	info, err := s.consumer.Info(ctx)
	if err != nil || pinned(info) != *pin {
		return
	}
	stream, err := s.js.Stream(ctx, s.cfg.Stream)
	if err == nil {
		err = stream.UnpinConsumer(ctx, s.cfg.Consumer, s.group)
	}
	if err != nil {
		s.options.Logger.Debug("source not unpinned", "error", err)
	}
}

// pinned returns the pin of the client that the server delivers to; empty if there is none.
func pinned(info *jetstream.ConsumerInfo) string {
	if len(info.PriorityGroups) == 0 {
		return ""
	}

	return info.PriorityGroups[0].PinnedClientID
}
