package control

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	pealv1 "github.com/peald/peald/gen/peal/v1"
)

const (
	// maxHeaders bounds a call's metadata in bytes: there is one token in it.
	maxHeaders = 64 << 10

	// minPing is the shortest time between two keep-alive pings of a client. Many send one
	// every 5 seconds, and jitter on the network brings pings closer together.
	minPing = 2 * time.Second
)

// GRPCServer returns a server of the ControlService, health and reflection,
// with all checks. It is the caller's to serve and to stop; opts can add
// credentials.
func (s *Service) GRPCServer(opts ...grpc.ServerOption) *grpc.Server {
	if s.tracer != nil {
		opts = append(opts, traced(s.tracer))
	}
	server := grpc.NewServer(append([]grpc.ServerOption{
		grpc.ChainUnaryInterceptor(s.unary, recovery.UnaryServerInterceptor()),
		grpc.ChainStreamInterceptor(s.stream, recovery.StreamServerInterceptor()),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(MaxRequest),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		// Goroutines that stay keep their grown stacks from call to call.
		grpc.NumStreamWorkers(uint32(runtime.GOMAXPROCS(0))),
		// Stop cancels the calls that are left and returns when they have.
		grpc.WaitForHandlers(true),
	}, opts...)...)
	pealv1.RegisterControlServiceServer(registrar{server}, s)
	healthv1.RegisterHealthServer(server, s.health)
	reflection.Register(server)
	return server
}

func (s *Service) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	began := time.Now()
	c, err := s.admit(ctx, info.FullMethod)
	if err == nil {
		err = s.limits.take(c, info.FullMethod)
	}
	if err == nil {
		resp, err = handler(ctx, req)
	}
	if err != nil {
		resp, err = nil, s.answer(ctx, info.FullMethod, err)
	}
	s.metrics.ended(info.FullMethod, began, err)
	s.describe(ctx, c, req, resp)
	s.audit(ctx, c, info.FullMethod, req, err)
	return resp, err
}

func (s *Service) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	began := time.Now()
	call := s.standing.begin(stream, info.FullMethod)
	defer s.standing.end(call)
	ctx := call.Context()
	c, err := s.admit(ctx, info.FullMethod)
	stream = call
	switch {
	case err != nil:
	case info.FullMethod == pealv1.ControlService_PublishStream_FullMethodName:
		stream = pacedStream{call, s.limits, c}
	default:
		err = s.limits.take(c, info.FullMethod)
	}
	if err == nil {
		err = handler(srv, decodingStream{stream})
	}
	if revoked := call.revoked(); revoked != nil && err != nil {
		err = revoked
	}
	if err != nil {
		err = s.answer(ctx, info.FullMethod, err)
	}
	s.metrics.ended(info.FullMethod, began, err)
	s.describe(ctx, c, nil, nil)
	s.audit(ctx, c, info.FullMethod, nil, err)
	return err
}

// answer is err as the caller gets it. What the caller is not to see, the log
// gets.
func (s *Service) answer(ctx context.Context, method string, err error) error {
	s.metrics.refuse(err)
	s.describeRefusal(ctx, err)
	st, told := statusOf(err)
	if !told {
		s.logFailure(ctx, method, err)
	}
	return st.Err() //nolint:wrapcheck // the caller's form is this
}

// logFailure logs an error that nobody planned for.
func (s *Service) logFailure(ctx context.Context, method string, err error) {
	if p, ok := errors.AsType[*recovery.PanicError](err); ok {
		s.log.ErrorContext(ctx, "a call panicked", withTrace(ctx, []any{"method", method, "panic", p.Panic, "stack", string(p.Stack)})...)
	} else {
		s.log.ErrorContext(ctx, "a call failed", withTrace(ctx, []any{"method", method, "error", err})...)
	}
}
