package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"

	"usher/balancer"
	"usher/registry"
)

// A frontend is what is open for one Frontend.
type frontend struct {
	now    atomic.Pointer[registry.Frontend] // the present state
	picker balancer.Picker
	parts  []tally // of each part of the engine
	loops  episode // of Backends that are addresses of the Proxy

	// These belong to the goroutine of Run. An address that is wanted is in one
	// of them.
	open   listeners
	failed map[ListenAddr]*failure // nil at first
}

// listeners are those that a Frontend has open: one a View, so that a list is
// smaller than a map, of which there would be one for each Service.
type listeners []opened

type opened struct {
	at ListenAddr
	listener
}

// get returns the listener at an address, or nil.
func (ls listeners) get(at ListenAddr) listener {
	for _, o := range ls {
		if o.at == at {
			return o.listener
		}
	}
	return nil
}

// A socket is what one listener alone can have.
type socket struct {
	at       ListenAddr
	protocol corev1.Protocol
}

func (f *frontend) socket(at ListenAddr) socket { return socket{at, f.now.Load().Protocol} }

// A place is an address at which a Frontend is to be listened for.
type place struct {
	frontend *frontend
	at       ListenAddr
}

// compare orders places that may want one address by who gets it: a port that
// is listened at as it is comes before one that was moved.
func (pl place) compare(other place) int {
	a, b := pl.frontend.now.Load(), other.frontend.now.Load()
	if moved := pl.at.Port() != a.Port; moved != (other.at.Port() != b.Port) {
		if moved {
			return 1
		}
		return -1
	}
	return cmp.Or(
		a.AddrPort().Compare(b.AddrPort()), cmp.Compare(a.Protocol, b.Protocol),
		pl.at.AddrPort.Compare(other.at.AddrPort), cmp.Compare(pl.at.Device, other.at.Device),
	)
}

// Run serves the Frontends of the Store until ctx is done. Then it closes all
// listeners, aborts all connections and waits for everything it started. It is
// level-triggered: a change names a Frontend to look at, and what is done
// depends on the present state alone.
func (p *Proxy) Run(ctx context.Context) error {
	// The engine ends when nothing is started any more.
	var engine sync.WaitGroup
	defer engine.Wait()
	engineCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	engine.Go(func() { p.engine.run(engineCtx) })
	defer p.closeAll()
	select {
	case <-p.options.Store.Synced():
	case <-ctx.Done():
		return nil
	}
	for {
		snapshot := p.options.Store.Snapshot()
		end := p.begin(Sync{Full: true})
		p.reconcileAll(snapshot, p.options.Show(snapshot))
		end()
		p.setApplied(snapshot.Number())
		select {
		case <-p.synced:
		default:
			close(p.synced)
		}
		w := p.options.Store.WatchFrom(snapshot)
		var err error
		for err == nil {
			err = p.follow(ctx, w)
		}
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, registry.ErrExpired) {
			return err
		}
	}
}

// follow waits for the next Commits and acts on them, or tries again what is
// due.
func (p *Proxy) follow(ctx context.Context, w *registry.Watch) error {
	p.refresh()
	commits, err := p.next(ctx, w)
	switch {
	case err == nil:
	case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		p.retry()
		return nil
	case ctx.Err() == nil && errors.Is(err, context.Canceled):
		return nil // to refresh
	default:
		return err
	}
	snapshot := p.options.Store.Snapshot()
	dirty := make(map[registry.FrontendKey]*registry.Frontend)
	var s Sync
	ranges := false // have changed
	for _, c := range commits {
		for _, change := range c.Objects {
			s.add(change, p.started)
			ranges = ranges || change.Kind == registry.ServiceCIDRs
		}
		for _, change := range c.Frontends {
			f := change.New
			if f == nil {
				f = change.Old
			}
			dirty[f.FrontendKey] = snapshot.Frontend(f.FrontendKey)
		}
	}
	var closed func()
	if ranges {
		closed = p.options.Show(snapshot)
	}
	switch {
	case closed != nil:
		s.Full = true
		end := p.begin(s)
		p.reconcileAll(snapshot, closed)
		end()
	case len(dirty)+s.Services+s.EndpointSlices > 0:
		end := p.begin(s)
		p.reconcile(dirty)
		end()
	}
	p.setApplied(commits[len(commits)-1].Number)
	return nil
}

// next waits for the next Commits, until the next retry is due
// (context.DeadlineExceeded) or Refresh is called (context.Canceled).
func (p *Proxy) next(ctx context.Context, w *registry.Watch) ([]registry.Commit, error) {
	wait, cancel := context.WithCancel(ctx)
	defer cancel()
	if due, ok := p.nextRetry(); ok {
		var stop context.CancelFunc
		wait, stop = context.WithDeadline(wait, due)
		defer stop()
	}
	p.mu.Lock()
	p.interrupt = cancel
	if len(p.refreshes) > 0 {
		cancel()
	}
	p.mu.Unlock()
	return w.Next(wait)
}

