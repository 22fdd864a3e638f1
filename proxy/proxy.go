// Package proxy is the data plane. It keeps one listener open for each
// Frontend and View, picks a Backend for each connection and flow, and moves
// the bytes.
//
// A TCP connection becomes a Pipe: both directions, half close kept, and a
// reset stays a reset, so that a truncated stream never looks complete. The
// datagrams of one client become a Flow, a connected socket to its Backend.
//
// The package does not decide which Backends there are (registry), which is
// next (balancer), or at which addresses VIPs are visible (Options.Listen).
package proxy

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"usher/registry"
)

// Options are what a Proxy works with. Durations and limits that are zero
// have a default.
type Options struct {
	Store *registry.Store

	// Listen returns where to listen for a Frontend. After its answers have
	// changed other than by Show, Refresh has to be called.
	Listen func(registry.FrontendKey) []ListenAddr

	// Show, if not nil, is told of the ServiceCIDRs there are, at first and when
	// they change. It returns nil when that changes nothing; otherwise Listen is
	// asked anew for every Frontend, and what it returns is called when what is
	// not wanted any more is closed.
	Show func(*registry.Snapshot) (closed func())

	// Report is told when listening begins to fail, fails for another reason,
	// or succeeds after that. It is called by one goroutine and must not wait.
	Report func(Status)

	// Observe is told of each Sync, by the same goroutine, and must not wait
	// either. What it was told of is served once it returns.
	Observe func(Sync)

	// Engine is "loop", the event loops of Linux, "portable", or "auto" and ""
	// for the best that there is.
	Engine string

	Log *slog.Logger

	Limits
}

// Limits bound what connections and flows may take.
type Limits struct {
	// Idle is how long a connection may be without a byte in either direction
	// (default 24 h), and HalfIdle the same once one direction has ended (1 h).
	// These are kube-proxy's conntrack time-outs.
	Idle, HalfIdle time.Duration

	// DialTimeout bounds the search for a Backend that answers (5 s). A second
	// dial starts beside the first after Hedge (100 ms), a third after two and a
	// half times that.
	DialTimeout, Hedge time.Duration

	// A flow ends when idle for FlowIdle (120 s), or FlowUnanswered (30 s) as
	// long as the Backend has not answered. These are conntrack's time-outs.
	FlowIdle, FlowUnanswered time.Duration

	// MaxFlows bounds the flows of one listener (4096). The oldest idle one
	// makes room, one without an answer first.
	MaxFlows int

	// MaxDescriptors bounds the descriptors of all listeners, connections and
	// flows together (three quarters of RLIMIT_NOFILE). When there are no more,
	// clients wait to be accepted, and flows make room.
	MaxDescriptors int
}

func (l *Limits) setDefaults() {
	for d, value := range map[*time.Duration]time.Duration{
		&l.Idle: 24 * time.Hour, &l.HalfIdle: time.Hour,
		&l.DialTimeout: 5 * time.Second, &l.Hedge: 100 * time.Millisecond,
		&l.FlowIdle: 120 * time.Second, &l.FlowUnanswered: 30 * time.Second,
	} {
		if *d == 0 {
			*d = value
		}
	}
	if l.MaxFlows == 0 {
		l.MaxFlows = 4096
	}
	if l.MaxDescriptors == 0 {
		l.MaxDescriptors = defaultDescriptors()
	}
}

// A ListenAddr is where to listen. Device, when not "", is the network device
// that alone is listened to (SO_BINDTODEVICE): an address of a local route
// would otherwise answer the network. Sockets, when not nil, has those of another
// network namespace, where the address is: Linux alone.
type ListenAddr struct {
	netip.AddrPort
	Device  string
	Sockets Sockets
}

// Sockets opens sockets in a network namespace: non-blocking ones of a family
// (AF_INET, AF_INET6) and a type (SOCK_STREAM, SOCK_DGRAM), which the caller
// closes. It has to be comparable, as a pointer is, and must not wait for long.
type Sockets interface {
	Socket(domain, kind int) (fd int, err error)
}

// A Status says how listening at one address of a Frontend goes: well when Err
// is nil.
type Status struct {
	Frontend *registry.Frontend
	Address  ListenAddr
	Err      error
}

