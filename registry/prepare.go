package registry

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// PrepareService completes svc before it is validated and written: what usher
// gave old (nil when svc is new) is carried over where svc leaves it out, so
// that the same manifest can be submitted again, what a change of type makes
// void is dropped, and the IP families are settled. families are those of the
// service CIDRs, the primary one first. The errors are what settling found.
func PrepareService(svc, old *corev1.Service, families []corev1.IPFamily) field.ErrorList {
	if old == nil {
		if svc.Spec.ClusterIP != "" && len(svc.Spec.ClusterIPs) == 0 {
			svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
		}
	} else {
		alignClusterIPs(&svc.Spec, &old.Spec)
		dropVoid(svc, old)
		carryOver(&svc.Spec, &old.Spec)
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	return settleFamilies(svc, old, families)
}

// alignClusterIPs makes clusterIPs follow clusterIP where the client changed
// only the latter.
func alignClusterIPs(spec, old *corev1.ServiceSpec) {
	same := slices.Equal(spec.ClusterIPs, old.ClusterIPs)
	switch {
	case spec.ClusterIP == old.ClusterIP:
		if len(spec.ClusterIPs) == 0 {
			spec.ClusterIPs = old.ClusterIPs
		}
	case spec.ClusterIP == "":
		if same {
			spec.ClusterIPs = nil
		}
	case same, len(spec.ClusterIPs) == 0:
		spec.ClusterIPs = []string{spec.ClusterIP}
	}
}

// bothSay reports whether a and b are set, to the same.
func bothSay[T comparable](a, b *T) bool { return a != nil && b != nil && *a == *b }

// dropVoid removes what the new type of a Service has no use for, unless the
// client changed it as well: then validation refuses it.
func dropVoid(svc, old *corev1.Service) {
	spec, was := &svc.Spec, &old.Spec
	if spec.Type == corev1.ServiceTypeExternalName && was.Type != corev1.ServiceTypeExternalName {
		if spec.ClusterIP == was.ClusterIP && slices.Equal(spec.ClusterIPs, was.ClusterIPs) {
			spec.ClusterIP, spec.ClusterIPs = "", nil
		}
		if slices.Equal(spec.IPFamilies, was.IPFamilies) {
			spec.IPFamilies = nil
		}
		if bothSay(spec.IPFamilyPolicy, was.IPFamilyPolicy) {
			spec.IPFamilyPolicy = nil
		}
	}
	if hasNodePorts(was) && !hasNodePorts(spec) && !newNodePorts(spec, was) {
		for i := range spec.Ports {
			spec.Ports[i].NodePort = 0
		}
	}
	if NeedsHealthCheck(old) && !NeedsHealthCheck(svc) && spec.HealthCheckNodePort == was.HealthCheckNodePort {
		spec.HealthCheckNodePort = 0
	}
	if was.Type == corev1.ServiceTypeLoadBalancer && spec.Type != corev1.ServiceTypeLoadBalancer {
		if bothSay(spec.AllocateLoadBalancerNodePorts, was.AllocateLoadBalancerNodePorts) {
			spec.AllocateLoadBalancerNodePorts = nil
		}
		if bothSay(spec.LoadBalancerClass, was.LoadBalancerClass) {
			spec.LoadBalancerClass = nil
		}
	}
	if externallyAccessible(old) && !externallyAccessible(svc) && spec.ExternalTrafficPolicy == was.ExternalTrafficPolicy {
		spec.ExternalTrafficPolicy = ""
	}
	if spec.Type != corev1.ServiceTypeLoadBalancer {
		svc.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	}
}

// newNodePorts reports whether spec has a node port that was has not.
func newNodePorts(spec, was *corev1.ServiceSpec) bool {
	return slices.ContainsFunc(spec.Ports, func(p corev1.ServicePort) bool {
		return p.NodePort != 0 &&
			!slices.ContainsFunc(was.Ports, func(q corev1.ServicePort) bool { return q.NodePort == p.NodePort })
	})
}

func hasNodePorts(spec *corev1.ServiceSpec) bool {
	return spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer
}

// carryOver takes over the values that the API gave a Service and that the
// client left out.
func carryOver(spec, old *corev1.ServiceSpec) {
	if spec.Type != corev1.ServiceTypeExternalName && old.Type != corev1.ServiceTypeExternalName &&
		spec.ClusterIP == "" && len(spec.ClusterIPs) == 0 {
		spec.ClusterIP, spec.ClusterIPs = old.ClusterIP, old.ClusterIPs
	}
	if hasNodePorts(spec) && hasNodePorts(old) {
		for i := range spec.Ports {
			p := &spec.Ports[i]
			for _, was := range old.Ports {
				taken := slices.ContainsFunc(spec.Ports, func(q corev1.ServicePort) bool { return q.NodePort == was.NodePort })
				if p.NodePort == 0 && p.Name == was.Name && !taken {
					p.NodePort = was.NodePort
				}
			}
		}
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer && spec.HealthCheckNodePort == 0 &&
		spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		spec.HealthCheckNodePort = old.HealthCheckNodePort
	}
}

// settleFamilies fills in ipFamilyPolicy and ipFamilies, and reports where
// they ask for what is not configured.
func settleFamilies(svc, old *corev1.Service, families []corev1.IPFamily) field.ErrorList {
	spec, path := &svc.Spec, field.NewPath("spec")
	anyFamily := isHeadless(svc) && len(spec.Selector) == 0 // its endpoints are somebody else's
	if spec.IPFamilyPolicy == nil {
		policy := corev1.IPFamilyPolicySingleStack
		switch {
		case old != nil && old.Spec.IPFamilyPolicy != nil:
			policy = *old.Spec.IPFamilyPolicy
		case anyFamily:
			policy = corev1.IPFamilyPolicyRequireDualStack
		}
		spec.IPFamilyPolicy = &policy
	}
	if errs := validateClusterIPs(svc); len(errs) > 0 {
		return errs
	}
	var errs field.ErrorList
	if old != nil {
		errs = checkReleased(spec, &old.Spec)
		carryFamilies(spec, &old.Spec)
		prefer := corev1.IPFamilyPolicyPreferDualStack
		if svc.Spec.Type == old.Spec.Type && *spec.IPFamilyPolicy == prefer && deref(old.Spec.IPFamilyPolicy, "") == prefer &&
			slices.Equal(spec.ClusterIPs, old.Spec.ClusterIPs) && slices.Equal(spec.IPFamilies, old.Spec.IPFamilies) {
			return nil // it is not upgraded when the cluster becomes dual stack
		}
	}
	single := *spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack
	if single && len(spec.ClusterIPs) == 2 {
		errs = append(errs, field.Invalid(path.Child("ipFamilyPolicy"), spec.IPFamilyPolicy,
			"must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified"))
	}
	if single && len(spec.IPFamilies) == 2 {
		errs = append(errs, field.Invalid(path.Child("ipFamilyPolicy"), spec.IPFamilyPolicy,
			"must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"))
	}
	if errs = append(errs, inferFamilies(spec, families)...); len(errs) > 0 {
		return errs
	}
	if !anyFamily {
		if *spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack && len(families) < 2 {
			errs = append(errs, field.Invalid(path.Child("ipFamilyPolicy"), spec.IPFamilyPolicy,
				"this cluster is not configured for dual-stack services"))
		}
		for i, family := range spec.IPFamilies {
			if !slices.Contains(families, family) {
				errs = append(errs, field.Invalid(path.Child("ipFamilies").Index(i), family, "not configured on this cluster"))
			}
		}
	}
	if len(errs) > 0 {
		return errs
	}
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = slices.Clone(families[:1])
	}
	if !single && len(spec.IPFamilies) == 1 && (anyFamily || len(families) == 2) {
		spec.IPFamilies = append(slices.Clip(spec.IPFamilies), otherFamily(spec.IPFamilies[0]))
	}
	return nil
}

