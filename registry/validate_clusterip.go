package registry

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateClusterIPs checks clusterIP, clusterIPs, ipFamilies and
// ipFamilyPolicy of a Service that may have them.
func validateClusterIPs(svc *corev1.Service) field.ErrorList {
	spec := &svc.Spec
	path := field.NewPath("spec")
	at := path.Child("clusterIPs")
	var errs field.ErrorList
	switch {
	case spec.ClusterIP == "" && len(spec.ClusterIPs) > 0:
		errs = append(errs, field.Invalid(at, spec.ClusterIPs, "must be empty when `clusterIP` is not specified"))
	case spec.ClusterIP != "" && len(spec.ClusterIPs) == 0:
		errs = append(errs, field.Required(at, ""))
	case spec.ClusterIP != "" && spec.ClusterIPs[0] != spec.ClusterIP:
		errs = append(errs, field.Invalid(at, spec.ClusterIPs, "first value must match `clusterIP`"))
	}
	errs = append(errs, validateFamilies(spec, path)...)

	valid := true
	for i, ip := range spec.ClusterIPs {
		if i == 0 && ip == corev1.ClusterIPNone {
			if len(spec.ClusterIPs) > 1 {
				valid = false
				errs = append(errs, field.Invalid(at, spec.ClusterIPs, "'None' must be the first and only value"))
			}
			continue
		}
		if bad := validation.IsValidIPForLegacyField(at.Index(i), ip, true, nil); len(bad) > 0 {
			valid = false
			errs = append(errs, bad...)
		}
	}
	if len(spec.ClusterIPs) > 2 {
		errs = append(errs, field.Invalid(at, spec.ClusterIPs, "may only hold up to 2 values"))
	}
	if !valid || isHeadless(svc) {
		return errs
	}
	families := make(map[corev1.IPFamily]bool)
	for _, ip := range spec.ClusterIPs {
		families[familyOf(ip)] = true
	}
	if len(spec.ClusterIPs) > 1 && len(families) < 2 {
		errs = append(errs, field.Invalid(at, spec.ClusterIPs, "may specify no more than one IP for each IP family"))
	}
	for i := range min(len(spec.ClusterIPs), len(spec.IPFamilies)) {
		if want := spec.IPFamilies[i]; familyOf(spec.ClusterIPs[i]) != want {
			errs = append(errs, field.Invalid(at.Index(i), spec.ClusterIPs[i],
				fmt.Sprintf("expected an %s value as indicated by `ipFamilies[%d]`", want, i)))
		}
	}
	return errs
}

func validateFamilies(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	seen := make(map[corev1.IPFamily]bool)
	for i, family := range spec.IPFamilies {
		at := path.Child("ipFamilies").Index(i)
		errs = append(errs, oneOf(at, family, corev1.IPv4Protocol, corev1.IPv6Protocol)...)
		if seen[family] {
			errs = append(errs, field.Duplicate(at, family))
		}
		seen[family] = true
	}
	if p := spec.IPFamilyPolicy; p != nil {
		errs = append(errs, oneOf(path.Child("ipFamilyPolicy"), *p, corev1.IPFamilyPolicySingleStack,
			corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack)...)
	}
	return errs
}

// familyOf returns the family of an IP address, or "".
func familyOf(ip string) corev1.IPFamily {
	addr, ok := parseAddr(ip)
	switch {
	case !ok:
		return ""
	case addr.Is4():
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// validateServiceUpdate checks that what a Service was given for life stays:
// its ClusterIPs, the families of them, and its load balancer class. A change
// to or from ExternalName starts anew.
func validateServiceUpdate(svc, old *corev1.Service) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer && old.Spec.Type == corev1.ServiceTypeLoadBalancer &&
		deref(svc.Spec.LoadBalancerClass, "") != deref(old.Spec.LoadBalancerClass, "") {
		errs = append(errs, field.Invalid(path.Child("loadBalancerClass"), svc.Spec.LoadBalancerClass, "may not change once set"))
	}
	if NeedsHealthCheck(svc) && NeedsHealthCheck(old) && svc.Spec.HealthCheckNodePort != old.Spec.HealthCheckNodePort {
		errs = append(errs, field.Forbidden(path.Child("healthCheckNodePort"), apivalidation.FieldImmutableErrorMsg))
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName || old.Spec.Type == corev1.ServiceTypeExternalName ||
		isHeadless(svc) && isHeadless(old) {
		return errs
	}
	errs = append(errs, keepsFirst(path.Child("clusterIPs"), "clusterIP", svc.Spec.ClusterIPs, old.Spec.ClusterIPs, svc.Spec.IPFamilyPolicy)...)
	if isHeadless(svc) == isHeadless(old) {
		errs = append(errs, keepsFirst(path.Child("ipFamilies"), "ipFamily", svc.Spec.IPFamilies, old.Spec.IPFamilies, svc.Spec.IPFamilyPolicy)...)
	}
	return errs
}

// keepsFirst checks an update of a list of one or two values: those that both
// lists have stay, and the second may be added, or released by a SingleStack
// policy.
func keepsFirst[T comparable](path *field.Path, what string, now, was []T, policy *corev1.IPFamilyPolicy) field.ErrorList {
	var errs field.ErrorList
	if len(now) == 0 && len(was) > 0 {
		return append(errs, field.Invalid(path.Index(0), now, "primary "+what+" can not be unset"))
	}
	for i := range min(len(now), len(was)) {
		if now[i] != was[i] {
			errs = append(errs, field.Invalid(path.Index(i), now, "may not change once set"))
		}
	}
	if len(now) == 1 && len(was) == 2 && deref(policy, "") != corev1.IPFamilyPolicySingleStack {
		errs = append(errs, field.Invalid(field.NewPath("spec", "ipFamilyPolicy"), policy,
			"must be set to 'SingleStack' when releasing the secondary "+what))
	}
	return errs
}
