package api

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
)

func (p printing) serviceCells(svc *corev1.Service) []any {
	clusterIP := cmp.Or(svc.Spec.ClusterIP, none)
	if len(svc.Spec.ClusterIPs) > 0 {
		clusterIP = svc.Spec.ClusterIPs[0]
	}
	ready, endpoints := p.endpoints(svc)
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		ready = none
	}
	return []any{
		svc.Name, string(svc.Spec.Type), clusterIP, externalIP(svc), servicePorts(svc), ready, p.age(svc.CreationTimestamp),
		labels.FormatLabels(svc.Spec.Selector), p.local(svc), abbreviate(endpoints, none),
	}
}

func externalIP(svc *corev1.Service) string {
	ips := slices.Clone(svc.Spec.ExternalIPs)
	switch svc.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return svc.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var given []string
		for _, in := range svc.Status.LoadBalancer.Ingress {
			given = append(given, cmp.Or(in.IP, in.Hostname))
		}
		ips = append(given, ips...)
		if len(ips) == 0 {
			return "<pending>"
		}
	}
	return cmp.Or(strings.Join(ips, ","), none)
}

func servicePorts(svc *corev1.Service) string {
	var list []string
	for _, port := range svc.Spec.Ports {
		number := strconv.Itoa(int(port.Port))
		if port.NodePort > 0 {
			number += ":" + strconv.Itoa(int(port.NodePort))
		}
		list = append(list, fmt.Sprintf("%s/%s", number, port.Protocol))
	}
	return cmp.Or(strings.Join(list, ","), none)
}

// endpoints counts the endpoints of svc that are ready, out of all, and lists
// the addresses and ports of the ready ones. An endpoint with an address in
// each IP family counts once.
func (p printing) endpoints(svc *corev1.Service) (count string, addresses []string) {
	ready, all := make(map[string]bool), make(map[string]bool)
	for slice := range p.snapshot.EndpointSlices(svc.Namespace, svc.Name) {
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			if len(e.Addresses) == 0 {
				continue
			}
			id := strings.Join(endpointAddresses(e, slice.Ports), ",") // on a laptop many share an address
			if e.TargetRef != nil {
				id = e.TargetRef.Kind + "/" + e.TargetRef.Name
			}
			all[id] = true
			if isReady := e.Conditions.Ready; isReady != nil && !*isReady {
				continue // nil means ready
			}
			ready[id] = true
			addresses = append(addresses, endpointAddresses(e, slice.Ports)...)
		}
	}
	slices.Sort(addresses)
	return fmt.Sprintf("%d/%d", len(ready), len(all)), slices.Compact(addresses)
}

func endpointAddresses(e *discoveryv1.Endpoint, ports []discoveryv1.EndpointPort) []string {
	if len(ports) == 0 {
		return e.Addresses[:1]
	}
	var list []string
	for _, port := range ports {
		if port.Port != nil {
			list = append(list, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*port.Port))))
		}
	}
	return list
}

// local lists where the Frontends of svc can be reached on this node besides
// their VIP.
func (p printing) local(svc *corev1.Service) string {
	if p.views == nil {
		return none
	}
	var list []string
	for f := range p.snapshot.ServiceFrontends(svc.Namespace, svc.Name) {
		for _, addr := range p.views(f.FrontendKey) {
			list = append(list, addr.String())
		}
	}
	slices.Sort(list)
	return abbreviate(slices.Compact(list), none) // a port of TCP and UDP has one address
}
