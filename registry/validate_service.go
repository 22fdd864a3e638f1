package registry

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxAffinitySeconds is a day.
const maxAffinitySeconds = 86400

func isHeadless(svc *corev1.Service) bool { return svc.Spec.ClusterIP == corev1.ClusterIPNone }

func validateService(svc *corev1.Service) field.ErrorList {
	path := field.NewPath("spec")
	spec := &svc.Spec
	errs := oneOf(path.Child("type"), spec.Type, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort,
		corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName)
	switch spec.Type {
	case corev1.ServiceTypeExternalName:
		errs = append(errs, validateExternalName(svc)...)
	default:
		if isHeadless(svc) && spec.Type != corev1.ServiceTypeClusterIP {
			errs = append(errs, field.Invalid(path.Child("clusterIPs").Index(0), spec.ClusterIP,
				fmt.Sprintf("may not be set to 'None' for %s services", spec.Type)))
		}
		if len(spec.Ports) == 0 && !isHeadless(svc) {
			errs = append(errs, field.Required(path.Child("ports"), ""))
		}
		errs = append(errs, validateClusterIPs(svc)...)
	}
	errs = append(errs, validateServicePorts(svc)...)
	errs = append(errs, validateLabels(spec.Selector, path.Child("selector"))...)
	errs = append(errs, validateAffinity(spec, path)...)
	for i, ip := range spec.ExternalIPs {
		errs = append(errs, validateExternalIP(path.Child("externalIPs").Index(i), ip)...)
	}
	errs = append(errs, validateLoadBalancer(spec, path)...)
	errs = append(errs, validateTraffic(svc, path)...)
	return errs
}

// validateExternalName checks what an ExternalName has to have, and must not.
func validateExternalName(svc *corev1.Service) field.ErrorList {
	path := field.NewPath("spec")
	var errs field.ErrorList
	forbid := func(set bool, child string) {
		if set {
			errs = append(errs, field.Forbidden(path.Child(child), "may not be set for ExternalName services"))
		}
	}
	forbid(len(svc.Spec.ClusterIPs) > 0 || svc.Spec.ClusterIP != "", "clusterIPs")
	forbid(len(svc.Spec.IPFamilies) > 0, "ipFamilies")
	forbid(svc.Spec.IPFamilyPolicy != nil, "ipFamilyPolicy")
	name := strings.TrimSuffix(svc.Spec.ExternalName, ".") // fully qualified or not
	if name == "" {
		return append(errs, field.Required(path.Child("externalName"), ""))
	}
	return append(errs, invalid(path.Child("externalName"), name, validation.IsDNS1123Subdomain(name))...)
}

