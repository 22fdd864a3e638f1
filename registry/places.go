package registry

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// A Reach says by what kind of address a Frontend is reached. Where two
// Services have one address and port, the lesser Reach has it: nobody takes a
// ClusterIP away from its Service by calling it an external IP.
type Reach uint8

const (
	ByClusterIP Reach = iota
	ByNodePort
	ByLoadBalancer
	ByExternalIP
)

// A place is an address and port at which a port of a Service is served.
type place struct {
	addr  netip.Addr
	port  uint16
	reach Reach
}

// places returns where this node serves a port of svc.
func (tx *transaction) places(svc *corev1.Service, port corev1.ServicePort) []place {
	clusterIPs := serviceIPs(svc)
	if len(clusterIPs) == 0 {
		return nil
	}
	var list []place
	add := func(ip string, reach Reach) {
		addr, ok := parseAddr(ip)
		has := slices.ContainsFunc(list, func(p place) bool { return p.addr == addr })
		if ok && !has && (reach == ByClusterIP || tx.local.Has(addr)) {
			list = append(list, place{addr, uint16(port.Port), reach})
		}
	}
	for _, ip := range clusterIPs {
		add(ip, ByClusterIP)
	}
	for _, ip := range loadBalancerIPs(svc) {
		add(ip, ByLoadBalancer)
	}
	for _, ip := range svc.Spec.ExternalIPs {
		add(ip, ByExternalIP)
	}
	if !hasNodePorts(&svc.Spec) || port.NodePort == 0 {
		return list
	}
	for _, addr := range tx.local.NodePorts {
		if slices.ContainsFunc(list, func(p place) bool { return p.reach == ByClusterIP && p.addr.Is4() == addr.Is4() }) {
			list = append(list, place{addr, uint16(port.NodePort), ByNodePort})
		}
	}
	return list
}

// loadBalancerIPs returns the addresses of the load balancer of svc that its
// packets have on arrival here.
func loadBalancerIPs(svc *corev1.Service) []string {
	var ips []string
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if svc.Spec.Type == corev1.ServiceTypeLoadBalancer && deref(in.IPMode, corev1.LoadBalancerIPModeVIP) == corev1.LoadBalancerIPModeVIP {
			ips = append(ips, in.IP)
		}
	}
	return ips
}

// isLocalOnly reports whether the traffic policy of svc wants the endpoints of
// this node alone for those who reach it that way.
func isLocalOnly(svc *corev1.Service, reach Reach) bool {
	if reach == ByClusterIP {
		return deref(svc.Spec.InternalTrafficPolicy, "") == corev1.ServiceInternalTrafficPolicyLocal
	}
	return svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// HealthCheckPort returns the port at which svc, which may be nil, is to have a
// health check on each node, or 0.
func HealthCheckPort(svc *corev1.Service) int32 {
	if svc == nil || unproxied(svc) || !NeedsHealthCheck(svc) {
		return 0
	}
	return svc.Spec.HealthCheckNodePort
}
