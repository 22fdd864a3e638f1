package direct

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/watch"

	"usher/balancer"
	"usher/internal/client"
	"usher/registry"
)

// kinds are what Frontends and names follow from.
var kinds = []*registry.Kind{
	registry.Namespaces, registry.Nodes, registry.Services, registry.Pods, registry.Endpoints, registry.EndpointSlices,
}

// A state is a copy of what the daemon knows, and a turn for each Frontend.
type state struct {
	client  *client.Client
	ranges  []netip.Prefix
	store   *registry.Store
	started time.Time

	listed chan struct{} // closed once there is what the daemon has
	failed error         // or why that could not be had; set before listed is closed

	// Of the one goroutine that writes.
	revision int64 // counts what was applied: each Kind has revisions of its own
	versions map[*registry.Kind]string

	frontends sync.Map // of registry.FrontendKey to *frontend
	byLoad    byLoad

	// proxy and allProxied are those of Options.
	proxy      func(registry.FrontendKey) (netip.AddrPort, bool)
	allProxied bool

	// moved, if not nil, is called when a Frontend may have lost Backends, with
	// what says whether one still serves.
	moved func(key registry.FrontendKey, serves func(netip.AddrPort) bool)

	// cut, if not nil, is called after each change once there is a Service that
	// wants connections to removed Backends cut: who is not ready is in no
	// Frontend, and may be removed nevertheless.
	cut  func()
	cuts atomic.Bool
}

// A frontend is what there is to choose from for a Frontend.
type frontend struct {
	balancer.Picker
	now     atomic.Pointer[registry.Frontend]
	proxied atomic.Bool
}

// newState returns one that knows of nothing yet. begin fills it, and follow
// keeps it up to date.
func newState(o *Options) *state {
	s := &state{
		client: o.Client, ranges: o.ServiceCIDR, proxy: o.Proxy, allProxied: o.AllProxied,
		store: registry.NewStore(), started: time.Now(), versions: make(map[*registry.Kind]string), listed: make(chan struct{}),
		byLoad: byLoad{news: make(chan struct{}, 1), told: make(chan struct{}), keys: make(map[registry.FrontendKey]bool)},
	}
	s.store.SetLocal(registry.Local{Node: o.Node})
	return s
}

// begin lists everything there is, but for what has been listed already.
func (s *state) begin(ctx context.Context, services *client.List) {
	defer close(s.listed)
	s.failed = s.list(ctx, services)
	s.byLoad.await(ctx)
}

// isListed reports whether calls need not wait for what the daemon has.
func (s *state) isListed() bool {
	select {
	case <-s.listed:
		return true
	default:
		return false
	}
}