// refresh does what Refresh asks for.
func (p *Proxy) refresh() {
	p.mu.Lock()
	asked := p.refreshes
	p.refreshes = nil
	p.mu.Unlock()
	if len(asked) == 0 {
		return
	}
	p.reconcileAll(p.options.Store.Snapshot(), nil)
	for _, done := range asked {
		close(done)
	}
}

// reconcileAll looks at every Frontend, and then calls closed, if it is not nil.
func (p *Proxy) reconcileAll(snapshot *registry.Snapshot, closed func()) {
	if closed != nil {
		defer closed()
	}
	all := make(map[registry.FrontendKey]*registry.Frontend)
	for key := range p.frontends {
		all[key] = nil
	}
	for f := range snapshot.Frontends() {
		all[f.FrontendKey] = f
	}
	p.reconcile(all)
}

// reconcile brings what is open for some Frontends into line with what is
// wanted, nil for one that is gone. First it closes what is not wanted any
// more, since its address may be wanted for another.
func (p *Proxy) reconcile(want map[registry.FrontendKey]*registry.Frontend) {
	var missing []place
	for key, w := range want {
		missing = append(missing, p.prune(key, w)...)
	}
	for _, x := range p.freed {
		if x.frontend.failed[x.at] == x {
			missing = append(missing, place{x.frontend, x.at})
		}
	}
	p.freed = nil
	slices.SortFunc(missing, place.compare)
	for _, pl := range missing {
		p.listen(pl.frontend, pl.at)
	}
}

// prune updates one Frontend, closes what it does not want any more, and
// returns where it is to be listened for as well.
func (p *Proxy) prune(key registry.FrontendKey, want *registry.Frontend) (missing []place) {
	f := p.frontends[key]
	if want == nil {
		if f != nil {
			p.keep(f, nil)
			p.set(key, nil)
		}
		return nil
	}
	if f == nil {
		f = new(frontend)
		f.parts = newTallies(f, p.engine.shards())
		f.now.Store(want)
		p.set(key, f)
	}
	if f.now.Load().Service != want.Service {
		for _, x := range f.failed {
			p.forget(x) // it was reported of another Service
		}
	}
	f.now.Store(want)
	f.picker.Update(want)
	addresses := p.options.Listen(key)
	if key.Protocol == corev1.ProtocolUDP && len(want.Backends) == 0 {
		addresses = nil // without a socket the kernel refuses the datagrams
	}
	p.keep(f, addresses)
	p.engine.tidy(f)
	if want.Removed != "" {
		p.engine.cut(f)
	}
	for _, at := range addresses {
		if f.open.get(at) == nil && f.failed[at] == nil {
			missing = append(missing, place{f, at})
		}
	}
	return missing
}

// keep closes what a Frontend has at other addresses than these, and updates
// the rest. A listener that cannot be updated is closed, and opened again when
// that is due.
func (p *Proxy) keep(f *frontend, addresses []ListenAddr) {
	for at, x := range f.failed {
		if !slices.Contains(addresses, at) {
			p.forget(x)
		}
	}
	for _, o := range slices.Clone(f.open) { // closeListener takes out
		if !slices.Contains(addresses, o.at) {
			p.closeListener(f, o)
		} else if err := o.update(f.now.Load()); err != nil {
			p.closeListener(f, o)
			p.fail(f, o.at, err)
		}
	}
}

// set enters a Frontend into the table that Stats reads.
func (p *Proxy) set(key registry.FrontendKey, f *frontend) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f == nil {
		delete(p.frontends, key)
	} else {
		p.frontends[key] = f
	}
}

// listen opens a listener, or notes and reports that it cannot be. A Frontend
// that has the address and comes after f gives it up.
func (p *Proxy) listen(f *frontend, at ListenAddr) {
	if holder := p.held[f.socket(at)]; holder != nil {
		if (place{f, at}).compare(place{holder, at}) < 0 {
			p.closeListener(holder, opened{at, holder.open.get(at)})
			p.listen(f, at)
			p.listen(holder, at) // fails, and says who has it
			return
		}
		p.fail(f, at, fmt.Errorf("listen on %s: %w", at.AddrPort, &HeldError{holder.now.Load()}))
		return
	}
	l, err := p.engine.listen(f, at)
	if err != nil {
		p.fail(f, at, err)
		return
	}
	p.own.add(at.AddrPort, 1)
	p.held[f.socket(at)] = f
	f.open = append(f.open, opened{at, l})
	if x := f.failed[at]; x != nil {
		p.forget(x)
	}
}

func (p *Proxy) closeListener(f *frontend, o opened) {
	o.close()
	f.open = slices.DeleteFunc(f.open, func(other opened) bool { return other.at == o.at })
	p.own.add(o.at.AddrPort, -1)
	s := f.socket(o.at)
	delete(p.held, s)
	p.freed = append(p.freed, p.waiting[s]...)
}

func (p *Proxy) closeAll() {
	for _, f := range p.frontends {
		for _, o := range slices.Clone(f.open) {
			p.closeListener(f, o)
		}
	}
}
