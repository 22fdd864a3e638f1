package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
)

const (
	// Limits of TCP: a connection lives on between queries for tcpIdle, or for
	// tcpCrowded while half of all places are taken, is given tcpWrite to take
	// an answer, and serves tcpQueries.
	tcpIdle    = 8 * time.Second
	tcpCrowded = time.Second
	tcpWrite   = 2 * time.Second
	tcpQueries = 128

	// tcpConns bounds the connections of one Listener. One more is closed at
	// once. A test suite that starts has a thousand clients at once.
	tcpConns = 2048

	// readBuffer is what a UDP socket holds of queries that were not read yet.
	// The kernel gives what it permits: by default it has room for some 270.
	readBuffer = 4 << 20
)

// A Listener has the sockets of one View, UDP and TCP on the same address.
type Listener struct {
	server *Server
	view   View
	udp    *net.UDPConn
	tcp    *net.TCPListener
}

// Listen opens the sockets of a View, both or none. They answer once Serve
// runs; until then queries wait in them. The caller must call Serve or Close.
func (s *Server) Listen(ctx context.Context, v View) (*Listener, error) {
	// A free port for UDP may be taken for TCP: then another one is tried.
	tries := 1
	if v.Addr.Port() == 0 {
		tries = 16
	}
	var errs error
	for range tries {
		l, err := s.listen(ctx, v)
		if err == nil {
			l.note(true)
			return l, nil
		}
		errs = err
	}
	return nil, fmt.Errorf("listen for DNS on %s: %w", v.Addr, errs)
}

func (s *Server) listen(ctx context.Context, v View) (*Listener, error) {
	sockets := v.Sockets
	if sockets == nil {
		sockets = ownSockets{net.ListenConfig{Control: bindToDevice(v.Device)}}
	}
	udp, err := sockets.ListenUDP(ctx, v.Addr)
	if err != nil {
		return nil, err
	}
	if err := udp.SetReadBuffer(readBuffer); err != nil {
		s.log.Debug("set read buffer of DNS", "err", err)
	}
	bound := udp.LocalAddr().(*net.UDPAddr).AddrPort()
	v.Addr = netip.AddrPortFrom(bound.Addr().Unmap(), bound.Port())
	tcp, err := sockets.ListenTCP(ctx, v.Addr)
	if err != nil {
		udp.Close()
		return nil, err
	}
	return &Listener{server: s, view: v, udp: udp, tcp: tcp}, nil
}

// ownSockets are those of this network namespace.
type ownSockets struct{ net.ListenConfig }

func (o ownSockets) ListenUDP(ctx context.Context, at netip.AddrPort) (*net.UDPConn, error) {
	c, err := o.ListenPacket(ctx, "udp", at.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

func (o ownSockets) ListenTCP(ctx context.Context, at netip.AddrPort) (*net.TCPListener, error) {
	l, err := o.Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// Addr returns the address of the sockets.
func (l *Listener) Addr() netip.AddrPort { return l.view.Addr }

// Close closes the sockets of a Listener that was never served.
func (l *Listener) Close() error {
	l.note(false)
	return errors.Join(l.udp.Close(), l.tcp.Close())
}

// note says whether the sockets are open to the queries of this host.
func (l *Listener) note(open bool) {
	if l.view.Sockets == nil {
		l.server.setListening(l.view.Addr, open)
	}
}

// Serve answers queries until ctx is done, and then returns nil, or until a
// socket fails. It closes the sockets and waits for the queries under way.
func (l *Listener) Serve(ctx context.Context) error {
	defer l.Close()
	group, ctx := errgroup.WithContext(ctx)
	handler := &responder{Server: l.server, ctx: ctx, view: &l.view}
	group.Go(func() error {
		return (&udpServer{responder: handler, conn: l.udp}).serve(ctx)
	})
	group.Go(func() error {
		conns := &connListener{TCPListener: l.tcp, done: ctx.Done(), slots: make(chan struct{}, tcpConns), log: l.server.log}
		return serve(ctx, &dns.Server{
			Listener: conns, Handler: handler,
			IdleTimeout:   conns.idle,
			MaxTCPQueries: tcpQueries,
		})
	})
	if err := group.Wait(); err != nil {
		return fmt.Errorf("serve DNS on %s: %w", l.view.Addr, err)
	}
	return nil
}

// serve runs server until ctx is done. Shutdown works only on a server that
// has started, so that is waited for first.
func serve(ctx context.Context, server *dns.Server) error {
	started, ended := make(chan struct{}), make(chan error, 1)
	server.NotifyStartedFunc = func() { close(started) }
	go func() { ended <- server.ActivateAndServe() }()
	select {
	case <-started:
	case err := <-ended:
		return err
	}
	select {
	case <-ctx.Done():
		return errors.Join(server.Shutdown(), <-ended)
	case err := <-ended:
		return err
	}
}
