package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"usher/internal/api"
	"usher/proxy"
	"usher/registry"
)

const (
	// maxOpen bounds the connections that one reporter may have open here.
	maxOpen = 1 << 16

	// maxEnded bounds the sessions without a stream of which the last number is
	// remembered: one that comes back is not counted twice.
	maxEnded = 1024

	// freshWait is how long who wants to know waits for reporters, which answer
	// within some ms unless they are stopped.
	freshWait = 250 * time.Millisecond
)

// directReports has what programs connect without the proxy, as usher exec
// reports it. What is open goes with the reporter, what was counted stays.
type directReports struct {
	store  *registry.Store
	proxy  balances
	wanted chan struct{} // has one when somebody has begun to share loads

	mu        sync.Mutex // guards the following
	sessions  map[string]*directSession
	loads     map[place]int64 // what is open to each Backend
	sharers   map[*directStream]bool
	shared    map[registry.FrontendKey]bool // of which the proxy was told
	ended     []string                      // sessions without a stream, in that order; some have one again
	frontends map[registry.FrontendKey]*directFrontend
	asked     int64         // the last question
	changed   chan struct{} // closed when a stream has answered or ended
}

// A directSession is a reporter.
type directSession struct {
	stream *directStream // nil: it is away
	last   int64         // the last report that was applied
}

// A directStream is how it reports now.
type directStream struct {
	of       *directReports
	session  *directSession
	name     string
	to       api.Reporter
	answered int64
	open     map[uint64]directConnection
	loads    map[place]int64 // what that is to each Backend

	byLoad []registry.FrontendKey
	told   map[place]int64 // of them; nil: nothing yet
}

// A directConnection is one that is open.
type directConnection struct {
	api.Connection
	key     registry.FrontendKey
	backend netip.AddrPort
}

// A directFrontend has the counters of a Frontend, which have those of all its
// Backends in them.
type directFrontend struct {
	service  types.NamespacedName
	counts   proxy.Counts
	unserved uint64
	backends map[netip.AddrPort]*proxy.Counts
}

func newDirectReports(store *registry.Store) *directReports {
	nobody := balances{
		open:      func(registry.FrontendKey) map[netip.AddrPort]int64 { return nil },
		elsewhere: func(registry.FrontendKey, map[netip.AddrPort]int64) {},
	}
	return &directReports{
		store: store, proxy: nobody, sessions: make(map[string]*directSession),
		wanted: make(chan struct{}, 1), loads: make(map[place]int64), sharers: make(map[*directStream]bool),
		frontends: make(map[registry.FrontendKey]*directFrontend), changed: make(chan struct{}),
	}
}

// Begin implements api.Reports.
func (r *directReports) Begin(name string, to api.Reporter) (api.ReportStream, int64, error) {
	select {
	case <-r.store.Synced():
	default: // of which Service anything is, is not known yet
		return nil, 0, apierrors.NewServiceUnavailable("the registry has not been read yet")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	session := r.sessions[name]
	if session == nil {
		session = new(directSession)
		r.sessions[name] = session
	}
	if session.stream != nil { // one that lost it is back before we know that
		session.stream.leave()
	}
	session.stream = &directStream{
		of: r, session: session, name: name, to: to, answered: r.asked,
		open: make(map[uint64]directConnection), loads: make(map[place]int64),
	}
	return session.stream, session.last, nil
}

// wake tells those who wait. The caller must hold mu.
func (r *directReports) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Close implements api.ReportStream.
func (s *directStream) Close() {
	r := s.of
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.wake()
	if s.session.stream != s {
		return
	}
	s.session.stream = nil
	s.leave()
	r.ended = append(r.ended, s.name)
	for len(r.ended) > maxEnded {
		if old := r.sessions[r.ended[0]]; old != nil && old.stream == nil {
			delete(r.sessions, r.ended[0])
		}
		r.ended = r.ended[1:]
	}
	r.forget()
}

// forget drops what was counted at Frontends and Backends that are no more: a
// Backend goes with its last connection. The caller must hold mu.
func (r *directReports) forget() {
	snapshot := r.store.Snapshot()
	for key, f := range r.frontends {
		now := snapshot.Frontend(key)
		if now == nil || now.Service != f.service {
			delete(r.frontends, key)
			continue
		}
		for backend := range f.backends {
			if now.Serving(backend) == nil && r.loads[place{key, backend}] == 0 {
				delete(f.backends, backend)
			}
		}
	}
}

// Apply implements api.ReportStream.
func (s *directStream) Apply(report api.ConnectionReport) error {
	r := s.of
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case s.session.stream != s:
		return errors.New("the session has another stream now")
	case report.Sequence != s.session.last+1:
		return fmt.Errorf("report %d came after %d", report.Sequence, s.session.last)
	case max(len(report.Open), len(report.Closed), len(report.Counts), len(report.ByLoad)) > api.MaxReported:
		return fmt.Errorf("a report has more than %d entries", api.MaxReported)
	}
	for _, id := range report.Closed {
		s.forget(id)
	}
	more := 0
	for _, c := range report.Open {
		if _, known := s.open[c.ID]; !known {
			more++
		}
	}
	if len(s.open)+more > maxOpen {
		return fmt.Errorf("more than %d connections are open", maxOpen)
	}
	snapshot := r.store.Snapshot()
	for _, c := range report.Open {
		if known, ok := connectionOf(snapshot, c.Connection); ok {
			s.remember(c.ID, known)
		}
	}
	for i := range report.Counts {
		r.count(snapshot, &report.Counts[i])
	}
	s.session.last = report.Sequence
	s.answered = max(s.answered, report.Asked)
	if report.ByLoad != nil {
		s.share(report.ByLoad)
	}
	r.wake()
	return nil
}

