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

// validateService checks svc, and reports in the order in which Kubernetes does.
func validateService(svc *corev1.Service) field.ErrorList {
	path := field.NewPath("spec")
	spec := &svc.Spec
	errs := append(validateTopologyAnnotations(svc), validateBalancing(svc)...)
	if len(spec.Ports) == 0 && !isHeadless(svc) && spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Required(path.Child("ports"), ""))
	}
	switch spec.Type {
	case corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeNodePort:
		if isHeadless(svc) {
			errs = append(errs, field.Invalid(path.Child("clusterIPs").Index(0), spec.ClusterIP,
				fmt.Sprintf("may not be set to 'None' for %s services", spec.Type)))
		}
	case corev1.ServiceTypeExternalName:
		errs = append(errs, validateExternalName(svc)...)
	}
	errs = append(errs, validateServicePorts(svc)...)
	errs = append(errs, validateLabels(spec.Selector, path.Child("selector"))...)
	errs = append(errs, validateAffinity(spec, path)...)
	if spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, validateClusterIPs(svc)...)
	}
	for i, ip := range spec.ExternalIPs {
		errs = append(errs, validateExternalIP(path.Child("externalIPs").Index(i), ip)...)
	}
	errs = append(errs, oneOf(path.Child("type"), spec.Type, corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort,
		corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName)...)
	errs = append(errs, validatePortPairs(svc)...)
	errs = append(errs, validateLoadBalancer(svc, path)...)
	errs = append(errs, validateTraffic(svc, path)...)
	return append(errs, validateTrafficDistribution(spec, path)...)
}

// validateTopologyAnnotations checks that the two annotations that ask for
// topology hints, the present one and its predecessor, agree.
func validateTopologyAnnotations(svc *corev1.Service) field.ErrorList {
	mode, now := svc.Annotations[corev1.AnnotationTopologyMode]
	hints, before := svc.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	if now && before && mode != hints {
		return field.ErrorList{field.Invalid(field.NewPath("metadata", "annotations").Key(corev1.AnnotationTopologyMode), mode,
			fmt.Sprintf("must match annotations[%s] when both are specified", corev1.DeprecatedAnnotationTopologyAwareHints))}
	}
	return nil
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
	var errs field.ErrorList
	path := field.NewPath("spec", "ports")
	names := make(map[string]bool)
	for i := range svc.Spec.Ports {
		p, at := &svc.Spec.Ports[i], path.Index(i)
		errs = append(errs, validatePortName(at.Child("name"), p.Name, len(svc.Spec.Ports) > 1, names)...)
		errs = append(errs, invalid(at.Child("port"), p.Port, validation.IsValidPortNum(int(p.Port)))...)
		errs = append(errs, validateProtocol(at.Child("protocol"), p.Protocol)...)
		errs = append(errs, validateTargetPort(at.Child("targetPort"), p.TargetPort)...)
		if p.AppProtocol != nil {
			errs = append(errs, invalid(at.Child("appProtocol"), *p.AppProtocol, validation.IsQualifiedName(*p.AppProtocol))...)
		}
	}
	return errs
}

