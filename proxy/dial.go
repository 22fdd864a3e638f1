package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"usher/balancer"
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
	clock   func() int64

	transparent bool // see engineOptions

	log *slog.Logger
}

// A dialed is the outcome of one dial.
type dialed struct {
	held
	conn *net.TCPConn
	err  error
}

// A held is a place in a Choice: the Backend that a connection or a flow has.
type held struct {
	choice balancer.Choice
	place  int
}

// release tells the Picker that the connection has ended.
func (h held) release() { h.choice.Release(h.place) }

// backend returns the Backend.
func (h held) backend() *registry.Backend { return h.choice.At(h.place) }

// dial connects to a Backend of f. One that refuses is followed by the next at
// once; one that is silent gets company after the hedge delay, and again after
// two and a half times that, and the first to answer is taken. No byte has
// been sent by then, so a client sees nothing of it. Each Backend is dialled
// at most once. After a failure of this host's own, such as a lack of
// descriptors, which is no Backend's fault, only the dials that run are waited
// for.
func (d *dialer) dial(ctx context.Context, f *frontend, client netip.Addr) (*net.TCPConn, held, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	choice, tried := f.picker.Pick(client, d.clock()), 0
	outcomes := make(chan dialed)
	var running []int // places in choice
	defer func() {    // the losers
		cancel()
		for range running {
			if o := <-outcomes; o.conn != nil {
				o.conn.Close()
			}
		}
	}()
	start := func() bool {
		if tried == choice.Len() {
			return false
		}
		h := held{choice, tried}
		tried++
		running = append(running, h.place)
		if tried > 1 {
			f.parts[0].count(h.backend().Address, func(c *counters) { c.retries.Add(1) })
		}
		go func() { outcomes <- d.dialOne(ctx, f, h, client) }()
		return true
	}
	if !start() {
		return nil, held{}, errNoBackends
	}
	company := time.NewTimer(d.hedge)
	defer company.Stop()
	delay := d.hedge * 3 / 2
	var errs []error
	local := false
	for {
		select {
		case o := <-outcomes:
			running = slices.DeleteFunc(running, func(place int) bool { return place == o.place })
			if o.err == nil {
				choice.Move(0, o.place)
				d.settle(o.held, running, client)
				return o.conn, o.held, nil
			}
			errs = append(errs, o.err)
			if ctx.Err() == nil {
				f.parts[0].count(o.backend().Address, func(c *counters) { c.dialErrors.Add(1) })
			}
			d.failed(ctx, o)
			local = local || isLocal(o.err)
			if (local || !start()) && len(running) == 0 {
				choice.Release(0)
				return nil, held{}, errors.Join(errs...)
			}
		case <-company.C:
			if !local && start() {
				company.Reset(delay)
			}
		}
	}
}

// settle tells the Picker which Backend has answered, and which were dialled
// before it and have been silent for too long.
func (d *dialer) settle(h held, running []int, client netip.Addr) {
	for _, place := range running {
		if place < h.place {
			h.choice.Failed(place, syscall.ETIMEDOUT, d.clock())
		}
	}
	h.choice.Succeeded(h.place)
	if h.place > 0 {
		h.choice.Pin(h.place, client, d.clock())
	}
}

// failed tells the Picker of a dial that failed, unless it is for a reason of
// this host's own, or because nobody waits for it any more.
func (d *dialer) failed(ctx context.Context, o dialed) {
	switch {
	case isLocal(o.err), errors.Is(o.err, syscall.EADDRNOTAVAIL), errors.Is(o.err, errLoop), errors.Is(ctx.Err(), context.Canceled):
	default:
		o.choice.Failed(o.place, o.err, d.clock())
	}
}

func (d *dialer) dialOne(ctx context.Context, f *frontend, h held, client netip.Addr) dialed {
	b := h.backend()
	if d.own.contains(b.Address) {
		if f.loops.begins() {
			d.log.Warn("refused to dial a backend", "frontend", f.now.Load().FrontendKey, "backend", b.Address, "error", errLoop)
		}
		return dialed{held: h, err: fmt.Errorf("dial %s: %w", b.Address, errLoop)}
	}
	dialer := net.Dialer{KeepAliveConfig: keepAlive}
	dialer.SetMultipathTCP(false)
	if from := source(f.now.Load(), client, b.Address.Addr()); d.transparent && from.IsValid() {
		dialer.LocalAddr, dialer.Control = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), prepareSource(from)
	}
	conn, err := connect(ctx, &dialer, "tcp", b.Address)
	if err != nil {
		return dialed{held: h, err: err}
	}
	return dialed{held: h, conn: conn.(*net.TCPConn)}
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
