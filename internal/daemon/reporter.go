package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"usher/internal/api"
	"usher/proxy"
	"usher/registry"
)

// ConditionListening is the condition of a Service that says whether this node
// listens at every address the Service has. It is set only where there is
// something to say.
const ConditionListening = "usher.internal/Listening"

// A reporter tells users what is wrong with their objects: as conditions of
// Services and as Events.
type reporter struct {
	d    *daemon
	wake chan struct{} // has an element while dirty is not empty

	mu      sync.Mutex                                        // guards the following
	failed  map[types.NamespacedName]map[netip.AddrPort]error // where listening fails
	changed map[types.NamespacedName]bool                     // Services to look at again
}

func newReporter(d *daemon) *reporter {
	return &reporter{
		d: d, wake: make(chan struct{}, 1),
		failed:  make(map[types.NamespacedName]map[netip.AddrPort]error),
		changed: make(map[types.NamespacedName]bool),
	}
}

// listening takes a report of the proxy.
func (r *reporter) listening(s proxy.Status) {
	r.note(s.Frontend.Service, s.Address.AddrPort, s.Err)
}

// nameserver takes a report of a View's nameserver.
func (r *reporter) nameserver(addr netip.AddrPort, err error) {
	r.note(types.NamespacedName{Namespace: metav1.NamespaceSystem, Name: "kube-dns"}, addr, err)
}

func (r *reporter) note(service types.NamespacedName, addr netip.AddrPort, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && r.failed[service][addr] == nil {
		return // it never failed
	}
	if r.failed[service] == nil {
		r.failed[service] = make(map[netip.AddrPort]error)
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
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return nil
		}
		// What is wrong at several addresses of a Service is reported one by
		// one, and is worth one Event.
		if err := r.d.proxy.WaitRevision(ctx, r.d.store.Snapshot().Revision()); err != nil {
			return nil
		}
		r.mu.Lock()
		changed := r.changed
		r.changed = make(map[types.NamespacedName]bool)
		r.mu.Unlock()
		for service := range changed {
			if err := r.update(ctx, service); err != nil && ctx.Err() == nil {
				r.d.Log.Warn("write condition", "service", service, "error", err)
			}
		}
	}
}

// follow marks the Services whose Frontends change.
func (r *reporter) follow(ctx context.Context) {
	for ctx.Err() == nil {
		snapshot := r.d.store.Snapshot()
		r.mark(func(yield func(*registry.Frontend) bool) {
			for f := range snapshot.Frontends() {
				if !yield(f) {
					return
				}
			}
		})
		w := r.d.store.WatchFrom(snapshot)
		for {
			commits, err := w.Next(ctx)
			if err != nil {
				break
			}
			r.mark(func(yield func(*registry.Frontend) bool) {
				for _, c := range commits {
					for _, change := range c.Frontends {
						// A change of Backends alone moves no port.
						if change.New != nil && change.Old == nil && !yield(change.New) {
							return
						}
					}
				}
			})
		}
	}
}

// mark notes the Services of Frontends with a moved port.
func (r *reporter) mark(frontends func(func(*registry.Frontend) bool)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for f := range frontends {
		if len(r.d.moved(f.FrontendKey)) > 0 {
			r.changed[f.Service] = true
			r.signal()
		}
	}
}

// moved says where a Frontend listens on another port than its own.
func (d *daemon) moved(key registry.FrontendKey) []string {
	var list []string
	for _, v := range d.views {
		if addr, moved, ok := v.Listen(key.AddrPort()); ok && moved {
			list = append(list, fmt.Sprintf("port %d is %s on loopback", key.Port, addr))
		}
	}
	return list
}

// update writes the condition of a Service if it is another one than it has.
func (r *reporter) update(ctx context.Context, name types.NamespacedName) error {
	svc := r.d.store.Snapshot().Service(name.Namespace, name.Name)
	if svc == nil {
		r.mu.Lock()
		delete(r.failed, name)
		r.mu.Unlock()
		return nil
	}
	want := r.condition(name)
	i := slices.IndexFunc(svc.Status.Conditions, func(c metav1.Condition) bool { return c.Type == ConditionListening })
	if want == nil || i >= 0 && same(&svc.Status.Conditions[i], want) {
		return nil
	}
	svc = svc.DeepCopy()
	svc.ResourceVersion = ""
	want.ObservedGeneration = svc.Generation
	if i < 0 {
		svc.Status.Conditions = append(svc.Status.Conditions, *want)
	} else {
		if svc.Status.Conditions[i].Status == want.Status {
			want.LastTransitionTime = svc.Status.Conditions[i].LastTransitionTime
		}
		svc.Status.Conditions[i] = *want
	}
	if _, err := r.d.writer.Update(ctx, svc, "status"); err != nil {
		return err
	}
	if want.Reason != reasonPortMoved {
		eventType := corev1.EventTypeNormal
		if want.Status == metav1.ConditionFalse {
			eventType = corev1.EventTypeWarning
		}
		r.d.events.Event(api.Reference(svc), eventType, want.Reason, want.Message)
	}
	return nil
}

func same(a, b *metav1.Condition) bool {
	return a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message
}

// Reasons of ConditionListening and of the Events that go with it.
const (
	reasonListening = "Listening"
	reasonPortMoved = "PortMoved"
	reasonPortInUse = "PortInUse"
	reasonFailed    = "ListenFailed"
)

// condition returns the condition that a Service should have, or nil when
// there was never anything to say.
func (r *reporter) condition(name types.NamespacedName) *metav1.Condition {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &metav1.Condition{Type: ConditionListening, Status: metav1.ConditionTrue, Reason: reasonListening, LastTransitionTime: metav1.Now()}
	failed, known := r.failed[name]
	if len(failed) > 0 {
		var messages []string
		c.Status, c.Reason = metav1.ConditionFalse, reasonFailed
		for _, addr := range slices.SortedFunc(maps.Keys(failed), netip.AddrPort.Compare) {
			messages = append(messages, explain(addr, failed[addr]))
			if errors.Is(failed[addr], syscall.EADDRINUSE) {
				c.Reason = reasonPortInUse
			}
		}
		c.Message = strings.Join(messages, "; ")
		if c.Reason == reasonPortInUse {
			c.Message += "; let the other program listen on 127.0.0.1 instead, or give the Service another port; usher tries again"
		}
		return c
	}
	var moved []string
	for f := range r.d.store.Snapshot().ServiceFrontends(name.Namespace, name.Name) {
		moved = append(moved, r.d.moved(f.FrontendKey)...)
	}
	switch {
	case len(moved) > 0:
		c.Reason = reasonPortMoved
		c.Message = strings.Join(moved, "; ") + ": ports under 1024 need net.ipv4.ip_unprivileged_port_start or CAP_NET_BIND_SERVICE"
		return c
	case known:
		c.Message = "listening at every address"
		return c
	}
	return nil
}

// explain says what a failure to listen means.
func explain(addr netip.AddrPort, err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Sprintf("cannot listen on %s: another program listens on port %d of every address", addr, addr.Port())
	case errors.Is(err, syscall.EACCES):
		return fmt.Sprintf("cannot listen on %s: no permission for ports under 1024", addr)
	}
	return fmt.Sprintf("cannot listen on %s: %v", addr, err)
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
