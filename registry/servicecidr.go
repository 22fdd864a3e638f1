package registry

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// DefaultServiceCIDR is the name of the ServiceCIDR that has the configured
// ranges.
const DefaultServiceCIDR = "kubernetes"

// ServiceRanges returns the ranges that the ServiceCIDRs of the registry have
// of a family, ordered by their names, but those that are being deleted.
func (s *Snapshot) ServiceRanges(family corev1.IPFamily) []IPRange {
	var ranges []IPRange
	for obj := range s.List(ServiceCIDRs, "") {
		if obj.GetDeletionTimestamp() != nil {
			continue
		}
		for _, cidr := range obj.(*networkingv1.ServiceCIDR).Spec.CIDRs {
			if p, err := netip.ParsePrefix(cidr); err == nil && familyOf(p.Addr().String()) == family {
				ranges = append(ranges, NewIPRange(p))
			}
		}
	}
	return ranges
}

func validateServiceCIDR(c *networkingv1.ServiceCIDR) field.ErrorList {
	path := field.NewPath("spec", "cidrs")
	cidrs := c.Spec.CIDRs
	switch {
	case len(cidrs) == 0:
		return field.ErrorList{field.Required(path, "at least one CIDR required")}
	case len(cidrs) > 2:
		return field.ErrorList{field.Invalid(path, c.Spec, "may only hold up to 2 values")}
	}
	var errs field.ErrorList
	families := make(map[bool]bool) // whether IPv4
	for i, cidr := range cidrs {
		errs = append(errs, validation.IsValidCIDR(path.Index(i), cidr)...)
		p, err := netip.ParsePrefix(cidr)
		if err == nil && families[p.Addr().Is4()] {
			errs = append(errs, field.Invalid(path, cidrs,
				"may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"))
		}
		families[p.Addr().Is4()] = err == nil
	}
	return errs
}

// validateServiceCIDRUpdate checks that the ranges stay. A second family may
// be added.
func validateServiceCIDRUpdate(c, old *networkingv1.ServiceCIDR) field.ErrorList {
	path := field.NewPath("spec", "cidrs")
	now, was := c.Spec.CIDRs, old.Spec.CIDRs
	if len(now) != len(was) && (len(was) != 1 || len(now) != 2) {
		return field.ErrorList{field.Invalid(path, now, apivalidation.FieldImmutableErrorMsg)}
	}
	var errs field.ErrorList
	for i := range was {
		if now[i] != was[i] {
			errs = append(errs, field.Invalid(path.Index(i), now[i], apivalidation.FieldImmutableErrorMsg))
		}
	}
	return errs
}
