package control

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/health"

	"github.com/peald/peald/control/rest"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

// MaxRequest is the maximum size of a request in bytes, over both gRPC and REST.
const MaxRequest = rest.MaxBody

// Config configures a [Service]. [Service.Reconfigure] lists the fields that can
// change later.
type Config struct {
	// Tokens holds the accepted control tokens. If it is empty, every caller that can
	// reach the control plane may do everything.
	Tokens []Token

	// Insecure allows an unauthenticated control plane on a network. If it is false and
	// Tokens is empty, REST accepts only hosts that an attacker can't make resolve to
	// this address.
	Insecure bool

	// RateLimit is the number of calls that each caller name may make per second. It is
	// also the maximum burst. Each message in a PublishStream counts as a call. 0 means
	// no limit.
	RateLimit int

	// TopicPolicies holds the topic policies in the order in which they are tried. It
	// is used by ExplainTopic.
	TopicPolicies []TopicPolicy

	// Version is the daemon's version, as reported by Stats.
	Version string

	// MaxConnections is the maximum number of streams that the daemon accepts, as
	// reported by Stats.
	MaxConnections int

	// Descriptors returns the number of file descriptors that browsers' connections
	// use, and the maximum that they may use. Stats reports both. It is nil if these
	// are unknown.
	Descriptors func() (used, allowed int)

	// Tracer records the spans of calls. If nil, calls have no spans.
	Tracer trace.TracerProvider

	// Drain starts shutting the daemon down and returns immediately. It may be called
	// several times. If nil, calls to the Drain RPC are rejected.
	Drain func()

	// Cluster provides access to the other nodes. It must pass calls from other nodes
	// to HandleQuery and HandleWatch. It is nil if clustering is disabled.
	Cluster Cluster

	// Membership removes nodes from the cluster. It is nil if clustering is disabled.
	Membership Membership

	// Hooks sends webhooks. It may be nil.
	Hooks Hooks
	// Sources returns the status of each source that this daemon reads messages from, for
	// Stats. It may be nil.
	Sources func() []Source

	// Unready returns the reason why the daemon isn't serving. While the daemon isn't
	// serving, /readyz reveals that reason to anyone. Unready may be nil.
	Unready func() string

	// Logger receives log messages for the operator. They never include tokens or the
	// data of messages. If nil, nothing is logged.
	Logger *slog.Logger
}

// TopicPolicy describes how a daemon treats topics that match a pattern, unless an
// earlier policy matches them too. A field with its zero value keeps the setting that
// applies to all topics.
type TopicPolicy struct {
	// Pattern is a pattern that [broker.ValidPattern] accepts.
	Pattern string

	// MaxEvents is the maximum number of events that the history holds for each topic.
	MaxEvents int

	// MaxAge is the maximum age of these events. An age of 0 means no limit.
	MaxAge *time.Duration

	// SlowConsumer is the name of the policy for slow consumers.
	SlowConsumer string

	// Anonymous sets whether streams without a token may subscribe.
	Anonymous *bool

	// Retain sets whether each message is retained.
	Retain *bool
}

// Service is the control plane of one daemon. Its methods are safe for
// concurrent use.
type Service struct {
	pealv1.UnimplementedControlServiceServer

	version     string
	descriptors func() (used, allowed int) // nil if unknown
	drain       func()                     // starts the daemon's shutdown; may be nil
	unready     func() string              // returns the reason why the daemon isn't serving; may be nil

	broker     Broker
	cluster    Cluster    // nil if clustering is disabled
	membership Membership // nil if clustering is disabled
	hooks      Hooks      // may be nil
	sources    func() []Source

	reloadable atomic.Pointer[reloadable]
	log        *slog.Logger
	health     *health.Server

	scopes      scopes
	rejections  *rejectionLog
	rateLimits  *rateLimits
	metrics     *metrics
	tracer      trace.TracerProvider // nil for no tracing
	streamCalls *streamCalls

	draining  chan struct{}  // closed when long-lived calls must end
	receivers sync.WaitGroup // goroutines that may briefly outlast their calls

	mu           sync.Mutex
	drained      bool // draining is closed
	closed       bool
	restHandlers []*rest.Handler
}

// reloadable is the part of the Service that Reconfigure replaces. It is
// immutable.
type reloadable struct {
	cfg        Config
	authorizer *authorizer
	minter     Minter // nil if there is no signing key
}

// startReceiver runs f in a goroutine that Close waits for. Once EndCalls has been
// called, it returns false without running f.
func (s *Service) startReceiver(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.drained {
		return false
	}

	s.receivers.Go(f)

	return true
}
