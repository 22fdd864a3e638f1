package daemon

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/api"
	"usher/registry"
)

// serviceCIDR describes the configured ranges.
func (d *daemon) serviceCIDR() *networkingv1.ServiceCIDR {
	c := registry.ServiceCIDRs.New().(*networkingv1.ServiceCIDR)
	c.Name = registry.DefaultServiceCIDR
	for _, prefix := range d.Config.ServiceCIDRs {
		c.Spec.CIDRs = append(c.Spec.CIDRs, prefix.String())
	}
	return c
}

// ensureServiceCIDR makes the object that describes the configured ranges say
// what they are now. A second family is added to it; otherwise it is made anew,
// and one that is still needed stays until it is not.
func (d *daemon) ensureServiceCIDR(ctx context.Context, want, old *networkingv1.ServiceCIDR) error {
	now, was := want.Spec.CIDRs, old.Spec.CIDRs
	switch {
	case slices.Equal(now, was):
		return nil
	case len(was) == 1 && len(now) == 2 && now[0] == was[0]:
		_, err := d.writer.Update(ctx, want, "")
		return err
	}
	_, gone, err := d.writer.Delete(ctx, registry.KeyOf(old), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) || err == nil && !gone {
		return err
	}
	_, err = d.writer.Create(ctx, want)
	return err
}

// serviceCIDRs returns the ranges of all ServiceCIDRs, also of those that are
// being deleted and still needed.
func serviceCIDRs(snapshot *registry.Snapshot) iter.Seq2[netip.Prefix, registry.Object] {
	return func(yield func(netip.Prefix, registry.Object) bool) {
		for obj := range snapshot.List(registry.ServiceCIDRs, "") {
			for _, cidr := range obj.(*networkingv1.ServiceCIDR).Spec.CIDRs {
				if p, err := netip.ParsePrefix(cidr); err == nil && !yield(p.Masked(), obj) {
					return
				}
			}
		}
	}
}

// reasonNotVisible is that of an Event of a ServiceCIDR.
const reasonNotVisible = "NotVisible"

// show makes the ranges of all ServiceCIDRs visible in the Views. What it
// returns takes back those that are gone; it is nil when all is as it was. A
// range that a View cannot show is reported each time: it is tried again when a
// ServiceCIDR changes, and at the next start.
func (d *daemon) show(snapshot *registry.Snapshot) (closed func()) {
	var ranges []netip.Prefix
	holders := make(map[netip.Prefix]registry.Object)
	for prefix, obj := range serviceCIDRs(snapshot) {
		ranges = append(ranges, prefix)
		holders[prefix] = obj
	}
	var releases []func() error
	for _, v := range d.views {
		before := v.CIDR()
		release, failed := v.Show(ranges)
		if v.CIDR() != before {
			releases = append(releases, release)
		}
		for p, err := range failed {
			message := fmt.Sprintf("Services with an address of %s cannot be reached in view %s: %v", p, v.Name(), err)
			d.Log.Warn("a range is not visible", "range", p, "view", v.Name(), "error", err)
			d.events.Event(api.Reference(holders[p]), corev1.EventTypeWarning, reasonNotVisible, message)
		}
	}
	if len(releases) == 0 {
		return nil
	}
	return func() {
		for _, release := range releases {
			if err := release(); err != nil {
				d.Log.Warn("take back a range", "error", err)
			}
		}
	}
}
