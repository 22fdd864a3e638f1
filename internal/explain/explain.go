// Package explain says what would become of a connection or a DNS query, and
// why. It decides nothing itself: it asks those who do, in the order in which
// they are asked when it happens, and puts what they say into words.
package explain

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"usher/internal/api"
	"usher/internal/dns"
	"usher/registry"
)

// Parts are who decides.
type Parts struct {
	Store  *registry.Store
	DNS    *dns.Server
	Domain string // the cluster domain

	// Search returns the search domains of the host.
	Search func() []string

	// Views are those of the daemon, with the addresses of their nameservers.
	Views []dns.View

	// Listen returns where the proxy listens for a Frontend, and Failed why it
	// cannot at an address, or "".
	Listen func(registry.FrontendKey) []netip.AddrPort
	Failed func(*registry.Frontend, netip.AddrPort) string

	// Next returns the Backend of the next connection, where that is known.
	Next func(registry.FrontendKey) (registry.Backend, bool)
}

// An explainer answers one Question from one Snapshot.
type explainer struct {
	*Parts
	snap *registry.Snapshot
	api.Explanation

	service *corev1.Service
	address netip.Addr // that was asked for in place of a name
}

// Explain answers a Question. It is an error when that makes no sense.
func (p *Parts) Explain(q api.Question) (api.Explanation, error) {
	e := &explainer{Parts: p, snap: p.Store.Snapshot(), Explanation: api.Explanation{Question: q}}
	if q.Target == "" {
		return e.Explanation, fmt.Errorf("a target is needed")
	}
	if q.Namespace == "" {
		return e.Explanation, fmt.Errorf("the namespace of who asks is needed")
	}
	var err error
	switch q.About {
	case "tcp", "udp":
		err = e.connection()
	case "dns":
		err = e.query()
	default:
		err = fmt.Errorf("cannot explain %q: want tcp, udp or dns", q.About)
	}
	return e.Explanation, err
}

// conclude sets how it comes out.
func (e *explainer) conclude(works bool, format string, a ...any) {
	e.Works, e.Conclusion = works, fmt.Sprintf(format, a...)
}

// advise adds something that may help.
func (e *explainer) advise(format string, a ...any) {
	e.Advice = append(e.Advice, fmt.Sprintf(format, a...))
}

// connection explains a connection, or a datagram.
func (e *explainer) connection() error {
	host, port := e.Question.Target, ""
	addr, err := netip.ParseAddr(host)
	if err != nil && strings.Contains(host, ":") {
		if host, port, err = net.SplitHostPort(host); err != nil || host == "" {
			return fmt.Errorf("invalid target %q: want NAME:PORT or ADDRESS:PORT", e.Question.Target)
		}
		addr, err = netip.ParseAddr(host)
	}
	var found dns.Lookup
	if err == nil {
		if !e.byAddress(addr.Unmap(), port) {
			return nil
		}
	} else {
		if found, err = e.lookup(host, "A", "AAAA"); err != nil {
			return err
		}
		if !e.byName(host, found) {
			return nil
		}
	}
	e.Service = e.service.Namespace + "/" + e.service.Name
	e.ServiceType = string(e.service.Spec.Type)
	switch {
	case e.service.Spec.Type == corev1.ServiceTypeExternalName:
		e.externalName(found)
		return nil
	case e.service.Spec.ClusterIP == corev1.ClusterIPNone:
		e.ServiceType = "headless"
	}
	if sp, ok := e.port(port); ok {
		e.served(sp)
	}
	return nil
}

// protocol is that of the Question.
func (e *explainer) protocol() corev1.Protocol {
	return corev1.Protocol(strings.ToUpper(e.Question.About))
}

// byAddress takes the Service that an address belongs to, or concludes that
// there is none.
func (e *explainer) byAddress(addr netip.Addr, port string) bool {
	e.address = addr
	clusterIP := addr
	for _, v := range e.Views {
		if v.ClusterIP != nil {
			if ip, ok := v.ClusterIP(addr); ok {
				clusterIP = ip
			}
		}
	}
	e.service = e.snap.ServiceByIP(clusterIP)
	for f := range e.snap.Frontends() { // a node port, or an external IP
		if e.service == nil && f.Address == addr && fmt.Sprint(f.Port) == port && f.Protocol == e.protocol() {
			e.service = e.snap.Service(f.Service.Namespace, f.Service.Name)
		}
	}
	if e.service != nil {
		return true
	}
	for pod := range e.snap.PodsByIP(addr) {
		e.conclude(true, "%s is the address of pod %q in namespace %q: connections go there, and usher has no part in them", addr, pod.Name, pod.Namespace)
		return false
	}
	e.conclude(false, "%s is the address of no Service", addr)
	return false
}

// port finds the port of the Service that is asked for, or concludes.
func (e *explainer) port(want string) (corev1.ServicePort, bool) {
	var same, other []string // ports of the protocol, and of others
	var only corev1.ServicePort
	for _, p := range e.service.Spec.Ports {
		text := strings.TrimSpace(fmt.Sprintf("%s %d/%s", p.Name, p.Port, p.Protocol))
		if p.Protocol != e.protocol() {
			other = append(other, text)
			continue
		}
		if want != "" && (want == p.Name || want == fmt.Sprint(p.Port) || e.isMoved(p, want)) {
			return p, true
		}
		only, same = p, append(same, text)
		if want != "" && want == p.TargetPort.String() {
			e.advise("%s is the targetPort, of the pods; clients connect to port %d", want, p.Port)
		}
	}
	switch {
	case want == "" && len(same) == 1:
		return only, true
	case want == "":
		e.conclude(false, "a port is needed: %s has %s", e.Service, orNone(same))
	default:
		e.conclude(false, "service %q has no %s port %s: connections are refused", e.service.Name, e.protocol(), want)
	}
	e.advise("%s has the ports: %s", e.Service, orNone(append(same, other...)))
	return corev1.ServicePort{}, false
}

// isMoved reports whether a port of the Service is listened at under another
// number in a View.
func (e *explainer) isMoved(p corev1.ServicePort, want string) bool {
	for _, ip := range registry.ClusterIPs(e.service) {
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			continue
		}
		for _, at := range e.Listen(registry.FrontendKey{Address: addr, Port: uint16(p.Port), Protocol: p.Protocol}) {
			if want == fmt.Sprint(at.Port()) && (!e.address.IsValid() || at.Addr() == e.address) {
				return true
			}
		}
	}
	return p.NodePort != 0 && want == fmt.Sprint(p.NodePort) && e.address.IsValid()
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}
