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
	picked
	conn *net.TCPConn
	err  error
}

// A picked is a place in a Choice: the Backend that a connection or a flow has.
type picked struct {
	choice balancer.Choice
	place  int
}

// release tells the Picker that the connection has ended.
func (p picked) release() { p.choice.Release(p.place) }

// backend returns the Backend.
func (p picked) backend() *registry.Backend { return p.choice.At(p.place) }

// dial connects to a Backend of f. One that refuses is followed by the next at
// once; one that is silent gets company after the hedge delay, and again after
// two and a half times that, and the first to answer is taken. No byte has
// been sent by then, so a client sees nothing of it. Each Backend is dialled
// at most once, and none that has left since the Choice. After a failure of
// this host's own, such as a lack of descriptors, which is no Backend's fault, only
// the dials that run are waited for.
func (d *dialer) dial(ctx context.Context, f *frontend, client netip.Addr) (*net.TCPConn, picked, error) {
	end := time.Now().Add(d.timeout)
	ctx, cancel := context.WithDeadline(ctx, end)
	choice, tried := f.picker.Pick(client, d.clock()), 0
	outcomes := make(chan dialed)
	var running []int // places in choice
	defer func() {
		cancel()
		closeLosers(outcomes, len(running))
	}()
	start := func() bool {
		tried = f.nextPlace(choice, tried)
		// A dial that has no time left would be the Backend's failure.
		if tried == choice.Len() || !time.Now().Before(end) {
			return false
		}
		p := picked{choice, tried}
		tried++
		running = append(running, p.place)
		if p.place > 0 {
			f.parts[0].count(p.backend().Address, func(c *counters) { c.retries.Add(1) })
		}
		go func() { outcomes <- d.dialOne(ctx, f, p, client) }()
		return true
	}
	if !start() {
		return nil, picked{}, errNoBackends
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
				d.settle(o.picked, running, client)
				return o.conn, o.picked, nil
			}
			errs = append(errs, o.err)
			if ctx.Err() == nil {
				f.parts[0].count(o.backend().Address, func(c *counters) { c.dialErrors.Add(1) })
			}
			d.failed(ctx, o)
			local = local || isLocal(o.err)
			if (local || !start()) && len(running) == 0 {
				choice.Release(0)
				return nil, picked{}, errors.Join(errs...)
			}
		case <-company.C:
			if !local && start() {
				company.Reset(delay)
			}
		}
	}
}

// closeLosers waits for n dials that nobody wants any more.
func closeLosers(outcomes <-chan dialed, n int) {
	for range n {
		if o := <-outcomes; o.conn != nil {
			o.conn.Close()
		}
	}
}

// serves reports whether a Backend of an earlier Choice serves yet: what has
// left gets nothing new.
func (f *frontend) serves(b *registry.Backend) bool { return f.now.Load().Serving(b.Address) != nil }

// nextPlace returns the first place of a Choice, from a place on, whose Backend
// serves, or its end. The first of all is as new as the Choice.
func (f *frontend) nextPlace(choice balancer.Choice, from int) int {
	for from > 0 && from < choice.Len() && !f.serves(choice.At(from)) {
		from++
	}
	return from
}

// settle tells the Picker which Backend has answered, and which were dialled
// before it and have been silent for too long.
func (d *dialer) settle(p picked, running []int, client netip.Addr) {
	for _, place := range running {
		if place < p.place {
			p.choice.Failed(place, syscall.ETIMEDOUT, d.clock())
		}
	}
	p.choice.Succeeded(p.place)
	if p.place > 0 {
		p.choice.Pin(p.place, client, d.clock())
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

func (d *dialer) dialOne(ctx context.Context, f *frontend, p picked, client netip.Addr) dialed {
	b := p.backend()
	if d.own.contains(b.Address) {
		if f.loops.begins() {
			d.log.Warn("refused to dial a backend", "frontend", f.now.Load().FrontendKey, "backend", b.Address, "error", errLoop)
		}
		return dialed{picked: p, err: fmt.Errorf("dial %s: %w", b.Address, errLoop)}
	}
	dialer := net.Dialer{KeepAliveConfig: keepAlive}
	dialer.SetMultipathTCP(false)
	if from := source(f.now.Load(), client, b.Address.Addr()); d.transparent && from.IsValid() {
		dialer.LocalAddr, dialer.Control = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), prepareSource(from)
	}
	conn, err := connect(ctx, &dialer, "tcp", b.Address)
	if err != nil {
		return dialed{picked: p, err: err}
	}
	return dialed{picked: p, conn: conn.(*net.TCPConn)}
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
	return slices.ContainsFunc(localErrnos, func(local syscall.Errno) bool { return errors.Is(err, local) })
}

// localErrnos are the reasons of isLocal, for both engines.
var localErrnos = []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EAGAIN}
