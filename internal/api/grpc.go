package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"
)

// newGRPCServer returns a server of grpc.health.v1, which ends with ctx.
func (s *Server) newGRPCServer(ctx context.Context, g *errgroup.Group) *grpc.Server {
	srv := grpc.NewServer(grpc.ConnectionTimeout(s.limits.header), grpc.MaxConcurrentStreams(64),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: s.limits.idle}),
		grpc.MaxRecvMsgSize(64<<10), grpc.WaitForHandlers(true),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if err := s.checkPlainCall(ctx); err != nil {
				return nil, err
			}
			return next(ctx, req)
		}),
		grpc.StreamInterceptor(func(v any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if err := s.checkPlainCall(stream.Context()); err != nil {
				return err
			}
			return next(v, stream)
		}))
	health := newHealthServer(s.ready)
	healthpb.RegisterHealthServer(srv, health)
	g.Go(func() error {
		health.follow(ctx)
		srv.Stop() // calls take no time, and the streams of Watch have no end
		return nil
	})
	return srv
}

// checkPlainCall refuses a call without TLS where a request would be.
func (s *Server) checkPlainCall(ctx context.Context) error {
	if p, ok := peer.FromContext(ctx); ok {
		_, secure := p.AuthInfo.(credentials.TLSInfo)
		if secure || !s.opts.TLSOnly && isLoopback(p.Addr.String()) {
			return nil
		}
	}
	return grpcstatus.Error(codes.Unauthenticated, "this server speaks plain gRPC to its own machine at most: use TLS")
}

// withGRPC serves calls of gRPC by srv, and all else by next. The health of
// this server is open to whoever can reach the port, as /readyz is.
func (s *Server) withGRPC(srv *grpc.Server, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			next.ServeHTTP(w, r)
			return
		}
		s.serving.RLock()
		defer s.serving.RUnlock()
		http.NewResponseController(w).SetWriteDeadline(time.Time{}) // the streams of Watch have no end
		srv.ServeHTTP(w, r)
	})
}
