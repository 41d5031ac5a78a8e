package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/peald/peald/internal/source"
)

// Settings of a consumer that the Reader creates.
const (
	priorityGroup = "peald"
	// Another node takes over pinnedTTL after a crash. The pinned client must send requests
	// more often than that.
	pinnedTTL = 10 * time.Second
	pullTime  = 4 * time.Second
	heartbeat = 2 * time.Second
	// A message that was delivered to a node that has died is delivered again after ackWait.
	ackWait = 5 * time.Second
	// maxAckPending limits the messages that are unsettled on all nodes together.
	maxAckPending = 8192
)

const (
	connectTimeout = 5 * time.Second
	requestTimeout = 5 * time.Second
	reconnectWait  = 500 * time.Millisecond
	// maxReconnects limits the attempts to reconnect to each server before the Reader fails.
	maxReconnects = 30
)

// reader implements [source.Reader].
type reader struct {
	cfg     Config
	options source.Options
}

// NewReader implements [source.Kind].
func (c Config) NewReader(o source.Options) source.Reader { return &reader{c, o} }

// Run implements [source.Reader].
func (r *reader) Run(ctx context.Context, sink *source.Sink) error {
	var denied denials
	conn, err := r.connect(ctx, &denied)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", r.cfg.hosts(), err)
	}
	defer conn.Close()

	s := &session{cfg: r.cfg, options: r.options, conn: conn, denied: &denied, sink: sink, headers: sink.Fields(), queue: newSequencer()}
	if err := s.open(ctx); err != nil {
		return denied.explain(err)
	}

	ctx, stop := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop(nil)
	watching.Go(func() { s.watch(ctx, stop) })

	return denied.explain(s.consume(ctx))
}

// dialFunc implements [nats.CustomDialer].
type dialFunc func(network, address string) (net.Conn, error)

// Dial implements [nats.CustomDialer].
func (f dialFunc) Dial(network, address string) (net.Conn, error) { return f(network, address) }

// connect connects to one of the servers. The connection can't be opened again once ctx has
// ended.
func (r *reader) connect(ctx context.Context, denied *denials) (*nats.Conn, error) {
	log := r.options.Logger
	options := []nats.Option{
		nats.Name("peald " + r.options.Node + " source " + r.options.Name),
		nats.Timeout(connectTimeout),
		nats.SetCustomDialer(dialFunc(func(network, address string) (net.Conn, error) {
			dialer := net.Dialer{Timeout: connectTimeout}
			return dialer.DialContext(ctx, network, address)
		})),
		nats.ReconnectWait(reconnectWait),
		nats.MaxReconnects(maxReconnects),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("source disconnected", "error", err)
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) { log.Info("source reconnected", "server", c.ConnectedServerName()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			denied.note(err)
			log.Debug("NATS error", "error", err)
		}),
	}

	if file := r.cfg.CredentialsFile; file != "" {
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("credentials_file: %w", err)
		}
		options = append(options, nats.UserCredentials(file))
	}

	encryption, err := r.cfg.TLS.Config()
	if err != nil {
		return nil, err
	}
	if encryption != nil {
		options = append(options, nats.Secure(encryption))
	}

	return nats.Connect(strings.Join(r.cfg.urls(), ","), options...)
}

// open finds or creates the consumer.
func (s *session) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()

	var err error
	if s.cfg.Domain == "" {
		s.js, err = jetstream.New(s.conn)
	} else {
		s.js, err = jetstream.NewWithDomain(s.conn, s.cfg.Domain)
	}
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}

	s.consumer, err = s.js.Consumer(ctx, s.cfg.Stream, s.cfg.Consumer)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		s.consumer, err = s.js.CreateConsumer(ctx, s.cfg.Stream, s.newConsumer())
	}
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("stream %q: %w", s.cfg.Stream, err)
	case err != nil:
		return fmt.Errorf("consumer %q of stream %q: %w", s.cfg.Consumer, s.cfg.Stream, err)
	}

	config := s.consumer.CachedInfo().Config
	if err := s.check(config); err != nil {
		return fmt.Errorf("consumer %q of stream %q: %w", s.cfg.Consumer, s.cfg.Stream, err)
	}
	s.group = config.PriorityGroups[0]

	return s.checkDeadLetter(ctx, config)
}

