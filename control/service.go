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
	// Tokens holds the accepted control tokens. If there are none, every caller
	// that can reach the control plane may do everything.
	Tokens []Token

	// Insecure allows an unauthenticated control plane on a network. Without it
	// and without Tokens, REST accepts only host names that an attacker can't make
	// resolve to this address.
	Insecure bool

	// RateLimit is the number of calls that each caller name may make per
	// second; it is also the maximum burst. Each message in a PublishStream
	// counts as a call. 0 means no limit.
	RateLimit int

	// TopicPolicies holds the policies for topics, in the order in which they are
	// tried, for ExplainTopic.
	TopicPolicies []TopicPolicy

	// Version is the daemon's version, for Stats.
	Version string

	// MaxConnections is the maximum number of streams that the daemon accepts, for
	// Stats.
	MaxConnections int

	// Descriptors returns the number of file descriptors that browsers'
	// connections use, and the maximum that they may use, for Stats. It is nil if
	// these are unknown.
	Descriptors func() (used, allowed int)

	// Tracer receives the spans of calls. If nil, calls have no spans.
	Tracer trace.TracerProvider

	// Drain starts shutting the daemon down and returns immediately. It may be
	// called several times. If nil, calls to the RPC Drain are rejected.
	Drain func()

	// Cluster provides access to the other nodes; nil without a cluster. It must
	// pass calls from other nodes to HandleQuery and HandleWatch.
	Cluster Cluster

	// Membership removes nodes from the cluster; nil without a cluster.
	Membership Membership

	// Unready returns why the daemon is not serving. While it isn't, /readyz
	// reveals the reason to anyone. Unready may be nil.
	Unready func() string

	// Logger receives messages for the operator. They never include the contents
	// of requests. If nil, nothing is logged.
	Logger *slog.Logger
}

// TopicPolicy describes what a daemon does differently for the topics that match a
// pattern, unless an earlier policy matches them too. Zero fields are as for all topics.
type TopicPolicy struct {
	// Pattern is valid according to [broker.ValidPattern].
	Pattern string

	// MaxEvents is the maximum number of events in the history for each topic.
	MaxEvents int

	// MaxAge is the maximum age of these events; 0 for no limit.
	MaxAge *time.Duration

	// SlowConsumer is the name of what happens to slow consumers.
	SlowConsumer string

	// Anonymous reports whether streams without a token may subscribe.
	Anonymous *bool

	// Retain reports whether each message is retained.
	Retain *bool
}

// Service is the control plane of one daemon. Its methods are safe for
// concurrent use.
type Service struct {
	pealv1.UnimplementedControlServiceServer

	version     string
	descriptors func() (used, allowed int) // nil if unknown
	drain       func()                     // starts the daemon's shutdown; may be nil
	unready     func() string              // returns why the daemon is not serving; may be nil

	broker     Broker
	cluster    Cluster    // nil without a cluster
	membership Membership // nil without a cluster

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

// startReceiver runs f in a goroutine that Close waits for. Once long-lived calls
// must end, it returns false without running f.
func (s *Service) startReceiver(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.drained {
		return false
	}

	s.receivers.Go(f)

	return true
}
