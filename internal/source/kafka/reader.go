package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/peald/peald/internal/source"
)

const (
	// commitInterval is how often settled offsets are committed. After a crash, the
	// records that were settled in the meantime are read again.
	commitInterval = 250 * time.Millisecond
	// sessionTimeout is how long after a crash other members take over. Brokers accept at
	// least 6 s unless they are configured otherwise.
	sessionTimeout    = 10 * time.Second
	heartbeatInterval = 2 * time.Second
	rebalanceTimeout  = time.Minute

	dialTimeout  = 5 * time.Second
	checkTimeout = 30 * time.Second
	leaveTimeout = 5 * time.Second

	// fetchBytes limits a response of one broker. A larger batch is delivered alone.
	fetchBytes = 16 << 20
	// batchBytes limits what a dead-letter record may have.
	batchBytes = 32 << 20
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
	s := &session{
		sink: sink, log: r.options.Logger, name: r.options.Name, deadLetter: r.cfg.DeadLetter,
		partitions: make(map[partition]*progress), headers: sink.Fields(), earliest: r.cfg.Start != StartLatest,
	}
	client, err := r.connect(s)
	if err != nil {
		return err
	}
	s.client = client
	defer leave(client)

	if err := r.check(ctx, client); err != nil {
		return err
	}

	ctx, stop := context.WithCancelCause(ctx)
	var reporting sync.WaitGroup
	defer reporting.Wait()
	defer stop(nil)
	reporting.Go(func() { s.reportLag(ctx, stop) })

	return s.consume(ctx)
}

// connect returns a client, which joins the group on its own.
func (r *reader) connect(s *session) (*kgo.Client, error) {
	tls, err := r.cfg.TLS.Config()
	if err != nil {
		return nil, err
	}

	options := []kgo.Opt{
		kgo.ClientID("peald-" + r.options.Node),
		kgo.SeedBrokers(r.cfg.Brokers...),
		kgo.DialTimeout(dialTimeout),
		kgo.DisableClientMetrics(),
		kgo.WithLogger(clientLog{r.options.Logger}),

		kgo.ConsumerGroup(r.cfg.Group),
		kgo.ConsumeTopics(r.cfg.Topics...),
		kgo.ConsumeStartOffset(r.start()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // so that the committed offset gets past them
		kgo.FetchMaxBytes(fetchBytes),
		kgo.SessionTimeout(sessionTimeout),
		kgo.HeartbeatInterval(heartbeatInterval),
		kgo.RebalanceTimeout(rebalanceTimeout),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(s.assigned),
		kgo.OnPartitionsRevoked(s.revoked),
		kgo.OnPartitionsLost(s.lost),
		kgo.AutoCommitMarks(),
		kgo.AutoCommitInterval(commitInterval),
		kgo.AutoCommitCallback(s.committed),

		// For the dead-letter topic. An idempotent producer needs more permissions with
		// older brokers.
		kgo.DisableIdempotentWrite(),
		kgo.ProducerBatchMaxBytes(batchBytes),
		kgo.RecordDeliveryTimeout(checkTimeout),
	}
	if tls != nil {
		options = append(options, kgo.DialTLSConfig(tls))
	}

	switch a := r.cfg.SASL; a.Mechanism {
	case MechanismPlain:
		options = append(options, kgo.SASL(plain.Auth{User: a.Username, Pass: a.Password}.AsMechanism()))
	case MechanismSCRAM256:
		options = append(options, kgo.SASL(scram.Auth{User: a.Username, Pass: a.Password}.AsSha256Mechanism()))
	case MechanismSCRAM512:
		options = append(options, kgo.SASL(scram.Auth{User: a.Username, Pass: a.Password}.AsSha512Mechanism()))
	}

	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, fmt.Errorf("create a client: %w", err)
	}

	return client, nil
}

// start returns the offset at which the group starts in new partitions.
func (r *reader) start() kgo.Offset {
	if r.cfg.Start == StartLatest {
		// Not the end, because a partition that is added later is discovered late.
		return kgo.NewOffset().AfterMilli(time.Now().UnixMilli())
	}

	return kgo.NewOffset().AtStart()
}

// check returns an error if the brokers can't be reached or a topic can't be used. The
// client itself would try again forever.
func (r *reader) check(ctx context.Context, client *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()

	if err := client.Ping(ctx); err != nil {
		if r.cfg.SASL.Mechanism != "" && errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: %w", errCredentials, err)
		}
		return fmt.Errorf("connect to %s: %w", strings.Join(r.cfg.Brokers, ", "), err)
	}

	topics := slices.Clone(r.cfg.Topics)
	if r.cfg.DeadLetter != "" {
		topics = append(topics, r.cfg.DeadLetter)
	}
	admin := kadm.NewClient(client)
	for _, name := range topics {
		found, err := admin.ListTopics(ctx, name)
		if err == nil {
			err = found[name].Err
		}
		if err != nil {
			return fmt.Errorf("topic %q: %w", name, err)
		}
	}

	return nil
}

// errCredentials explains that brokers may close a connection instead of replying that the
// credentials are wrong.
var errCredentials = errors.New("the brokers closed the connection during authentication (SASL); is the username or the password wrong?")

// leave commits what is settled, leaves the group and closes the client. If the brokers
// can't be reached, they notice that the member is gone after sessionTimeout.
func leave(client *kgo.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()

	client.AllowRebalance()
	_ = client.LeaveGroupContext(ctx)
	client.Close()
}

// committed logs failures of regular commits.
func (s *session) committed(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
	if err == nil {
		err = commitError(response)
	}
	if err != nil {
		s.log.Warn("source offsets not committed", "error", err)
	}
}

// clientLog passes the client's messages to the log, at the debug level.
type clientLog struct{ log *slog.Logger }

// Level implements [kgo.Logger].
func (l clientLog) Level() kgo.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelInfo
	}

	return kgo.LogLevelNone
}

// Log implements [kgo.Logger].
func (l clientLog) Log(_ kgo.LogLevel, message string, attributes ...any) {
	l.log.Debug("kafka client", slog.String("message", message), slog.Group("client", attributes...))
}
