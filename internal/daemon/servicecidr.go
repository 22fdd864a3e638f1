package daemon

import (
	"context"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
