package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"usher/internal/api"
	"usher/registry"
)

// Reasons of conditions and of the Events that go with them.
const (
	reasonListening    = "Listening"
	reasonPortMoved    = "PortMoved"
	reasonPortInUse    = "PortInUse"
	reasonFailed       = "ListenFailed"
	reasonSupported    = "Supported"
	reasonNotSupported = "NotSupported"
)

// update writes the conditions of a Service if they are others than it has.
func (r *reporter) update(ctx context.Context, name types.NamespacedName) error {
	svc := r.d.store.Snapshot().Service(name.Namespace, name.Name)
	if svc == nil {
		r.mu.Lock()
		delete(r.failed, name)
		r.mu.Unlock()
		return nil
	}
	svc = svc.DeepCopy()
	svc.ResourceVersion = ""
	var news []*metav1.Condition
	for _, want := range []*metav1.Condition{r.listens(name), r.supports(svc)} {
		if want == nil {
			continue
		}
		is := meta.FindStatusCondition(svc.Status.Conditions, want.Type)
		if is != nil && is.Status == want.Status && is.Reason == want.Reason && is.Message == want.Message {
			continue
		}
		want.ObservedGeneration = svc.Generation
		meta.SetStatusCondition(&svc.Status.Conditions, *want)
		news = append(news, want)
	}
	if len(news) == 0 {
		return nil
	}
	if err := r.write(ctx, svc); err != nil {
		return err
	}
	for _, c := range news {
		eventType := corev1.EventTypeNormal
		if c.Status == metav1.ConditionFalse {
			eventType = corev1.EventTypeWarning
		}
		if c.Reason != reasonPortMoved && c.Reason != reasonSupported {
			r.d.events.Event(api.Reference(svc), eventType, c.Reason, c.Message)
		}
	}
	return nil
}

// supports returns the ConditionSupported that svc should have, or nil when
// there was never anything to say.
func (r *reporter) supports(svc *corev1.Service) *metav1.Condition {
	c := &metav1.Condition{Type: ConditionSupported, Status: metav1.ConditionTrue, Reason: reasonSupported}
	if missing := r.unsupported(svc); len(missing) > 0 {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, reasonNotSupported, strings.Join(missing, "; ")
		return c
	}
	if meta.FindStatusCondition(svc.Status.Conditions, ConditionSupported) == nil {
		return nil
	}
	return c
}

// unsupported says what svc asks for and does not get, anywhere or here.
func (r *reporter) unsupported(svc *corev1.Service) []string {
	missing := registry.Unsupported(svc)
	if r.d.transparent != nil && svc.Annotations[registry.AnnotationClientAddress] == string(registry.Transparent) {
		missing = append(missing, fmt.Sprintf(
			"backends see the address of the proxy, not that of the client: usher needs CAP_NET_ADMIN for that (%v)", r.d.transparent))
	}
	return missing
}

// listens returns the ConditionListening that a Service should have, or nil
// when there was never anything to say.
func (r *reporter) listens(name types.NamespacedName) *metav1.Condition {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &metav1.Condition{Type: ConditionListening, Status: metav1.ConditionTrue, Reason: reasonListening}
	failed, known := r.failed[name]
	if len(failed) > 0 {
		var messages []string
		wayOut := "end the other program"
		c.Status, c.Reason = metav1.ConditionFalse, reasonFailed
		for _, at := range slices.SortedFunc(maps.Keys(failed), listenPort.compare) {
			vip := r.d.isVIP(at.Addr())
			messages = append(messages, explain(at, vip, failed[at]))
			if errors.Is(failed[at], syscall.EADDRINUSE) {
				c.Reason = reasonPortInUse
			}
			if vip {
				wayOut = "let the other program listen on 127.0.0.1 instead"
			}
		}
		c.Message = strings.Join(messages, "; ")
		if c.Reason == reasonPortInUse {
			c.Message += "; " + wayOut + ", or give the Service another port; usher tries again"
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

func (p listenPort) compare(q listenPort) int {
	return cmp.Or(p.AddrPort.Compare(q.AddrPort), cmp.Compare(p.protocol, q.protocol))
}

func (p listenPort) String() string {
	if p.protocol == corev1.ProtocolUDP {
		return p.AddrPort.String() + "/UDP"
	}
	return p.AddrPort.String()
}

// explain says what a failure to listen means. A VIP is nobody else's, unless
// it is one of all addresses.
func explain(at listenPort, vip bool, err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && vip:
		return fmt.Sprintf("cannot listen on %s: another program listens on port %d of every address", at, at.Port())
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Sprintf("cannot listen on %s: another program listens there", at)
	case errors.Is(err, syscall.EACCES):
		return fmt.Sprintf("cannot listen on %s: no permission for ports under 1024", at)
	}
	return fmt.Sprintf("cannot listen on %s: %v", at, err)
}
