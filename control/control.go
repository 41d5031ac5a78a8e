// Package control is the control plane: ControlService over the broker, on
// gRPC and as REST, and who may call what of it.
//
// REST calls go through a gRPC server of their own inside the process, so that
// both ways have the same checks and the same errors.
package control

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	pealv1 "github.com/peald/peald/gen/peal/v1"
	"github.com/peald/peald/internal/broker"
)

// MaxRequest is the longest request in bytes, over gRPC and REST alike.
const MaxRequest = 4 << 20

// Config says who may call, and what Stats tells about the daemon. What of it
// can change is said at [Service.Reconfigure].
type Config struct {
	// Tokens are those that callers may present. Where there are none,
	// everybody who reaches the control plane may do everything.
	Tokens []Token

	// Insecure says that the control plane is meant to be open to the
	// network. Without it and without Tokens, REST answers only to names
	// that can't be made to point here by a stranger.
	Insecure bool

	// RateLimit is how many calls a second each name may make, and how many
	// at once; each message of a PublishStream is one. 0 is no limit.
	RateLimit int

	// Version is the daemon's, for Stats.
	Version string

	// MaxConnections is how many streams the daemon may hold, for Stats.
	MaxConnections int

	// Descriptors tells how many file descriptors browsers' connections take
	// and may take, for Stats; unknown where nil.
	Descriptors func() (used, allowed int)

	// Tracer is where spans of calls go; there are none where it is nil.
	Tracer trace.TracerProvider

	// Drain has the daemon end, and returns at once, however often it is
	// called. Where it is nil, calls of Drain are refused.
	Drain func()

	// Cluster are the other daemons, where there is a cluster; it then has to
	// pass the calls of other nodes to HandleQuery and HandleWatch.
	Cluster Cluster

	// Membership takes nodes out of the cluster. Where it is nil, there is no
	// cluster.
	Membership Membership

	// Unready says why the daemon is not serving, for /readyz to tell anybody
	// while it is not. It may be nil.
	Unready func() string

	// Logger gets what an operator should know; nothing where nil. What
	// requests carry never goes there.
	Logger *slog.Logger
}

// Token lets a caller in.
type Token struct {
	// Name is what errors call the token.
	Name string

	// Token is the secret itself.
	Token string

	// Scopes are what the token is good for: any of ScopePublish, ScopeRead
	// and ScopeAdmin. None means all.
	Scopes []string
}

// Broker is what the control plane needs of a *broker.Broker. Its methods may
// be called at the same time.
type Broker interface {
	Publish(ctx context.Context, m broker.Message) (broker.Receipt, error)
	Users(prefix, after string, limit int) []broker.User
	Topics(prefix, after string, limit int) []broker.Topic
	Stats() broker.Stats
	Latency() broker.Histogram
	Disconnect(user string, stayAway time.Duration) (ended int, err error)
	Watch() (*broker.Watch, error)
	Tap(of broker.Audience, lastEventID string) (*broker.Tap, error)
}

// Pipeline is a Broker that takes time to publish, and takes further messages
// meanwhile. Those that one goroutine submits are published in that order.
type Pipeline interface {
	Submit(ctx context.Context, m broker.Message) (wait func(context.Context) (broker.Receipt, error), err error)
}

// Minter signs subscriber tokens.
type Minter interface {
	Mint(user string, topics []string, ttl time.Duration) (token string, expires time.Time, err error)
}

// Service is the control plane of one daemon. Its methods may be called at the
// same time.
type Service struct {
	pealv1.UnimplementedControlServiceServer

	version string
	// descriptors is nil where it is unknown how many there are.
	descriptors func() (used, allowed int)

	end     func()        // has the daemon end; may be nil
	unready func() string // why the daemon is not serving; may be nil
	broker  Broker
	cluster Cluster // nil where there is none
	// membership is nil where there is no cluster.
	membership Membership

	rules  atomic.Pointer[rules]
	log    *slog.Logger
	health *health.Server

	refusals *refusals
	limits   *limits
	metrics  *metrics
	tracer   trace.TracerProvider
	standing *standing

	draining  chan struct{}  // closed when the calls that last are to end
	receivers sync.WaitGroup // goroutines that may outlast their call by a moment

	mu      sync.Mutex
	drained bool
	closed  bool
	inside  []*inside // an in-process server for each REST handler
}

// New returns a Service that is not serving yet: health and /readyz say so
// until SetServing. Without a minter, which then has to be nil itself,
// CreateToken is refused. Close must be called.
func New(cfg Config, b Broker, m Minter) *Service {
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Service{
		version:     cfg.Version,
		descriptors: cfg.Descriptors,

		end:     cfg.Drain,
		unready: cfg.Unready,
		broker:  b,
		cluster: cfg.Cluster,

		membership: cfg.Membership,

		log:    log,
		health: health.NewServer(),

		refusals: newRefusals(),
		limits:   newLimits(),
		metrics:  newMetrics(),
		tracer:   cfg.Tracer,
		standing: newStanding(),

		draining: make(chan struct{}),
	}
	s.Reconfigure(cfg, m)
	s.SetServing(false)
	return s
}

// SetServing sets what health checks and /readyz answer.
func (s *Service) SetServing(serving bool) {
	status := healthv1.HealthCheckResponse_NOT_SERVING
	if serving {
		status = healthv1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", status)
	s.health.SetServingStatus(pealv1.ControlService_ServiceDesc.ServiceName, status)
}

// EndCalls ends the calls that would last, PublishStream, WatchConnections and
// Tail, and refuses new ones. What is published by then is acknowledged first.
func (s *Service) EndCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.drained {
		s.drained = true
		close(s.draining)
	}
}

// last runs f in a goroutine that Close waits for. It returns false, and runs
// nothing, once calls that last are to end.
func (s *Service) last(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drained {
		return false
	}
	s.receivers.Go(f)
	return true
}

// Close ends what the REST handlers run inside the process and returns when it
// is gone; calls under way are cut off, so the HTTP servers should have stopped
// before. Health stays at not serving from then on. Servers that GRPCServer
// returned are the caller's to stop.
func (s *Service) Close() {
	s.EndCalls()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.health.Shutdown()
	for _, in := range s.inside {
		in.close()
	}
	s.inside = nil
	s.receivers.Wait()
}
