package direct

import (
	"context"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"usher/internal/api"
	"usher/registry"
)

// byLoad are the Frontends whose policies ask how many connections Backends
// have. The daemon is told which those are, and says what others have open.
type byLoad struct {
	news  chan struct{} // has one when the daemon ought to hear soon
	told  chan struct{} // closed when it has first said what others have open
	first sync.Once     // closes told

	mu      sync.Mutex // guards the following
	keys    map[registry.FrontendKey]bool
	unknown bool // to the daemon, as they are now
}

// set says whether a Frontend is one of them.
func (b *byLoad) set(key registry.FrontendKey, is bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.keys[key] == is {
		return
	}
	if b.unknown = true; is {
		b.keys[key] = true
	} else {
		delete(b.keys, key)
	}
	b.hurry()
}

// hurry has the daemon told soon.
func (b *byLoad) hurry() {
	select {
	case b.news <- struct{}{}:
	default:
	}
}

// again says that the daemon knows of none.
func (b *byLoad) again() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unknown = len(b.keys) > 0
}

// heard says that the daemon has said what others have open.
func (b *byLoad) heard() { b.first.Do(func() { close(b.told) }) }

// firstLoads bounds how long the first connections wait for that.
const firstLoads = 100 * time.Millisecond

// await waits until it is known what others have open, if that matters.
func (b *byLoad) await(ctx context.Context) {
	b.mu.Lock()
	matters := len(b.keys) > 0
	b.mu.Unlock()
	if !matters {
		return
	}
	select {
	case <-b.told:
	case <-time.After(firstLoads):
	case <-ctx.Done():
	}
}

// untold reports whether the daemon does not know which those are.
func (b *byLoad) untold() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unknown
}

// take returns what the daemon does not know, or nil if it does.
func (b *byLoad) take() []api.ReportedFrontend {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.unknown {
		return nil
	}
	b.unknown = false
	list := make([]api.ReportedFrontend, 0, len(b.keys))
	for key := range b.keys {
		if len(list) < api.MaxReported {
			list = append(list, api.ReportedFrontend{Address: key.AddrPort().String(), Protocol: key.Protocol})
		}
	}
	return list
}

// tellLoads takes over what others have open.
func (s *state) tellLoads(list []api.ReportedLoad) {
	open := make(map[registry.FrontendKey]map[netip.AddrPort]int64)
	for _, l := range list {
		vip, err := netip.ParseAddrPort(l.Address)
		backend, err2 := netip.ParseAddrPort(l.Backend)
		if err != nil || err2 != nil {
			continue
		}
		key := registry.FrontendKey{Address: vip.Addr(), Port: vip.Port(), Protocol: corev1.Protocol(l.Protocol)}
		if open[key] == nil {
			open[key] = make(map[netip.AddrPort]int64)
		}
		open[key][backend] = l.Open
	}
	s.byLoad.mu.Lock()
	defer s.byLoad.mu.Unlock()
	for key := range s.byLoad.keys {
		if f, ok := s.frontends.Load(key); ok {
			f.(*frontend).Elsewhere(open[key])
		}
	}
}