// inferFamilies fills in the families of the addresses that were asked for.
func inferFamilies(spec *corev1.ServiceSpec, families []corev1.IPFamily) field.ErrorList {
	var errs field.ErrorList
	for i, ip := range spec.ClusterIPs {
		switch family := familyOf(ip); {
		case family == "" || i < len(spec.IPFamilies):
		case !slices.Contains(families, family):
			errs = append(errs, field.Invalid(field.NewPath("spec", "clusterIPs").Index(i), spec.ClusterIPs,
				fmt.Sprintf("%s is not configured on this cluster", family)))
		default:
			spec.IPFamilies = append(slices.Clip(spec.IPFamilies), family)
		}
	}
	return errs
}

// checkReleased refuses to drop the second address or family without a word
// about it: only the policy SingleStack says that it was meant.
func checkReleased(spec, old *corev1.ServiceSpec) field.ErrorList {
	if *spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack {
		return nil
	}
	var errs field.ErrorList
	at := field.NewPath("spec", "ipFamilyPolicy")
	if n := len(spec.ClusterIPs); n > 0 && n < len(old.ClusterIPs) {
		errs = append(errs, field.Invalid(at, spec.IPFamilyPolicy, "must be 'SingleStack' to release the secondary cluster IP"))
	}
	if n := len(spec.IPFamilies); n > 0 && n < len(old.IPFamilies) {
		errs = append(errs, field.Invalid(at, spec.IPFamilyPolicy, "must be 'SingleStack' to release the secondary IP family"))
	}
	return errs
}

// carryFamilies takes the families over from old, and reads a SingleStack
// policy on an otherwise unchanged dual-stack Service as the wish to release
// the second one.
func carryFamilies(spec, old *corev1.ServiceSpec) {
	if len(spec.IPFamilies) == 0 && old.Type != corev1.ServiceTypeExternalName {
		spec.IPFamilies = old.IPFamilies
	}
	if *spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack {
		return
	}
	if len(spec.ClusterIPs) == 2 && slices.Equal(spec.ClusterIPs, old.ClusterIPs) {
		spec.ClusterIPs = spec.ClusterIPs[:1:1]
	}
	if len(spec.IPFamilies) == 2 && slices.Equal(spec.IPFamilies, old.IPFamilies) {
		spec.IPFamilies = spec.IPFamilies[:1:1]
	}
}

func otherFamily(f corev1.IPFamily) corev1.IPFamily {
	if f == corev1.IPv4Protocol {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}
