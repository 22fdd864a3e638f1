package registry

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Warnings returns what is allowed of obj, which is new or has been changed,
// and not as its author may think. Those in Kubernetes' words come first.
func Warnings(obj Object, isNew bool) []string {
	switch obj := obj.(type) {
	case *corev1.Service:
		return append(serviceWarnings(obj), ownServiceWarnings(obj)...)
	case *discoveryv1.EndpointSlice:
		return sliceWarnings(obj, isNew)
	case *corev1.Endpoints:
		var list []string
		for i := range obj.Subsets {
			at := field.NewPath("subsets").Index(i)
			for j, a := range obj.Subsets[i].Addresses {
				list = append(list, ipWarnings(at.Child("addresses").Index(j).Child("ip"), a.IP)...)
			}
			for j, a := range obj.Subsets[i].NotReadyAddresses {
				list = append(list, ipWarnings(at.Child("notReadyAddresses").Index(j).Child("ip"), a.IP)...)
			}
		}
		return list
	}
	return nil
}

// Deprecation returns the warning that a request for objects of the Kind is
// answered with, or "".
func (k *Kind) Deprecation() string {
	if k == Endpoints { // KEP-4974
		return "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
	}
	return ""
}

func serviceWarnings(svc *corev1.Service) []string {
	spec, path := &svc.Spec, field.NewPath("spec")
	var list []string
	warn := func(cond bool, format string, args ...any) {
		if cond {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	warn(hasAnnotation(svc, corev1.DeprecatedAnnotationTopologyAwareHints), "annotation %s is deprecated, please use %s instead",
		corev1.DeprecatedAnnotationTopologyAwareHints, corev1.AnnotationTopologyMode)
	for i, ip := range ClusterIPs(svc) {
		list = append(list, ipWarnings(path.Child("clusterIPs").Index(i), ip)...)
	}
	if isHeadless(svc) && spec.Type == corev1.ServiceTypeClusterIP {
		warn(spec.LoadBalancerIP != "", "spec.loadBalancerIP is ignored for headless services")
		warn(len(spec.ExternalIPs) > 0, "spec.externalIPs is ignored for headless services")
		warn(spec.SessionAffinity != corev1.ServiceAffinityNone, "spec.SessionAffinity is ignored for headless services")
	}
	for i, ip := range spec.ExternalIPs {
		list = append(list, ipWarnings(path.Child("externalIPs").Index(i), ip)...)
	}
	isName := spec.Type == corev1.ServiceTypeExternalName
	warn(len(spec.ExternalIPs) > 0 && !isHeadless(svc) && !isName,
		"spec.externalIPs is deprecated and may no longer be implemented in some clusters")
	if spec.LoadBalancerIP != "" {
		list = append(list, ipWarnings(path.Child("loadBalancerIP"), spec.LoadBalancerIP)...)
	}
	for i, cidr := range spec.LoadBalancerSourceRanges {
		list = append(list, validation.GetWarningsForCIDR(path.Child("loadBalancerSourceRanges").Index(i), strings.TrimSpace(cidr))...)
	}
	warn(isName && len(spec.ExternalIPs) > 0, "spec.externalIPs is ignored when spec.type is %q", corev1.ServiceTypeExternalName)
	warn(!isName && spec.ExternalName != "", "spec.externalName is ignored when spec.type is not %q", corev1.ServiceTypeExternalName)
	warn(deref(spec.TrafficDistribution, "") == corev1.ServiceTrafficDistributionPreferClose, "spec.trafficDistribution: %q is deprecated; use %q",
		corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone)
	return list
}

// ownServiceWarnings are usher's: of what is stored and does nothing, and of
// what fails elsewhere.
func ownServiceWarnings(svc *corev1.Service) []string {
	var list []string
	if len(validation.IsDNS1035Label(svc.Name)) > 0 {
		list = append(list, fmt.Sprintf("metadata.name: clusters before Kubernetes 1.36 refuse %q: there, a name begins with a letter", svc.Name))
	}
	for i, p := range svc.Spec.Ports {
		at := field.NewPath("spec", "ports").Index(i)
		if isUnproxied(svc, p) {
			list = append(list, fmt.Sprintf("%s: SCTP is stored and not proxied", at.Child("protocol")))
		}
		if number := p.TargetPort.IntVal; isHeadless(svc) && number != 0 && number != p.Port {
			list = append(list, fmt.Sprintf("%s: a headless service has no proxy that would turn port %d into %d: clients connect to the port they name",
				at.Child("targetPort"), p.Port, number))
		}
	}
	return list
}

// isUnproxied reports whether a port of svc would have a proxy if it were of
// another protocol.
func isUnproxied(svc *corev1.Service, p corev1.ServicePort) bool {
	return p.Protocol == corev1.ProtocolSCTP && !isHeadless(svc) && svc.Spec.Type != corev1.ServiceTypeExternalName
}

// Unsupported says what svc asks for and does not get.
func Unsupported(svc *corev1.Service) []string {
	var list []string
	for _, p := range svc.Spec.Ports {
		if isUnproxied(svc, p) {
			list = append(list, fmt.Sprintf("port %d/SCTP is stored, not proxied", p.Port))
		}
	}
	if len(svc.Spec.LoadBalancerSourceRanges) > 0 {
		list = append(list, "loadBalancerSourceRanges are stored, not enforced: clients of the load balancer are on this machine")
	}
	return list
}

func sliceWarnings(s *discoveryv1.EndpointSlice, isNew bool) []string {
	var list []string
	if s.AddressType == discoveryv1.AddressTypeFQDN {
		if isNew {
			list = append(list, fmt.Sprintf("%s: FQDN endpoints are deprecated", field.NewPath("spec", "addressType"))) // Kubernetes' path, which there is not
		}
		return list
	}
	for i := range s.Endpoints {
		for j, a := range s.Endpoints[i].Addresses {
			list = append(list, ipWarnings(field.NewPath("endpoints").Index(i).Child("addresses").Index(j), a)...)
		}
	}
	return list
}

// ipWarnings is for an address that has been checked.
func ipWarnings(path *field.Path, ip string) []string {
	if _, err := netip.ParseAddr(ip); err != nil {
		return nil
	}
	return validation.GetWarningsForIP(path, ip)
}

func hasAnnotation(obj Object, annotation string) bool {
	_, ok := obj.GetAnnotations()[annotation]
	return ok
}
