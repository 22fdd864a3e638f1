// Package explain says what would become of a connection or a DNS query, and
// why. It decides nothing itself: it asks those who do, in the order in which
// they are asked when it happens, and puts what they say into words.
package explain

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
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
	number  string     // of the port that was asked for; "" for its name, or for none
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
	if _, err := strconv.ParseUint(port, 10, 16); err == nil {
		e.number = port
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
	var moved []string       // addresses at which the port is that was asked for
	var only corev1.ServicePort
	for _, p := range e.service.Spec.Ports {
		text := strings.TrimSpace(fmt.Sprintf("%s %d/%s", p.Name, p.Port, p.Protocol))
		if p.Protocol != e.protocol() {
			other = append(other, text)
			continue
		}
		if want != "" && want == p.Name || e.number != "" && e.isPort(p) {
			return p, true
		}
		moved = append(moved, e.elsewhere(p)...)
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
	case len(moved) > 0:
		e.conclude(false, "connections are refused: port %s of service %q is at %s there", want, e.service.Name, orNone(moved))
	default:
		e.conclude(false, "service %q has no %s port %s: connections are refused", e.service.Name, e.protocol(), want)
	}
	e.advise("%s has the ports: %s", e.Service, orNone(append(same, other...)))
	return corev1.ServicePort{}, false
}

// isPort reports whether a port of the Service has the number that was asked
// for, at the address, if one was.
func (e *explainer) isPort(p corev1.ServicePort) bool {
	if !e.address.IsValid() && fmt.Sprint(p.Port) == e.number {
		return true
	}
	return slices.ContainsFunc(e.keys(p), e.isAsked)
}

// keys returns the Frontends of a port of the Service that the Question may be
// about: those at its ClusterIPs, and for an address all others too.
func (e *explainer) keys(p corev1.ServicePort) (list []registry.FrontendKey) {
	for _, ip := range registry.ClusterIPs(e.service) {
		if addr, err := netip.ParseAddr(ip); err == nil {
			list = append(list, registry.FrontendKey{Address: addr, Port: uint16(p.Port), Protocol: p.Protocol})
		}
	}
	if e.address.IsValid() {
		for _, f := range e.snap.Explain(e.service, p).Frontends {
			list = append(list, f.FrontendKey)
		}
	}
	return list
}

// isAsked reports whether a Frontend is at the address and the number that were
// asked for, itself or in a View; any is, where none was.
func (e *explainer) isAsked(key registry.FrontendKey) bool {
	is := func(at netip.AddrPort) bool {
		return (!e.address.IsValid() || at.Addr() == e.address) && (e.number == "" || fmt.Sprint(at.Port()) == e.number)
	}
	return is(key.AddrPort()) || slices.ContainsFunc(e.Listen(key), is)
}

// elsewhere returns where a port that has the number that was asked for is at
// the address, if it was moved there.
func (e *explainer) elsewhere(p corev1.ServicePort) (list []string) {
	if fmt.Sprint(p.Port) != e.number {
		return nil
	}
	for _, key := range e.keys(p) {
		for _, at := range e.Listen(key) {
			if at.Addr() == e.address && !slices.Contains(list, at.String()) {
				list = append(list, at.String())
			}
		}
	}
	return list
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}
