package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"github.com/soheilhy/cmux"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// ListenControl opens the TCP control port, which HTTP/1.1 and gRPC share.
func (s *Server) ListenControl(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.control = newListener(l, nil, s.log)
	return nil
}

// Close closes what ListenUnix and ListenControl opened. It is for those who
// do not come to call Serve, which closes it too.
func (s *Server) Close() error {
	s.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, l := range []*listener{s.local, s.control} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// Serve answers requests until ctx is done or a listener fails. It lets
// requests in progress end, watches apart, for a short time, and returns when
// nothing is left of it. It is called once.
func (s *Server) Serve(ctx context.Context) error {
	s.mu.Lock()
	local, control := s.local, s.control
	s.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	if local != nil {
		s.serveHTTP(ctx, g, local, local, s.Handler())
	}
	if control != nil {
		s.serveControl(ctx, g, control)
	}
	g.Go(func() error {
		<-ctx.Done()
		s.stop() // watches: they would have no end
		return nil
	})
	err := g.Wait()
	s.serving.Lock() // waits for the requests that were cut off
	defer s.serving.Unlock()
	return errors.Join(err, s.Close())
}

// serveControl splits the control port by the first bytes of a connection.
// The preface of HTTP/2 is enough to know gRPC: looking for its content type
// would mean to buffer whatever comes before that, and to answer it.
func (s *Server) serveControl(ctx context.Context, g *errgroup.Group, root *listener) {
	mux := cmux.New(root)
	mux.SetReadTimeout(s.limits.header) // a silent client holds a goroutine until then
	grpcPart := mux.Match(cmux.HTTP2())
	httpPart := mux.Match(cmux.HTTP1Fast(http.MethodPatch)) // which it leaves out

	s.serveHTTP(ctx, g, root, httpPart, newGuard(s.hosts(root.Addr()), s.opts.Token, s.Handler()))
	s.serveGRPC(ctx, g, grpcPart)
	g.Go(func() error {
		// It returns only when no client is undecided: serveHTTP closes those.
		return unlessClosed(mux.Serve())
	})
}

// serveHTTP serves HTTP on l, whose connections root knows.
func (s *Server) serveHTTP(ctx context.Context, g *errgroup.Group, root *listener, l net.Listener, h http.Handler) {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: s.limits.header, ReadTimeout: s.limits.read,
		WriteTimeout: s.limits.write, IdleTimeout: s.limits.idle, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	g.Go(func() error { return unlessClosed(srv.Serve(l)) })
	g.Go(func() error {
		<-ctx.Done()
		root.Close()
		root.closeConns(false)
		grace, cancel := context.WithTimeout(context.Background(), s.limits.grace)
		defer cancel()
		if err := srv.Shutdown(grace); err != nil {
			s.log.Warn("requests cut off at shutdown", "listener", root.Addr(), "err", err)
		}
		root.closeConns(true) // also those that cmux is undecided about
		return nil
	})
}

// serveGRPC serves grpc.health.v1 on l.
func (s *Server) serveGRPC(ctx context.Context, g *errgroup.Group, l net.Listener) {
	srv := grpc.NewServer(grpc.ConnectionTimeout(s.limits.header), grpc.MaxConcurrentStreams(64),
		grpc.MaxRecvMsgSize(64<<10), grpc.WaitForHandlers(true))
	health := newHealthServer(s.ready)
	healthpb.RegisterHealthServer(srv, health)
	g.Go(func() error { return unlessClosed(srv.Serve(l)) })
	g.Go(func() error {
		health.follow(ctx)
		srv.Stop() // calls take no time, and the streams of Watch have no end
		return nil
	})
}

// unlessClosed returns err unless it says that a server has been shut down.
func unlessClosed(err error) error {
	for _, closed := range []error{
		http.ErrServerClosed, net.ErrClosed, grpc.ErrServerStopped, cmux.ErrListenerClosed, cmux.ErrServerClosed,
	} {
		if errors.Is(err, closed) {
			return nil
		}
	}
	return err
}
