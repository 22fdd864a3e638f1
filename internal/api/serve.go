package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/soheilhy/cmux"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
)

// ListenControl opens the TCP control port, which HTTP and gRPC share, with TLS
// and without.
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
		srv := s.newHTTPServer(s.Handler())
		srv.ConnContext = withPeer
		g.Go(func() error { return unlessClosed(srv.Serve(local)) })
		g.Go(func() error { return s.drain(ctx, local, srv) })
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
// The preface of HTTP/2 is enough to know gRPC where there is no TLS: looking
// for its content type would mean to buffer whatever comes before that, and to
// answer it. Inside TLS a connection may carry both; net/http, which needs the
// *tls.Conn itself to speak HTTP/2, tells them apart by request.
func (s *Server) serveControl(ctx context.Context, g *errgroup.Group, root *listener) {
	hosts := s.hosts(root.Addr())
	handler := s.handler(newDoor(newGuard(hosts, s.opts.Tokens, !s.opts.TLSOnly).admit))
	health := s.newGRPCServer(ctx, g)

	mux := cmux.New(root)
	mux.SetReadTimeout(s.limits.header) // a silent client holds a goroutine until then
	var servers []*http.Server
	serve := func(part net.Listener, h http.Handler) {
		srv := s.newHTTPServer(h)
		servers = append(servers, srv)
		g.Go(func() error { return unlessClosed(srv.Serve(part)) })
	}
	if s.opts.Certify != nil {
		serve(tls.NewListener(mux.Match(cmux.TLS()), s.opts.Certify(hosts)), s.withGRPC(health, handler))
	}
	grpcPart := mux.Match(cmux.HTTP2())
	g.Go(func() error { return unlessClosed(health.Serve(grpcPart)) })
	serve(mux.Match(cmux.HTTP1Fast(http.MethodPatch)), handler) // which it leaves out
	g.Go(func() error { return s.drain(ctx, root, servers...) })
	g.Go(func() error {
		// It returns only when no client is undecided: drain closes those.
		return unlessClosed(mux.Serve())
	})
}

func (s *Server) newHTTPServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: s.limits.header, ReadTimeout: s.limits.read,
		WriteTimeout: s.limits.write, IdleTimeout: s.limits.idle, MaxHeaderBytes: maxHeaderBytes,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// drain closes root once ctx is done, and its connections when the requests to
// all its servers have ended, or their time is over.
func (s *Server) drain(ctx context.Context, root *listener, servers ...*http.Server) error {
	<-ctx.Done()
	root.Close()
	root.closeConns(false)
	grace, cancel := context.WithTimeout(context.Background(), s.limits.grace)
	defer cancel()
	var ending sync.WaitGroup
	for _, srv := range servers {
		ending.Go(func() {
			if err := srv.Shutdown(grace); err != nil {
				s.log.Warn("requests cut off at shutdown", "listener", root.Addr(), "err", err)
			}
		})
	}
	ending.Wait()
	root.closeConns(true) // also those that cmux is undecided about
	return nil
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