// A Proxy serves the Frontends of a Store.
type Proxy struct {
	options Options
	engine  engine
	own     *addressSet // addresses that the Proxy listens at
	started time.Time
	synced  chan struct{}

	// These belong to the goroutine of Run.
	held     map[socket]*frontend  // whose listener has it
	waiting  map[socket][]*failure // who cannot have it
	freed    []*failure            // to be tried again: it was ours, and is not any more
	failures failures

	mu        sync.Mutex // guards the following
	frontends map[registry.FrontendKey]*frontend
	progress  Progress
	applied   int64              // number of the Commit that is served
	advanced  chan struct{}      // closed when applied grows
	refreshes []chan struct{}    // to be closed when Listen has been asked anew
	interrupt context.CancelFunc // ends the wait for the next Commit
}

// New returns a Proxy that does nothing before Run.
func New(o Options) *Proxy {
	return newProxy(o, chooseEngine(o.Engine))
}

// newProxy returns a Proxy over an engine.
func newProxy(o Options, newEngine func(engineOptions) engine) *Proxy {
	o.setDefaults()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Report == nil {
		o.Report = func(Status) {}
	}
	if o.Show == nil {
		o.Show = func(*registry.Snapshot) func() { return nil }
	}
	if o.Observe == nil {
		o.Observe = func(Sync) {}
	}
	own := newAddressSet()
	return &Proxy{
		options:   o,
		held:      make(map[socket]*frontend),
		waiting:   make(map[socket][]*failure),
		engine:    newEngine(engineOptions{o.Limits, own, Transparent() == nil, o.Log}),
		own:       own,
		started:   time.Now(),
		synced:    make(chan struct{}),
		frontends: make(map[registry.FrontendKey]*frontend),
		advanced:  make(chan struct{}),
		interrupt: func() {},
	}
}

// Synced returns a channel that is closed once the Frontends of the first sync
// are served.
func (p *Proxy) Synced() <-chan struct{} { return p.synced }

// WaitRevision waits until the Proxy serves the state of the Store at
// revision: listeners are open, closed or paused, and what left gets nothing
// new. An address that cannot be listened at is reported, and not waited for.
func (p *Proxy) WaitRevision(ctx context.Context, revision int64) error {
	if err := p.options.Store.WaitRevision(ctx, revision); err != nil {
		return err
	}
	// By its number: a revision may be of a history that has ended.
	number := p.options.Store.Snapshot().Number()
	for {
		p.mu.Lock()
		applied, advanced := p.applied, p.advanced
		p.mu.Unlock()
		if applied >= number {
			return nil
		}
		select {
		case <-advanced:
		case <-ctx.Done():
			return fmt.Errorf("wait for the proxy to serve revision %d: %w", revision, context.Cause(ctx))
		}
	}
}

// Refresh asks Options.Listen anew for every Frontend, and waits until that is
// served.
func (p *Proxy) Refresh(ctx context.Context) error {
	done := make(chan struct{})
	p.mu.Lock()
	p.refreshes = append(p.refreshes, done)
	p.interrupt()
	p.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the proxy to listen: %w", context.Cause(ctx))
	}
}

// setApplied notes that the state after a Commit is served.
func (p *Proxy) setApplied(number int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applied = number
	close(p.advanced)
	p.advanced = make(chan struct{})
}

// Stats returns the counters of each Frontend that is served now.
func (p *Proxy) Stats() iter.Seq[Stats] {
	return func(yield func(Stats) bool) {
		p.mu.Lock()
		list := make([]Stats, 0, len(p.frontends))
		for _, f := range p.frontends {
			list = append(list, f.stats())
		}
		p.mu.Unlock()
		for _, s := range list {
			if !yield(s) {
				return
			}
		}
	}
}

// An addressSet is a set of addresses, safe for concurrent use.
type addressSet struct {
	mu  sync.RWMutex
	has map[netip.AddrPort]int
}

func newAddressSet() *addressSet { return &addressSet{has: make(map[netip.AddrPort]int)} }

func (s *addressSet) add(a netip.AddrPort, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has[a] += n; s.has[a] == 0 {
		delete(s.has, a)
	}
}

func (s *addressSet) contains(a netip.AddrPort) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.has[a] > 0
}