// connectionOf completes what is reported of a connection, or returns false if
// that makes no sense.
func connectionOf(snapshot *registry.Snapshot, c api.Connection) (directConnection, bool) {
	vip, err := netip.ParseAddrPort(c.VIP)
	if err != nil {
		return directConnection{}, false
	}
	d := directConnection{Connection: c, key: registry.FrontendKey{Address: vip.Addr(), Port: vip.Port(), Protocol: corev1.Protocol(c.Protocol)}}
	if d.backend, err = netip.ParseAddrPort(c.Backend); err != nil {
		return directConnection{}, false
	}
	d.Path = pathDirect
	if f := snapshot.Frontend(d.key); f != nil {
		if b := f.Serving(d.backend); b != nil {
			d.Pod, d.Node = b.Pod, b.Node
		}
	}
	return d, true
}

// count adds what is reported of a Frontend or a Backend to its counters. The
// caller must hold mu.
func (r *directReports) count(snapshot *registry.Snapshot, n *api.ReportedCounts) {
	vip, err := netip.ParseAddrPort(n.Address)
	if err != nil {
		return
	}
	key := registry.FrontendKey{Address: vip.Addr(), Port: vip.Port(), Protocol: n.Protocol}
	service := types.NamespacedName{Namespace: n.Namespace, Name: n.Service}
	now := snapshot.Frontend(key)
	if now == nil || now.Service != service {
		return
	}
	f := r.frontends[key]
	if f == nil || f.service != service {
		f = &directFrontend{service: service, backends: make(map[netip.AddrPort]*proxy.Counts)}
		r.frontends[key] = f
	}
	counts := &f.counts
	if n.Backend != "" {
		backend, err := netip.ParseAddrPort(n.Backend)
		if counts = f.backends[backend]; counts == nil {
			if err != nil || now.Serving(backend) == nil {
				return
			}
			counts = new(proxy.Counts)
			f.backends[backend] = counts
		}
	} else {
		f.unserved += n.Unserved
	}
	*counts = counts.Plus(proxy.Counts{
		Connections: n.Connections, BytesUp: n.BytesUp, BytesDown: n.BytesDown, DialErrors: n.DialErrors, Retries: n.Retries, Resets: n.Resets,
	})
}

// refresh waits until all reporters have said how things are now, those apart
// that do not answer.
func (r *directReports) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, freshWait)
	defer cancel()
	r.mu.Lock()
	r.asked++
	question := r.asked
	for _, s := range r.sessions {
		if s.stream != nil {
			s.stream.to.Ask(question)
		}
	}
	r.mu.Unlock()
	for {
		r.mu.Lock()
		changed, waits := r.changed, false
		for _, s := range r.sessions {
			waits = waits || s.stream != nil && s.stream.answered < question
		}
		r.mu.Unlock()
		if !waits {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// connections returns what is open and wanted.
func (r *directReports) connections(want func(namespace, service string) bool) []api.Connection {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []api.Connection
	for _, s := range r.sessions {
		if s.stream == nil {
			continue
		}
		for _, c := range s.stream.open {
			if want(c.Namespace, c.Service) {
				list = append(list, c.Connection)
			}
		}
	}
	return list
}

// addTo adds what went straight to Backends to what the proxy has counted.
func (r *directReports) addTo(stats []proxy.Stats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget()
	active := r.active()
	for i := range stats {
		s := &stats[i]
		f := r.frontends[s.Frontend.FrontendKey]
		if f == nil || f.service != s.Frontend.Service {
			continue
		}
		s.Counts = s.Counts.Plus(f.counts)
		s.Unserved += f.unserved
		for backend, counts := range f.backends {
			sum := counts.Plus(proxy.Counts{Active: active[place{s.Frontend.FrontendKey, backend}]})
			if at := slices.IndexFunc(s.Backends, func(b proxy.BackendStats) bool { return b.Address == backend }); at >= 0 {
				s.Backends[at].Counts = s.Backends[at].Counts.Plus(sum)
			} else {
				s.Backends = append(s.Backends, proxy.BackendStats{Address: backend, Gone: true, Counts: sum})
			}
		}
		s.Active += active[place{s.Frontend.FrontendKey, netip.AddrPort{}}]
	}
}

// A place is a Frontend, or one of its Backends.
type place struct {
	registry.FrontendKey
	backend netip.AddrPort
}

// active counts what is open. The caller must hold mu.
func (r *directReports) active() map[place]int64 {
	active := make(map[place]int64)
	for _, s := range r.sessions {
		if s.stream == nil {
			continue
		}
		for _, c := range s.stream.open {
			active[place{c.key, netip.AddrPort{}}]++
			if c.State != string(proxy.Connecting) {
				active[place{c.key, c.backend}]++
			}
		}
	}
	return active
}
