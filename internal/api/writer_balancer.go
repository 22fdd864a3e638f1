package api

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"usher/registry"
	"usher/registry/etcd"
)

// LoadBalancerClass is usher's own. A Service that names another one is some
// other program's to give an address to.
const LoadBalancerClass = registry.Group + "/pool"

// balances reports whether svc is to have an address of the pool.
func (w *Writer) balances(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && w.Pool.Prefix().IsValid() &&
		(svc.Spec.LoadBalancerClass == nil || *svc.Spec.LoadBalancerClass == LoadBalancerClass) &&
		slices.Contains(svc.Spec.IPFamilies, familyOf(w.Pool.Prefix().Addr().String()))
}

// balancerIP returns the address of the pool that svc has, or none.
func (w *Writer) balancerIP(svc *corev1.Service) netip.Addr {
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if addr, err := netip.ParseAddr(in.IP); err == nil && w.Pool.Contains(addr) {
			return addr
		}
	}
	return netip.Addr{}
}

// LacksBalancer reports whether svc is to have an address of the pool, and has
// none, or another one than it asks for. What somebody else gave it stays; an
// address on loopback is out of a pool that there was before.
func (w *Writer) LacksBalancer(svc *corev1.Service) bool {
	if !w.balances(svc) {
		return false
	}
	if has := w.balancerIP(svc); has.IsValid() {
		return svc.Spec.LoadBalancerIP != "" && svc.Spec.LoadBalancerIP != has.String()
	}
	return !slices.ContainsFunc(svc.Status.LoadBalancer.Ingress, func(in corev1.LoadBalancerIngress) bool {
		addr, err := netip.ParseAddr(in.IP)
		return err != nil || !addr.IsLoopback()
	})
}

// wantedBalancer returns the address of a load balancer that svc has yet to
// get. One that is not to be had is waited for: the Service works without.
func (w *Writer) wantedBalancer(svc *corev1.Service) []*allocation {
	if w.dryRun || !w.LacksBalancer(svc) {
		return nil
	}
	// What it has and does not want any more is released by its absence.
	svc.Status.LoadBalancer.Ingress = nil
	return []*allocation{{
		candidates: w.balancerAddresses(svc),
		give: func(key registry.Key) {
			svc.Status.LoadBalancer.Ingress = nil
			if key.Name != "" {
				svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: key.Name, IPMode: new(corev1.LoadBalancerIPModeVIP)}}
			}
		},
	}}
}

func (w *Writer) balancerAddresses(svc *corev1.Service) iter.Seq[registry.Key] {
	if svc.Spec.LoadBalancerIP == "" {
		return w.addresses(svc, w.Pool)
	}
	return func(yield func(registry.Key) bool) {
		if addr, err := netip.ParseAddr(svc.Spec.LoadBalancerIP); err == nil && w.Pool.Contains(addr) {
			yield(claimKey(addr))
		}
	}
}

// A NoAddressError says why a Service cannot have the address of a load
// balancer that it is to have.
type NoAddressError struct{ why string }

func (e *NoAddressError) Error() string { return e.why }

// Balance gives a Service the address of a load balancer that it lacks. A
// *NoAddressError means that it has to wait for one.
func (w *Writer) Balance(ctx context.Context, key registry.Key) error {
	for range attempts {
		err := w.balanceOnce(ctx, key)
		if !errors.As(err, new(*etcd.ConflictError)) {
			return err
		}
	}
	return statusError(&etcd.ConflictError{Key: key}, key)
}

func (w *Writer) balanceOnce(ctx context.Context, key registry.Key) error {
	old, revision, err := w.read(ctx, key)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	svc := old.DeepCopyObject().(*corev1.Service)
	if !w.LacksBalancer(svc) {
		return nil
	}
	snapshot := w.Store.Snapshot()
	if !hasAny(w.balancerAddresses(svc), func(key registry.Key) bool { return snapshot.Get(key) == nil }) && !w.balancerIP(svc).IsValid() {
		return w.noBalancer(svc)
	}
	if _, err := w.replace(ctx, svc, old, revision); err != nil {
		return err
	}
	if w.LacksBalancer(svc) {
		return w.noBalancer(svc)
	}
	return nil
}

// noBalancer says why svc has no address of the pool.
func (w *Writer) noBalancer(svc *corev1.Service) error {
	say := func(format string, args ...any) error { return &NoAddressError{fmt.Sprintf(format, args...)} }
	asked, err := netip.ParseAddr(svc.Spec.LoadBalancerIP)
	switch {
	case svc.Spec.LoadBalancerIP == "":
		return say("no address of %s is free", w.Pool.Prefix())
	case err != nil || !w.Pool.Contains(asked):
		return say("loadBalancerIP %s is not an address of %s", svc.Spec.LoadBalancerIP, w.Pool.Prefix())
	}
	return say("loadBalancerIP %s is in use", asked)
}

func hasAny[T any](list iter.Seq[T], ok func(T) bool) bool {
	for v := range list {
		if ok(v) {
			return true
		}
	}
	return false
}