// newConsumer returns the settings for a new consumer.
func (s *session) newConsumer() jetstream.ConsumerConfig {
	config := jetstream.ConsumerConfig{
		Durable:        s.cfg.Consumer,
		Description:    "peald source " + s.options.Name,
		DeliverPolicy:  jetstream.DeliverAllPolicy,
		AckPolicy:      jetstream.AckExplicitPolicy,
		AckWait:        ackWait,
		MaxDeliver:     -1,
		MaxAckPending:  maxAckPending,
		PriorityPolicy: jetstream.PriorityPolicyPinned,
		PriorityGroups: []string{priorityGroup},
		PinnedTTL:      pinnedTTL,
	}
	if s.cfg.Start == StartNew {
		config.DeliverPolicy = jetstream.DeliverNewPolicy
	}

	switch subjects := s.cfg.Subjects; len(subjects) {
	case 0:
	case 1:
		config.FilterSubject = subjects[0]
	default:
		config.FilterSubjects = subjects
	}

	return config
}

// mismatchError states which setting of an existing consumer doesn't suit.
type mismatchError struct{ setting, given, want string }

func (e *mismatchError) Error() string {
	return fmt.Sprintf("%s is %s; want %s", e.setting, e.given, e.want)
}

// check returns an error if the consumer's settings would lose messages or their order.
func (s *session) check(c jetstream.ConsumerConfig) error {
	switch {
	case c.AckPolicy != jetstream.AckExplicitPolicy:
		return &mismatchError{"ack_policy", policyName(c.AckPolicy), "explicit"}
	case c.MaxDeliver > 0:
		return &mismatchError{"max_deliver", strconv.Itoa(c.MaxDeliver), "-1, because the server gives up messages otherwise"}
	case c.HeadersOnly:
		return &mismatchError{"headers_only", "true", "false"}
	case c.PriorityPolicy != jetstream.PriorityPolicyPinned || len(c.PriorityGroups) != 1:
		return &mismatchError{
			"priority_policy", fmt.Sprintf("%s with %d groups", policyName(c.PriorityPolicy), len(c.PriorityGroups)),
			"pinned_client with one group, which NATS 2.11 and newer have (this server is " + s.conn.ConnectedServerVersion() + ")",
		}
	}

	if given, want := filters(c), s.cfg.Subjects; len(want) > 0 && !sameElements(given, want) {
		return &mismatchError{"filter_subjects", fmt.Sprintf("%q", given), fmt.Sprintf("%q, as in nats.subjects", want)}
	}

	return nil
}

// policyName returns the name of a policy in the API. That of the default may be empty.
func policyName(policy json.Marshaler) string {
	text, _ := policy.MarshalJSON()

	return cmp.Or(strings.Trim(string(text), `"`), "none")
}

// filters returns the consumer's filter subjects.
func filters(c jetstream.ConsumerConfig) []string {
	if c.FilterSubject != "" {
		return []string{c.FilterSubject}
	}

	return c.FilterSubjects
}

func sameElements(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)

	return slices.Equal(a, b)
}

var (
	errNotStored = errors.New("no stream stores it")
	errOwnInput  = errors.New("the consumer would deliver it again; want a subject of another stream, or one outside nats.subjects")
)

// checkDeadLetter returns an error unless a stream stores the dead-letter subject, and the
// consumer doesn't deliver it.
func (s *session) checkDeadLetter(ctx context.Context, c jetstream.ConsumerConfig) error {
	subject := s.cfg.DeadLetter
	if subject == "" {
		return nil
	}

	stream, err := s.js.StreamNameBySubject(ctx, subject)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		err = errNotStored
	}
	if err != nil {
		return fmt.Errorf("dead-letter subject %q: %w", subject, err)
	}
	if stream != s.cfg.Stream {
		return nil
	}

	given := filters(c)
	if len(given) == 0 || slices.ContainsFunc(given, func(filter string) bool { return server.SubjectsCollide(filter, subject) }) {
		return fmt.Errorf("dead-letter subject %q: %w", subject, errOwnInput)
	}

	return nil
}

// denials remembers the last permission that the server has denied. It reports them apart
// from the requests, which time out.
type denials struct {
	mu   sync.Mutex
	last error
}

func (d *denials) note(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = err
}

// explain adds the last denial to an error of a request that got no reply.
func (d *denials) explain(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()

	timeout := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout)
	if d.last == nil || !timeout {
		return err
	}

	return fmt.Errorf("%w: %w", err, d.last)
}