// contains reports whether an address is one of the service range.
func (s *state) contains(addr netip.Addr) bool {
	return slices.ContainsFunc(s.ranges, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// localhost is where the program is, the client of every connection.
var localhost = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// proxyOf returns where the proxy listens for a Frontend, if anywhere.
func (s *state) proxyOf(key registry.FrontendKey) []netip.AddrPort {
	if s.proxy == nil {
		return nil
	}
	if addr, ok := s.proxy(key); ok {
		return []netip.AddrPort{addr}
	}
	return nil
}

// list makes the copy what the daemon has now. The Services it asks for if they
// are nil.
func (s *state) list(ctx context.Context, services *client.List) error {
	var objects []registry.Object
	for _, k := range kinds {
		list := services
		if k != registry.Services || list == nil {
			var err error
			if list, err = s.client.List(ctx, k, "", client.ListOptions{}); err != nil {
				return fmt.Errorf("list %s: %w", k.Resource, err)
			}
		}
		s.versions[k] = list.ResourceVersion
		for _, obj := range list.Items {
			if !registry.IsDerived(obj) { // the Store derives its own
				objects = append(objects, obj)
			}
		}
	}
	s.revision++
	s.store.Replace(s.revision, objects)
	s.update()
	s.changed()
	return nil
}

// apply takes a change over into the copy.
func (s *state) apply(ev watch.Event) {
	obj, ok := ev.Object.(registry.Object)
	if !ok || registry.IsDerived(obj) {
		return
	}
	w := registry.Write{Key: registry.KeyOf(obj)}
	if ev.Type != watch.Deleted {
		w.Object = obj
	}
	defer s.changed()
	before := s.revision
	s.revision++
	s.store.Apply(s.revision, []registry.Write{w})
	changes, err := s.store.Watch(before)
	if err != nil {
		s.update()
		return
	}
	commits, err := changes.Next(context.Background()) // there is one
	if err != nil {
		s.update()
		return
	}
	for _, c := range commits {
		for _, change := range c.Frontends {
			f := change.New
			if f == nil {
				f = change.Old
			}
			// Another Service may have had the address as well.
			if now := s.store.Snapshot().Frontend(f.FrontendKey); now != nil {
				s.serve(now)
			} else {
				s.drop(f.FrontendKey)
			}
		}
	}
}

// changed has connections cut, if that may be wanted.
func (s *state) changed() {
	if s.cut != nil && s.cuts.Load() {
		s.cut()
	}
}

// serve gives a Frontend its Backends.
func (s *state) serve(f *registry.Frontend) {
	v, _ := s.frontends.LoadOrStore(f.FrontendKey, new(frontend))
	here := v.(*frontend)
	proxied := f.Proxied || s.allProxied
	here.proxied.Store(proxied)
	here.now.Store(f)
	here.Update(f)
	s.byLoad.set(f.FrontendKey, f.Policy.ByLoad() && !proxied)
	if f.Removed != "" {
		s.cuts.Store(true)
	}
	if s.moved == nil {
		return
	}
	s.moved(f.FrontendKey, func(b netip.AddrPort) bool {
		if proxied {
			return slices.Contains(s.proxyOf(f.FrontendKey), b)
		}
		return f.Serving(b) != nil
	})
}

// drop forgets a Frontend that is no more.
func (s *state) drop(key registry.FrontendKey) {
	s.frontends.Delete(key)
	s.byLoad.set(key, false)
	if s.moved != nil {
		s.moved(key, func(netip.AddrPort) bool { return false })
	}
}

// update looks at all Frontends.
func (s *state) update() {
	present := make(map[registry.FrontendKey]bool)
	for f := range s.store.Snapshot().Frontends() {
		present[f.FrontendKey] = true
		s.serve(f)
	}
	s.frontends.Range(func(key, _ any) bool {
		if !present[key.(registry.FrontendKey)] {
			s.drop(key.(registry.FrontendKey))
		}
		return true
	})
}

// Between two tries to reach a daemon that has gone.
const (
	minRetry = 50 * time.Millisecond
	maxRetry = time.Second
)

// follow takes changes over until ctx is done, after begin. While the daemon is
// away the copy stays as it is; once it is back everything is listed again.
func (s *state) follow(ctx context.Context) {
	if s.failed == nil {
		s.watch(ctx)
	}
	for wait := minRetry; ; s.watch(ctx) {
		for {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
			if s.list(ctx, nil) == nil {
				wait = minRetry
				break
			}
			wait = min(2*wait, maxRetry)
		}
	}
}

// watch takes changes over until one of the watches ends.
func (s *state) watch(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	events := make(chan watch.Event, 64)
	var wg sync.WaitGroup
	for _, k := range kinds {
		wg.Go(func() {
			defer cancel()
			s.read(ctx, k, s.versions[k], events)
		})
	}
	defer wg.Wait()
	defer cancel()
	for {
		select {
		case ev := <-events:
			s.apply(ev)
		case <-ctx.Done():
			return
		}
	}
}

// read passes on the events of one Kind until its watch ends.
func (s *state) read(ctx context.Context, k *registry.Kind, version string, events chan<- watch.Event) {
	stream, err := s.client.WatchObjects(ctx, registry.Key{Kind: k}, client.ListOptions{ResourceVersion: version})
	if err != nil {
		return
	}
	defer stream.Close()
	for {
		ev, err := stream.Next()
		if err != nil {
			return
		}
		select {
		case events <- ev:
		case <-ctx.Done():
			return
		}
	}
}
