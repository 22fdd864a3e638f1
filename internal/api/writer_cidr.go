package api

import (
	"context"
	"net/netip"
	"slices"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/registry"
)

// readyCIDR says that addresses are given from a ServiceCIDR: they are from
// the moment that it exists.
func readyCIDR() networkingv1.ServiceCIDRStatus {
	return networkingv1.ServiceCIDRStatus{Conditions: []metav1.Condition{{
		Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue, Reason: "Ready",
		Message: "Kubernetes Service CIDR is ready", LastTransitionTime: metav1.Time{Time: time.Now().UTC().Truncate(time.Second)},
	}}}
}

// needed reports whether there are addresses of c that are in no other range.
func (w *Writer) needed(c *networkingv1.ServiceCIDR) bool {
	snapshot := w.Store.Snapshot()
	others := slices.Clone(w.ServiceCIDRs)
	for _, family := range w.families {
		for _, r := range snapshot.ServiceRanges(family) {
			if !slices.Contains(c.Spec.CIDRs, r.Prefix().String()) {
				others = append(others, r)
			}
		}
	}
	var own []registry.IPRange
	for _, cidr := range c.Spec.CIDRs {
		if p, err := netip.ParsePrefix(cidr); err == nil {
			own = append(own, registry.NewIPRange(p))
		}
	}
	for obj := range snapshot.List(registry.IPAddresses, "") {
		ip, err := netip.ParseAddr(obj.GetName())
		contains := func(r registry.IPRange) bool { return r.Contains(ip) }
		if err == nil && slices.ContainsFunc(own, contains) && !slices.ContainsFunc(others, contains) {
			return true
		}
	}
	return false
}

// retire ends the giving of addresses from c, which is to be deleted and still
// needed: it goes when the last of its addresses is released.
func (w *Writer) retire(ctx context.Context, c *networkingv1.ServiceCIDR, revision int64) (registry.Object, error) {
	if c.DeletionTimestamp != nil {
		return c, nil
	}
	c.Status.Conditions = []metav1.Condition{{
		Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionFalse, Reason: networkingv1.ServiceCIDRReasonTerminating,
		Message:            "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
		LastTransitionTime: metav1.Time{Time: time.Now().UTC().Truncate(time.Second)},
	}}
	return w.terminate(ctx, c, revision, 0)
}
