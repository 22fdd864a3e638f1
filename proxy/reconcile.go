package proxy

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"usher/balancer"
	"usher/registry"
)

// Back-off of listening at an address that somebody else has.
const (
	minListenRetry = time.Second
	maxListenRetry = 30 * time.Second
)

// A frontend is what is open for one Frontend.
type frontend struct {
	now      atomic.Pointer[registry.Frontend] // the present state
	picker   balancer.Picker
	counters counters

	open map[ListenAddr]listener // belongs to the goroutine of Run
}

// A place is an address at which a Frontend is to be listened for.
type place struct {
	key registry.FrontendKey
	at  ListenAddr
}

// A failure is why a place cannot be listened at for now.
type failure struct {
	err   error
	wait  time.Duration
	retry time.Time
}

// Run serves the Frontends of the Store until ctx is done. Then it closes all
// listeners, aborts all connections and waits for everything it started. It is
// level-triggered: a change names a Frontend to look at, and what is done
// depends on the present state alone.
func (p *Proxy) Run(ctx context.Context) error {
	var engine sync.WaitGroup
	defer engine.Wait()
	engine.Go(func() { p.engine.run(ctx) })
	defer p.closeAll()
	select {
	case <-p.options.Store.Synced():
	case <-ctx.Done():
		return nil
	}
	for {
		snapshot := p.options.Store.Snapshot()
		p.reconcileAll(snapshot)
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
	wait, cancel := ctx, context.CancelFunc(func() {})
	if due, ok := p.nextRetry(); ok {
		wait, cancel = context.WithDeadline(ctx, due)
	}
	commits, err := w.Next(wait)
	cancel()
	if err != nil {
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			p.retry()
			return nil
		}
		return err
	}
	snapshot := p.options.Store.Snapshot()
	dirty := make(map[registry.FrontendKey]bool)
	for _, c := range commits {
		for _, change := range c.Frontends {
			f := change.New
			if f == nil {
				f = change.Old
			}
			dirty[f.FrontendKey] = true
		}
	}
	for key := range dirty {
		p.reconcile(key, snapshot.Frontend(key))
	}
	p.setApplied(commits[len(commits)-1].Number)
	return nil
}

func (p *Proxy) reconcileAll(snapshot *registry.Snapshot) {
	seen := make(map[registry.FrontendKey]bool)
	for f := range snapshot.Frontends() {
		seen[f.FrontendKey] = true
		p.reconcile(f.FrontendKey, f)
	}
	for key := range p.frontends {
		if !seen[key] {
			p.reconcile(key, nil)
		}
	}
}

// reconcile brings what is open for one Frontend into line with want, which is
// nil when the Frontend is gone.
func (p *Proxy) reconcile(key registry.FrontendKey, want *registry.Frontend) {
	f := p.frontends[key]
	if want == nil {
		if f != nil {
			p.close(f)
			p.forget(key, nil)
			p.set(key, nil)
		}
		return
	}
	if f == nil {
		f = &frontend{picker: new(balancer.RoundRobin), open: make(map[ListenAddr]listener)}
		f.now.Store(want)
		p.set(key, f)
	}
	f.now.Store(want)
	f.picker.Update(want.Backends)
	addresses := p.options.Listen(key)
	if key.Protocol == corev1.ProtocolUDP && len(want.Backends) == 0 {
		addresses = nil // without a socket the kernel refuses the datagrams
	}
	for at, l := range f.open {
		if slices.Contains(addresses, at) {
			l.update(want)
		} else {
			p.closeListener(f, at)
		}
	}
	p.forget(key, addresses)
	for _, at := range addresses {
		if f.open[at] == nil && p.failed[place{key, at}] == nil {
			p.listen(f, at)
		}
	}
}

// forget drops the failures of a Frontend at addresses that it no longer has.
// There are few failures, if any.
func (p *Proxy) forget(key registry.FrontendKey, addresses []ListenAddr) {
	maps.DeleteFunc(p.failed, func(pl place, _ *failure) bool {
		return pl.key == key && !slices.Contains(addresses, pl.at)
	})
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

// listen opens a listener, or notes and reports that it cannot be.
func (p *Proxy) listen(f *frontend, at ListenAddr) {
	want := f.now.Load()
	where := place{want.FrontendKey, at}
	was := p.failed[where]
	l, err := p.engine.listen(f, at)
	if err == nil {
		p.own.add(at.AddrPort, 1)
		f.open[at] = l
		if was != nil {
			delete(p.failed, where)
			p.options.Report(Status{want, at, nil})
		}
		return
	}
	now := &failure{err: err, wait: minListenRetry}
	if was != nil {
		now.wait = min(2*was.wait, maxListenRetry)
	}
	now.retry = time.Now().Add(now.wait)
	p.failed[where] = now
	if was == nil || was.err.Error() != err.Error() {
		p.options.Log.Warn("cannot listen", "service", want.Service, "address", at.AddrPort, "error", err)
		p.options.Report(Status{want, at, err})
	}
}

// nextRetry returns when the next failed place is due.
func (p *Proxy) nextRetry() (time.Time, bool) {
	var due time.Time
	for _, failure := range p.failed {
		if due.IsZero() || failure.retry.Before(due) {
			due = failure.retry
		}
	}
	return due, !due.IsZero()
}

// retry listens again where that is due.
func (p *Proxy) retry() {
	now := time.Now()
	for _, pl := range slices.Collect(maps.Keys(p.failed)) {
		if !p.failed[pl].retry.After(now) {
			p.listen(p.frontends[pl.key], pl.at)
		}
	}
}

func (p *Proxy) closeListener(f *frontend, at ListenAddr) {
	f.open[at].close()
	delete(f.open, at)
	p.own.add(at.AddrPort, -1)
}

func (p *Proxy) close(f *frontend) {
	for at := range f.open {
		p.closeListener(f, at)
	}
}

func (p *Proxy) closeAll() {
	for _, f := range p.frontends {
		p.close(f)
	}
}
