package daemon

import (
	"context"
	"maps"
	"net/netip"
	"time"

	"usher/internal/api"
	"usher/registry"
)

// Some policies choose by how many connections Backends have. Each usher exec
// knows those of its own programs, and the proxy those that it has; what the
// others have open they are told from here.

// balances is what the proxy says of a Frontend, and is told: how many
// connections are open to each Backend.
type balances struct {
	open      func(registry.FrontendKey) map[netip.AddrPort]int64
	elsewhere func(registry.FrontendKey, map[netip.AddrPort]int64)
}

// shareEvery is how often those are told who want to know, if there is news.
const shareEvery = 100 * time.Millisecond

// remember takes down that a connection is open.
func (s *directStream) remember(id uint64, c directConnection) {
	s.forget(id)
	s.open[id] = c
	s.load(place{c.key, c.backend}, 1)
}

// forget takes down that one no longer is.
func (s *directStream) forget(id uint64) {
	if c, ok := s.open[id]; ok {
		delete(s.open, id)
		s.load(place{c.key, c.backend}, -1)
	}
}

// load adds n to what is open to a Backend.
func (s *directStream) load(at place, n int64) {
	for _, loads := range []map[place]int64{s.loads, s.of.loads} {
		if loads[at] += n; loads[at] == 0 {
			delete(loads, at)
		}
	}
}

// leave takes down that a stream has ended. The caller must hold the mu of the
// reports, as those of the following must.
func (s *directStream) leave() {
	for id := range s.open {
		s.forget(id)
	}
	delete(s.of.sharers, s)
}

// share has a reporter told what others have open at Frontends: at once, and
// then when that changes.
func (s *directStream) share(frontends []api.ReportedFrontend) {
	s.byLoad, s.told = nil, nil
	for _, f := range frontends {
		if at, err := netip.ParseAddrPort(f.Address); err == nil {
			s.byLoad = append(s.byLoad, registry.FrontendKey{Address: at.Addr(), Port: at.Port(), Protocol: f.Protocol})
		}
	}
	s.tell()
	if len(s.byLoad) == 0 {
		delete(s.of.sharers, s)
		return
	}
	s.of.sharers[s] = true
	select {
	case s.of.wanted <- struct{}{}:
	default:
	}
}

// tell tells what a reporter does not know yet.
func (s *directStream) tell() {
	open := s.elsewhere()
	if s.told != nil && maps.Equal(open, s.told) {
		return
	}
	s.told = open
	list := make([]api.ReportedLoad, 0, len(open))
	for at, n := range open {
		f := api.ReportedFrontend{Address: at.AddrPort().String(), Protocol: at.Protocol}
		list = append(list, api.ReportedLoad{ReportedFrontend: f, Backend: at.backend.String(), Open: n})
	}
	s.to.Tell(list)
}

// elsewhere returns what others have open at the Frontends that a reporter has
// named.
func (s *directStream) elsewhere() map[place]int64 {
	r := s.of
	open := make(map[place]int64)
	snapshot := r.store.Snapshot()
	for _, key := range s.byLoad {
		f := snapshot.Frontend(key)
		if f == nil {
			continue
		}
		proxied := r.proxy.open(key)
		for _, b := range f.Backends {
			at := place{key, b.Address}
			if n := r.loads[at] - s.loads[at] + proxied[b.Address]; n > 0 && len(open) < api.MaxReported {
				open[at] = n
			}
		}
	}
	return open
}

// share tells those who want to know what others have open, until ctx is done.
// While there is nobody it rests.
func (r *directReports) share(ctx context.Context) error {
	for {
		select {
		case <-r.wanted:
		case <-ctx.Done():
			return nil
		}
		for r.tellAll() {
			select {
			case <-time.After(shareEvery):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// tellAll tells everybody, and returns whether there is somebody.
func (r *directReports) tellAll() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.shared
	r.shared = make(map[registry.FrontendKey]bool)
	for s := range r.sharers {
		s.tell()
		for _, key := range s.byLoad {
			r.shared[key] = true
		}
	}
	snapshot := r.store.Snapshot()
	for key := range r.shared {
		r.proxy.elsewhere(key, r.open(snapshot, key))
		delete(before, key)
	}
	for key := range before {
		r.proxy.elsewhere(key, nil)
	}
	return len(r.sharers) > 0
}

// open returns what programs have open to the Backends of a Frontend. The caller
// must hold mu.
func (r *directReports) open(snapshot *registry.Snapshot, key registry.FrontendKey) map[netip.AddrPort]int64 {
	f := snapshot.Frontend(key)
	if f == nil {
		return nil
	}
	open := make(map[netip.AddrPort]int64)
	for _, b := range f.Backends {
		if n := r.loads[place{key, b.Address}]; n > 0 {
			open[b.Address] = n
		}
	}
	return open
}
