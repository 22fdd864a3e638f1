package proxy

import (
	"context"
	"errors"
	"fmt"
	"iter"
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
	conn *net.TCPConn
	err  error
}

// dial connects to a Backend of f. One that refuses is followed by the next at
// once; one that is silent gets company after the hedge delay, and again after
// two and a half times that, and the first to answer is taken. No byte has
// been sent by then, so a client sees nothing of it. Each Backend is dialled
// at most once. A failure of this host's own, such as a lack of descriptors,
// is no Backend's fault and ends the search.
func (d *dialer) dial(ctx context.Context, f *frontend) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	next, stop := iter.Pull(f.picker.Pick())
	defer stop()
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
		b, ok := next()
		if !ok {
			return false
		}
		running++
		go func() { outcomes <- d.dialOne(ctx, b) }()
		return true
	}
	if !start() {
		return nil, errNoBackends
	}
	company := time.NewTimer(d.hedge)
	defer company.Stop()
	delay := d.hedge * 3 / 2
	var errs []error
	for {
		select {
		case o := <-outcomes:
			running--
			if o.err == nil {
				return o.conn, nil
			}
			errs = append(errs, o.err)
			if ctx.Err() == nil {
				f.counters.dialErrors.Add(1)
			}
			if isLocal(o.err) || !start() && running == 0 {
				return nil, errors.Join(errs...)
			}
		case <-company.C:
			start()
			company.Reset(delay)
		}
	}
}

func (d *dialer) dialOne(ctx context.Context, b registry.Backend) dialed {
	if d.own.contains(b.Address) {
		d.log.Warn("refused to dial a backend", "backend", b.Address, "error", errLoop)
		return dialed{err: fmt.Errorf("dial %s: %w", b.Address, errLoop)}
	}
	dialer := net.Dialer{KeepAliveConfig: keepAlive}
	dialer.SetMultipathTCP(false)
	conn, err := dialer.DialTCP(ctx, "tcp", netip.AddrPort{}, b.Address)
	return dialed{conn, err}
}

// isLocal reports whether a dial failed for a reason of this host's own.
func isLocal(err error) bool {
	for _, local := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL, syscall.EAGAIN,
	} {
		if errors.Is(err, local) {
			return true
		}
	}
	return false
}
