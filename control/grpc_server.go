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

	"github.com/peald/peald/control/apierror"
	pealv1 "github.com/peald/peald/gen/peal/v1"
)

const (
	// maxHeaders is the maximum size of a call's metadata, in bytes. The
	// metadata only needs to hold one token.
	maxHeaders = 64 << 10

	// minPing is the minimum time between two keepalive pings from a client. Many
	// clients ping every 5 seconds, and network jitter can shorten that.
	minPing = 2 * time.Second
)

// GRPCServer returns a server for the ControlService, health and reflection that
// applies all checks. The caller starts and stops it. opts may add credentials.
func (s *Service) GRPCServer(opts ...grpc.ServerOption) *grpc.Server {
	if s.tracer != nil {
		opts = append(opts, traceCalls(s.tracer))
	}

	server := grpc.NewServer(append([]grpc.ServerOption{
		grpc.ChainUnaryInterceptor(s.interceptUnary, recovery.UnaryServerInterceptor()),
		grpc.ChainStreamInterceptor(s.interceptStream, recovery.StreamServerInterceptor()),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(MaxRequest),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		// Worker goroutines keep their grown stacks between calls.
		grpc.NumStreamWorkers(uint32(runtime.GOMAXPROCS(0))),
		// Stop cancels the remaining calls and waits for their handlers.
		grpc.WaitForHandlers(true),
	}, opts...)...)

	pealv1.RegisterControlServiceServer(registrar{server}, s)
	healthv1.RegisterHealthServer(server, s.health)
	reflection.Register(server)

	return server
}

// interceptUnary authorizes, limits, counts, traces and audits unary calls.
func (s *Service) interceptUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	start := time.Now()

	c, err := s.authorize(ctx, info.FullMethod)
	if err == nil {
		err = s.rateLimits.take(c, info.FullMethod, callsOf(req))
	}

	if err == nil {
		resp, err = handler(ctx, req)
	}

	if err != nil {
		resp, err = nil, s.callerError(ctx, info.FullMethod, err)
	}

	s.metrics.countCall(info.FullMethod, start, err)
	s.annotateSpan(ctx, c, req, resp)
	s.audit(ctx, c, info.FullMethod, req, err)

	return resp, err
}

// interceptStream does the same for streaming calls, and also handles their revocation.
// PublishStream calls are rate-limited per message.
func (s *Service) interceptStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	start := time.Now()

	call := s.streamCalls.add(stream, info.FullMethod)
	defer s.streamCalls.remove(call)

	ctx := call.Context()
	c, err := s.authorize(ctx, info.FullMethod)
	stream = call

	switch {
	case err != nil:
	case info.FullMethod == pealv1.ControlService_PublishStream_FullMethodName:
		stream = pacedStream{call, s.rateLimits, c}
	default:
		err = s.rateLimits.take(c, info.FullMethod, 1)
	}

	if err == nil {
		err = handler(srv, decodingStream{stream})
	}

	if revoked := call.revoked(); revoked != nil && err != nil {
		err = revoked
	}

	if err != nil {
		err = s.callerError(ctx, info.FullMethod, err)
	}

	s.metrics.countCall(info.FullMethod, start, err)
	s.annotateSpan(ctx, c, nil, nil)
	s.audit(ctx, c, info.FullMethod, nil, err)

	return err
}

// callerError counts err and returns it in the form that the caller receives. It logs
// unexpected errors, because callers don't receive their details.
func (s *Service) callerError(ctx context.Context, method string, err error) error {
	s.metrics.countRejection(err)
	s.annotateSpanReason(ctx, err)

	st, expected := apierror.Status(err)
	if !expected {
		s.logFailure(ctx, method, err)
	}

	return st.Err() //nolint:wrapcheck // This is exactly what callers receive.
}

// logFailure logs an unexpected error.
func (s *Service) logFailure(ctx context.Context, method string, err error) {
	if p, ok := errors.AsType[*recovery.PanicError](err); ok {
		s.log.ErrorContext(ctx, "control call panicked",
			withTrace(ctx, []any{"method", method, "panic", p.Panic, "stack", string(p.Stack)})...)
	} else {
		s.log.ErrorContext(ctx, "control call failed", withTrace(ctx, []any{"method", method, "error", err})...)
	}
}
