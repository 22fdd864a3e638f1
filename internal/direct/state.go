package direct

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
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

	// Of the one goroutine that writes.
	revision int64 // counts what was applied: each Kind has revisions of its own
	versions map[*registry.Kind]string

	pickers sync.Map // of registry.FrontendKey to *balancer.Picker
}

// openState lists everything there is, on a node. follow keeps it up to date.
func openState(ctx context.Context, c *client.Client, ranges []netip.Prefix, node string) (*state, error) {
	s := &state{client: c, ranges: ranges, store: registry.NewStore(), started: time.Now(), versions: make(map[*registry.Kind]string)}
	s.store.SetLocal(registry.Local{Node: node})
	if err := s.list(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// contains reports whether an address is one of the service range.
func (s *state) contains(addr netip.Addr) bool {
	return slices.ContainsFunc(s.ranges, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// self is the client of every connection: the program.
var self = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// pick returns a Backend for a new connection, and those to try after it.
func (s *state) pick(key registry.FrontendKey) balancer.Choice {
	p, ok := s.pickers.Load(key)
	if !ok {
		return balancer.Choice{}
	}
	c := p.(*balancer.Picker).Pick(self, int64(time.Since(s.started)))
	c.Release(0) // nobody sees the connection end
	return c
}

// list makes the copy what the daemon has now.
func (s *state) list(ctx context.Context) error {
	var objects []registry.Object
	for _, k := range kinds {
		list, err := s.client.List(ctx, k, "", client.ListOptions{})
		if err != nil {
			return fmt.Errorf("list %s: %w", k.Resource, err)
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
				s.pickers.Delete(f.FrontendKey)
			}
		}
	}
}

// serve gives a Frontend its Backends.
func (s *state) serve(f *registry.Frontend) {
	p, _ := s.pickers.LoadOrStore(f.FrontendKey, new(balancer.Picker))
	if f.ClientAddress != "" {
		// The program would have to say who it is before anything else.
		without := *f
		without.Backends = nil
		f = &without
	}
	p.(*balancer.Picker).Update(f)
}

// update looks at all Frontends.
func (s *state) update() {
	present := make(map[registry.FrontendKey]bool)
	for f := range s.store.Snapshot().Frontends() {
		present[f.FrontendKey] = true
		s.serve(f)
	}
	s.pickers.Range(func(key, _ any) bool {
		if !present[key.(registry.FrontendKey)] {
			s.pickers.Delete(key)
		}
		return true
	})
}

// Between two tries to reach a daemon that has gone.
const (
	minRetry = 50 * time.Millisecond
	maxRetry = time.Second
)

// follow takes changes over until ctx is done. While the daemon is away the
// copy stays as it is; once it is back everything is listed again.
func (s *state) follow(ctx context.Context) {
	for wait := minRetry; ; {
		s.watch(ctx)
		for {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return
			}
			if s.list(ctx) == nil {
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
