package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"time"

	"usher/registry"
)

var (
	errNoBackends = errors.New("there are no backends")
	errLoop       = errors.New("the backend is an address of this proxy")
)

// A dialer finds a Backend that answers.
type dialer struct {
	hedge   time.Duration
	timeout time.Duration
	own     *addressSet
	log     *slog.Logger
}

// A dialed is the outcome of one dial.
type dialed struct {
	backend netip.AddrPort
	conn    *net.TCPConn
	err     error
}

// dial connects to a Backend of f. One that refuses is followed by the next at
// once; one that is silent gets company after the hedge delay, and again after
// two and a half times that, and the first to answer is taken. No byte has
// been sent by then, so a client sees nothing of it. Each Backend is dialled
// at most once. After a failure of this host's own, such as a lack of
// descriptors, which is no Backend's fault, only the dials that run are waited
// for.
func (d *dialer) dial(ctx context.Context, f *frontend) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	choice, tried := f.picker.Pick(), 0
	outcomes := make(chan dialed)
	running := 0
	defer func() { // the losers
		cancel()
		for ; running > 0; running-- {
			if o := <-outcomes; o.conn != nil {
				o.conn.Close()
			}
		}
	}()
	start := func() bool {
		if tried == choice.Len() {
			return false
		}
		b := *choice.At(tried)
		tried++
		running++
		if tried > 1 {
			f.parts[0].count(b.Address, func(c *counters) { c.retries.Add(1) })
		}
		go func() { outcomes <- d.dialOne(ctx, f, b) }()
		return true
	}
	if !start() {
		return nil, errNoBackends
	}
	company := time.NewTimer(d.hedge)
	defer company.Stop()
	delay := d.hedge * 3 / 2
	var errs []error
	local := false
	for {
		select {
		case o := <-outcomes:
			running--
			if o.err == nil {
				return o.conn, nil
			}
			errs = append(errs, o.err)
			if ctx.Err() == nil {
				f.parts[0].count(o.backend, func(c *counters) { c.dialErrors.Add(1) })
			}
			local = local || isLocal(o.err)
			if (local || !start()) && running == 0 {
				return nil, errors.Join(errs...)
			}
		case <-company.C:
			if !local && start() {
				company.Reset(delay)
			}
		}
	}
}

func (d *dialer) dialOne(ctx context.Context, f *frontend, b registry.Backend) dialed {
	if d.own.contains(b.Address) {
		if f.loops.begins() {
			d.log.Warn("refused to dial a backend", "frontend", f.now.Load().FrontendKey, "backend", b.Address, "error", errLoop)
		}
		return dialed{backend: b.Address, err: fmt.Errorf("dial %s: %w", b.Address, errLoop)}
	}
	dialer := net.Dialer{KeepAliveConfig: keepAlive}
	dialer.SetMultipathTCP(false)
	conn, err := connect(ctx, &dialer, "tcp", b.Address)
	if err != nil {
		return dialed{backend: b.Address, err: err}
	}
	return dialed{backend: b.Address, conn: conn.(*net.TCPConn)}
}

// connect connects a socket without binding it first, as Dialer.DialTCP does
// even for no address: a port that bind(2) chooses is taken for every Backend,
// one that connect(2) chooses for this one alone.
func connect(ctx context.Context, d *net.Dialer, network string, to netip.AddrPort) (net.Conn, error) {
	return d.DialContext(ctx, network, to.String())
}

// isLocal reports whether a dial failed for a reason of this host's own, which
// concerns every Backend. That no port is left (EADDRNOTAVAIL) concerns one.
func isLocal(err error) bool {
	for _, local := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EAGAIN,
	} {
		if errors.Is(err, local) {
			return true
		}
	}
	return false
}