// validatePortPairs checks what concerns several ports: the node ports first,
// and that no two ports of a protocol have the same number.
func validatePortPairs(svc *corev1.Service) field.ErrorList {
	type protocolPort struct {
		protocol corev1.Protocol
		port     int32
	}
	var errs field.ErrorList
	path := field.NewPath("spec", "ports")
	for i, p := range svc.Spec.Ports {
		if p.NodePort != 0 && svc.Spec.Type == corev1.ServiceTypeClusterIP {
			errs = append(errs, field.Forbidden(path.Index(i).Child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
		}
	}
	nodePorts := make(map[protocolPort]bool)
	for i, p := range svc.Spec.Ports {
		key := protocolPort{p.Protocol, p.NodePort}
		if p.NodePort != 0 && nodePorts[key] {
			errs = append(errs, field.Duplicate(path.Index(i).Child("nodePort"), p.NodePort))
		}
		nodePorts[key] = true
	}
	ports := make(map[protocolPort]bool)
	for i, p := range svc.Spec.Ports {
		key := protocolPort{p.Protocol, p.Port}
		if ports[key] {
			errs = append(errs, field.Duplicate(path.Index(i), corev1.ServicePort{Protocol: p.Protocol, Port: p.Port}))
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
	case c == nil:
		errs = append(errs, field.Required(at, "when session affinity type is ClientIP"))
	case c.ClientIP == nil:
		errs = append(errs, field.Required(at.Child("clientIP"), "when session affinity type is ClientIP"))
	case c.ClientIP.TimeoutSeconds == nil:
		errs = append(errs, field.Required(at.Child("clientIP", "timeoutSeconds"), "when session affinity type is ClientIP"))
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

func validateLoadBalancer(svc *corev1.Service, path *field.Path) field.ErrorList {
	spec := &svc.Spec
	isLoadBalancer := spec.Type == corev1.ServiceTypeLoadBalancer
	var errs field.ErrorList
	forbid := func(set bool, at *field.Path) {
		if set && !isLoadBalancer {
			errs = append(errs, field.Forbidden(at, "may only be used when `type` is 'LoadBalancer'"))
		}
	}
	annotation, annotated := svc.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey]
	at := path.Child("LoadBalancerSourceRanges")
	if len(spec.LoadBalancerSourceRanges) > 0 {
		forbid(true, at)
		for i, cidr := range spec.LoadBalancerSourceRanges {
			errs = append(errs, validateCIDR(at.Index(i), cidr)...)
		}
	} else if annotated {
		at := field.NewPath("metadata", "annotations").Key(corev1.AnnotationLoadBalancerSourceRangesKey)
		forbid(true, at)
		if strings.TrimSpace(annotation) != "" {
			for cidr := range strings.SplitSeq(annotation, ",") {
				errs = append(errs, validateCIDR(at, cidr)...)
			}
		}
	}
	forbid(spec.AllocateLoadBalancerNodePorts != nil, path.Child("allocateLoadBalancerNodePorts"))
	if isLoadBalancer && spec.AllocateLoadBalancerNodePorts == nil {
		errs = append(errs, field.Required(field.NewPath("allocateLoadBalancerNodePorts"), ""))
	}
	forbid(spec.LoadBalancerClass != nil, path.Child("loadBalancerClass"))
	if c := spec.LoadBalancerClass; c != nil && isLoadBalancer {
		errs = append(errs, invalid(path.Child("loadBalancerClass"), *c, validation.IsQualifiedName(*c))...)
	}
	return errs
}

// validateCIDR checks a range. Spaces around it have always been allowed.
func validateCIDR(path *field.Path, cidr string) field.ErrorList {
	return validation.IsValidCIDRForLegacyField(path, strings.TrimSpace(cidr), true, nil)
}

// NeedsHealthCheck reports whether svc has a health check node port: an
// external load balancer asks there whether this node has endpoints of it.
func NeedsHealthCheck(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer &&
		svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// validateTraffic checks the traffic policies.
func validateTraffic(svc *corev1.Service, path *field.Path) field.ErrorList {
	spec := &svc.Spec
	var errs field.ErrorList
	at := path.Child("externalTrafficPolicy")
	switch {
	case externallyAccessible(svc):
		errs = append(errs, oneOf(at, spec.ExternalTrafficPolicy,
			corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)...)
	case spec.ExternalTrafficPolicy != "":
		errs = append(errs, field.Invalid(at, spec.ExternalTrafficPolicy, "may only be set for externally-accessible services"))
	}
	if port := spec.HealthCheckNodePort; port != 0 {
		at := path.Child("healthCheckNodePort")
		if !NeedsHealthCheck(svc) {
			errs = append(errs, field.Invalid(at, port,
				"may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
		} else {
			errs = append(errs, invalid(at, port, validation.IsValidPortNum(int(port)))...)
		}
	}
	at = path.Child("internalTrafficPolicy")
	switch p := spec.InternalTrafficPolicy; {
	case p != nil:
		errs = append(errs, oneOf(at, *p, corev1.ServiceInternalTrafficPolicyCluster, corev1.ServiceInternalTrafficPolicyLocal)...)
	case hasNodePorts(spec), spec.Type == corev1.ServiceTypeClusterIP:
		errs = append(errs, field.Required(at, ""))
	}
	return errs
}

func validateTrafficDistribution(spec *corev1.ServiceSpec, path *field.Path) field.ErrorList {
	supported := []string{corev1.ServiceTrafficDistributionPreferClose,
		corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode}
	if d := spec.TrafficDistribution; d != nil && !slices.Contains(supported, *d) {
		return field.ErrorList{field.NotSupported(path.Child("trafficDistribution"), *d, supported)}
	}
	return nil
}

// validateLoadBalancerStatus checks where a load balancer says that it takes
// the traffic of svc.
func validateLoadBalancerStatus(svc *corev1.Service) field.ErrorList {
	path := field.NewPath("status", "loadBalancer", "ingress")
	ingress := svc.Status.LoadBalancer.Ingress
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer && len(ingress) > 0 {
		return field.ErrorList{field.Forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")}
	}
	var errs field.ErrorList
	for i, in := range ingress {
		at := path.Index(i)
		if in.IP != "" {
			errs = append(errs, validation.IsValidIPForLegacyField(at.Child("ip"), in.IP, true, nil)...)
		}
		switch mode := in.IPMode; {
		case mode == nil && in.IP != "":
			errs = append(errs, field.Required(at.Child("ipMode"), "must be specified when `ip` is set"))
		case mode != nil && in.IP == "":
			errs = append(errs, field.Forbidden(at.Child("ipMode"), "may not be specified when `ip` is not set"))
		case mode != nil:
			errs = append(errs, oneOf(at.Child("ipMode"), *mode, corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy)...)
		}
		if in.Hostname != "" {
			errs = append(errs, invalid(at.Child("hostname"), in.Hostname, validation.IsDNS1123Subdomain(in.Hostname))...)
			if _, isIP := parseAddr(in.Hostname); isIP {
				errs = append(errs, field.Invalid(at.Child("hostname"), in.Hostname, "must be a DNS name, not an IP address"))
			}
		}
	}
	return errs
}
