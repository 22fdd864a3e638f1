package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"usher/proxy"
	"usher/registry"
)

// Conditions of a Service, each set only where there is something to say.
const (
	// ConditionListening says whether this node listens at every address the
	// Service has.
	ConditionListening = "usher.internal/Listening"

	// ConditionSupported says whether everything that the Service asks for is
	// done.
	ConditionSupported = "usher.internal/Supported"
)

// A reporter tells users what is wrong with their objects: as conditions of
// Services and as Events.
type reporter struct {
	d    *daemon
	wake chan struct{} // has an element while changed is not empty

	// write writes the status of a Service.
	write func(context.Context, *corev1.Service) error

	mu      sync.Mutex                                    // guards the following
	failed  map[types.NamespacedName]map[listenPort]error // where listening fails
	changed map[types.NamespacedName]bool                 // Services to look at again
}

// A listenPort is where listening can fail. TCP and UDP are apart: either may
// be in use without the other.
type listenPort struct {
	netip.AddrPort
	protocol corev1.Protocol // "": of a nameserver, which has both
}

func newReporter(d *daemon) *reporter {
	return &reporter{
		d: d, wake: make(chan struct{}, 1),
		write: func(ctx context.Context, svc *corev1.Service) error {
			_, err := d.writer.Update(ctx, svc, "status")
			return err
		},
		failed:  make(map[types.NamespacedName]map[listenPort]error),
		changed: make(map[types.NamespacedName]bool),
	}
}

// listening takes a report of the proxy. What goes wrong in a network namespace
// of a program's own, which may be about to end, is nothing of the Service.
func (r *reporter) listening(s proxy.Status) {
	if s.Address.Sockets != nil {
		return
	}
	r.note(s.Frontend.Service, listenPort{s.Address.AddrPort, s.Frontend.Protocol}, s.Err)
}

// nameserver takes a report of a View's nameserver.
func (r *reporter) nameserver(addr netip.AddrPort, err error) {
	r.note(types.NamespacedName{Namespace: metav1.NamespaceSystem, Name: "kube-dns"}, listenPort{AddrPort: addr}, err)
}

func (r *reporter) note(service types.NamespacedName, addr listenPort, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && r.failed[service][addr] == nil {
		return // it never failed
	}
	if r.failed[service] == nil {
		r.failed[service] = make(map[listenPort]error)
	}
	if err == nil {
		delete(r.failed[service], addr)
	} else {
		r.failed[service][addr] = err
	}
	r.changed[service] = true
	r.signal()
}

func (r *reporter) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run writes conditions and Events until ctx is done. A Service also gets its
// condition when its Frontends change: a port may have moved.
func (r *reporter) run(ctx context.Context) error {
	select {
	case <-r.d.proxy.Synced():
	case <-ctx.Done():
		return nil
	}
	var followed sync.WaitGroup
	defer followed.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	followed.Go(func() { r.follow(ctx) })
	var again <-chan time.Time
	for wait := minRetry; ; {
		select {
		case <-r.wake:
		case <-again:
		case <-ctx.Done():
			return nil
		}
		// What is wrong at several addresses of a Service is reported one by
		// one, and is worth one Event.
		if err := r.d.proxy.WaitRevision(ctx, r.d.store.Snapshot().Revision()); err != nil {
			return nil
		}
		if again = nil; r.updateAll(ctx) {
			wait = minRetry
		} else {
			again, wait = time.After(wait), min(2*wait, maxRetry)
		}
	}
}

// updateAll writes the conditions of the Services to look at. It returns false
// when some are left to be written.
func (r *reporter) updateAll(ctx context.Context) bool {
	r.mu.Lock()
	changed := r.changed
	r.changed = make(map[types.NamespacedName]bool)
	r.mu.Unlock()
	ok := true
	for service := range changed {
		if err := r.update(ctx, service); err != nil && ctx.Err() == nil {
			r.d.Log.Warn("write condition", "service", service, "error", err)
			r.mu.Lock()
			r.changed[service] = true
			r.mu.Unlock()
			ok = false
		}
	}
	return ok
}

// follow marks the Services whose Frontends or wishes change.
func (r *reporter) follow(ctx context.Context) {
	for ctx.Err() == nil {
		snapshot := r.d.store.Snapshot()
		for f := range snapshot.Frontends() {
			r.markMoved(f)
		}
		for svc := range snapshot.Services("") {
			r.markUnsupported(svc)
		}
		w := r.d.store.WatchFrom(snapshot)
		for {
			commits, err := w.Next(ctx)
			if err != nil {
				break
			}
			for _, c := range commits {
				r.markCommit(&c)
			}
		}
	}
}

func (r *reporter) markCommit(c *registry.Commit) {
	for _, change := range c.Frontends {
		// A change of Backends alone moves no port.
		if change.New != nil && change.Old == nil {
			r.markMoved(change.New)
		}
	}
	for _, change := range c.Objects {
		if svc, ok := change.New.(*corev1.Service); ok {
			r.markUnsupported(svc)
		}
	}
}

// markMoved notes the Service of a Frontend that has a moved port.
func (r *reporter) markMoved(f *registry.Frontend) {
	if len(r.d.moved(f.FrontendKey)) > 0 {
		r.mark(f.Service)
	}
}

// markUnsupported notes a Service that asks for what is not done, or did.
func (r *reporter) markUnsupported(svc *corev1.Service) {
	if len(r.unsupported(svc)) > 0 || meta.FindStatusCondition(svc.Status.Conditions, ConditionSupported) != nil {
		r.mark(registry.ServiceName(svc))
	}
}

func (r *reporter) mark(service types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed[service] = true
	r.signal()
}

// moved says where a Frontend listens on another port than its own.
func (d *daemon) moved(key registry.FrontendKey) []string {
	var list []string
	for _, v := range d.allViews() {
		if addr, moved, ok := v.Listen(key.AddrPort()); ok && moved {
			list = append(list, fmt.Sprintf("port %d is %s on loopback", key.Port, addr))
		}
	}
	return list
}

// unreadable takes a report of the mirror: a value in etcd that is not an
// object, or with a nil error that it has become one.
func (r *reporter) unreadable(key string, err error) {
	if err == nil {
		return
	}
	about := corev1.ObjectReference{Kind: registry.Nodes.Kind, APIVersion: "v1", Name: r.d.Config.NodeName}
	if k, ok := registry.ParseKey(key); ok {
		about = corev1.ObjectReference{
			Kind: k.Kind.Kind, APIVersion: k.Kind.GroupVersion().String(), Namespace: k.Namespace, Name: k.Name,
		}
	}
	r.d.Log.Warn("skipped an unreadable value", "key", key, "error", err)
	r.d.events.Event(about, corev1.EventTypeWarning, "Unreadable", clean(err.Error()))
}

// clean makes foreign text fit for an Event: it may hold anything.
func clean(s string) string {
	const longest = 1024 // of an Event's message
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return s[:min(len(s), longest)]
}