func validateServicePorts(svc *corev1.Service) field.ErrorList {
	type protocolPort struct {
		protocol corev1.Protocol
		port     int32
	}
	var errs field.ErrorList
	path := field.NewPath("spec", "ports")
	names := make(map[string]bool)
	ports := make(map[protocolPort]bool)
	nodePorts := make(map[protocolPort]bool)
	for i := range svc.Spec.Ports {
		p, at := &svc.Spec.Ports[i], path.Index(i)
		errs = append(errs, validatePortName(at.Child("name"), p.Name, len(svc.Spec.Ports) > 1, names)...)
		errs = append(errs, invalid(at.Child("port"), p.Port, validation.IsValidPortNum(int(p.Port)))...)
		errs = append(errs, validateProtocol(at.Child("protocol"), p.Protocol)...)
		errs = append(errs, validateTargetPort(at.Child("targetPort"), p.TargetPort)...)
		if p.AppProtocol != nil {
			errs = append(errs, invalid(at.Child("appProtocol"), *p.AppProtocol, validation.IsQualifiedName(*p.AppProtocol))...)
		}
		if p.NodePort != 0 {
			if svc.Spec.Type == corev1.ServiceTypeClusterIP {
				errs = append(errs, field.Forbidden(at.Child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
			}
			key := protocolPort{p.Protocol, p.NodePort}
			if nodePorts[key] {
				errs = append(errs, field.Duplicate(at.Child("nodePort"), p.NodePort))
			}
			nodePorts[key] = true
		}
		key := protocolPort{p.Protocol, p.Port}
		if ports[key] {
			errs = append(errs, field.Duplicate(at, corev1.ServicePort{Protocol: p.Protocol, Port: p.Port}))
		}
		ports[key] = true
	}
	return errs
}

// validateTargetPort takes a number, or the name of a container's port.
func validateTargetPort(path *field.Path, p intstr.IntOrString) field.ErrorList {
	if p.Type == intstr.String {
		return invalid(path, p.StrVal, validation.IsValidPortName(p.StrVal))
	}
	return invalid(path, p.IntValue(), validation.IsValidPortNum(p.IntValue()))
}

func validateAffinity(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	errs := oneOf(path.Child("sessionAffinity"), spec.SessionAffinity, corev1.ServiceAffinityClientIP, corev1.ServiceAffinityNone)
	at := path.Child("sessionAffinityConfig")
	switch c := spec.SessionAffinityConfig; {
	case spec.SessionAffinity == corev1.ServiceAffinityNone && c != nil:
		errs = append(errs, field.Forbidden(at, "must not be set when session affinity is None"))
	case spec.SessionAffinity != corev1.ServiceAffinityClientIP:
	case c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil:
		errs = append(errs, field.Required(at, "when session affinity type is ClientIP"))
	default:
		if t := *c.ClientIP.TimeoutSeconds; t <= 0 || t > maxAffinitySeconds {
			errs = append(errs, field.Invalid(at.Child("clientIP", "timeoutSeconds"), t,
				fmt.Sprintf("must be greater than 0 and less than %d", maxAffinitySeconds)))
		}
	}
	return errs
}

// validateExternalIP is validateEndpointIP without the leave for loopback.
func validateExternalIP(path *field.Path, ip string) field.ErrorList {
	errs := validateEndpointIP(path, ip)
	if addr, ok := parseAddr(ip); ok && addr.IsLoopback() {
		errs = append(errs, field.Invalid(path, ip, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
	}
	return errs
}

func validateLoadBalancer(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if spec.Type != corev1.ServiceTypeLoadBalancer {
		forbid := func(set bool, child string) {
			if set {
				errs = append(errs, field.Forbidden(path.Child(child), "may only be used when `type` is 'LoadBalancer'"))
			}
		}
		forbid(len(spec.LoadBalancerSourceRanges) > 0, "LoadBalancerSourceRanges")
		forbid(spec.AllocateLoadBalancerNodePorts != nil, "allocateLoadBalancerNodePorts")
		forbid(spec.LoadBalancerClass != nil, "loadBalancerClass")
		return errs
	}
	for i, cidr := range spec.LoadBalancerSourceRanges {
		errs = append(errs, validation.IsValidCIDR(path.Child("LoadBalancerSourceRanges").Index(i), strings.TrimSpace(cidr))...)
	}
	if c := spec.LoadBalancerClass; c != nil {
		errs = append(errs, invalid(path.Child("loadBalancerClass"), *c, validation.IsQualifiedName(*c))...)
	}
	return errs
}

// validateTraffic checks the traffic policies and the traffic distribution.
func validateTraffic(svc *corev1.Service, path *field.Path) field.ErrorList {
	spec := &svc.Spec
	var errs field.ErrorList
	at := path.Child("externalTrafficPolicy")
	switch {
	case ExternallyAccessible(svc):
		errs = append(errs, oneOf(at, spec.ExternalTrafficPolicy,
			corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)...)
	case spec.ExternalTrafficPolicy != "":
		errs = append(errs, field.Invalid(at, spec.ExternalTrafficPolicy, "may only be set for externally-accessible services"))
	}
	if spec.HealthCheckNodePort != 0 && (spec.Type != corev1.ServiceTypeLoadBalancer ||
		spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal) {
		errs = append(errs, field.Invalid(path.Child("healthCheckNodePort"), spec.HealthCheckNodePort,
			"may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
	}
	if p := spec.InternalTrafficPolicy; p != nil {
		errs = append(errs, oneOf(path.Child("internalTrafficPolicy"), *p,
			corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)...)
	} else if spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Required(path.Child("internalTrafficPolicy"), ""))
	}
	if d := spec.TrafficDistribution; d != nil {
		supported := []string{corev1.ServiceTrafficDistributionPreferClose,
			corev1.ServiceTrafficDistributionPreferSameNode, corev1.ServiceTrafficDistributionPreferSameZone}
		if !slices.Contains(supported, *d) {
			errs = append(errs, field.NotSupported(path.Child("trafficDistribution"), *d, supported))
		}
	}
	return errs
}
