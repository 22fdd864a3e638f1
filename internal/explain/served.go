package explain

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/internal/api"
	"usher/internal/dns"
	"usher/registry"
)

// served explains how a port of the Service is served.
func (e *explainer) served(port corev1.ServicePort) {
	e.Port = strings.TrimSpace(fmt.Sprintf("%s %d/%s, targetPort %s", port.Name, port.Port, port.Protocol, port.TargetPort.String()))
	trace := e.snap.Explain(e.service, port)
	if e.ServiceType == "headless" {
		e.headless(port, trace)
		return
	}
	if trace.Why != "" {
		e.conclude(false, "connections are refused: %s", trace.Why)
		return
	}
	var all []registry.Verdict
	for _, f := range trace.Frontends {
		if !e.isAsked(f.FrontendKey) || !e.address.IsValid() && f.Reach != registry.ByClusterIP {
			continue
		}
		e.Frontends = append(e.Frontends, e.frontend(f))
		all = append(all, f.Endpoints...)
	}
	e.concludeServed(trace, all)
}

// frontend says how one Frontend is served.
func (e *explainer) frontend(f registry.FrontendTrace) api.FrontendExplanation {
	out := api.FrontendExplanation{Address: f.FrontendKey.String(), Endpoints: f.Endpoints}
	if holder := e.snap.Frontend(f.FrontendKey); holder != nil && holder.Service != f.Service {
		out.Holder = holder.Service.String()
	}
	for _, at := range e.Listen(f.FrontendKey) {
		l := api.ListenerReport{Address: at.String(), Moved: at.Port() != f.Port, Error: e.Failed(f.Frontend, at)}
		for _, v := range e.Views {
			if v.Address != nil && v.Address(f.Address) == at.Addr() {
				l.View = v.Name
			}
		}
		if l.Error == "" && f.Protocol == corev1.ProtocolUDP && len(f.Backends) == 0 {
			l.Error = "closed while no endpoint can be used, so that datagrams are refused"
		}
		out.Listeners = append(out.Listeners, l)
	}
	if next, ok := e.Next(f.FrontendKey); ok && out.Holder == "" {
		out.Next = next.Address.String()
	}
	return out
}

// concludeServed says how it comes out, from what was found.
func (e *explainer) concludeServed(trace registry.Trace, all []registry.Verdict) {
	used, listening := 0, 0
	var failed []string
	for _, v := range all {
		if v.Used {
			used++
		}
	}
	for _, f := range e.Frontends {
		for _, l := range f.Listeners {
			if l.Error == "" {
				listening++
			} else {
				failed = append(failed, l.Error)
			}
		}
		if f.Holder != "" {
			e.conclude(false, "%s is the address of the service %s, which comes first", f.Address, f.Holder)
			return
		}
	}
	switch {
	case used == 0:
		e.conclude(false, "connections are refused: %s", e.noEndpoints(trace, all))
	case listening == 0 && len(failed) > 0:
		e.conclude(false, "nothing listens: %s", failed[0])
	case listening == 0:
		e.conclude(false, "nothing listens: the daemon has no View in which the address is visible")
	default:
		e.conclude(true, "%d of %s can be used", used, count(len(all), "endpoint"))
	}
}

// noEndpoints says why a port of the Service has nothing to connect to.
func (e *explainer) noEndpoints(trace registry.Trace, all []registry.Verdict) string {
	svc := e.service
	switch {
	case registry.HasSelector(svc) && trace.Selected == 0:
		e.adviseLabels()
		return fmt.Sprintf("the selector %s matches no pods in namespace %q", selectorText(svc), svc.Namespace)
	case len(all) > 0 && registry.HasSelector(svc):
		return fmt.Sprintf("the selector matches %s, and none can be used", count(trace.Selected, "pod"))
	case len(all) > 0:
		return fmt.Sprintf("the service has %s, and none can be used", count(len(all), "endpoint"))
	case e.hasSlices():
		return "the EndpointSlices of the service have no endpoints"
	}
	e.advise("give it a selector, or an EndpointSlice with the label kubernetes.io/service-name=%s", svc.Name)
	return fmt.Sprintf("the service has no selector, no EndpointSlice with the label kubernetes.io/service-name=%s, and no Endpoints of its name", svc.Name)
}

func (e *explainer) hasSlices() bool {
	for range e.snap.EndpointSlices(e.service.Namespace, e.service.Name) {
		return true
	}
	return false
}

func selectorText(svc *corev1.Service) string {
	return metav1.FormatLabelSelector(metav1.SetAsLabelSelector(svc.Spec.Selector))
}

// maxValues is how many values of a label are told.
const maxValues = 5

// adviseLabels says which values the labels of the selector have on the Pods
// that there are.
func (e *explainer) adviseLabels() {
	for _, key := range slices.Sorted(maps.Keys(e.service.Spec.Selector)) {
		values := make(map[string]bool)
		pods := 0
		for obj := range e.snap.List(registry.Pods, e.service.Namespace) {
			pods++
			if v, ok := obj.GetLabels()[key]; ok {
				values[key+"="+v] = true
			}
		}
		list := slices.Sorted(maps.Keys(values))
		switch {
		case pods == 0:
			e.advise("there are no pods in namespace %q", e.service.Namespace)
			return
		case len(list) == 0:
			e.advise("no pod there has the label %s", key)
		default:
			e.advise("pods there have %s", strings.Join(list[:min(len(list), maxValues)], ", "))
		}
	}
}

// externalName explains a Service that is but a name.
func (e *explainer) externalName(found dns.Lookup) {
	target := e.service.Spec.ExternalName
	switch {
	case found.Forwarded != "" && len(found.Upstreams) > 0:
		e.conclude(true, "the service is an ExternalName for %s, which upstream nameservers know: clients connect there themselves", target)
	case found.Found() && len(found.Records) > 1:
		e.conclude(true, "the service is an ExternalName for %s: clients connect there themselves", target)
	default:
		e.conclude(false, "the service is an ExternalName for %s, of which nothing is known: %s", target, found.Why)
	}
}

// headless explains a Service without a ClusterIP: clients find the endpoints
// by DNS, and connect to them.
func (e *explainer) headless(port corev1.ServicePort, trace registry.Trace) {
	e.Endpoints = trace.Endpoints
	used := 0
	for _, v := range e.Endpoints {
		if v.Used {
			used++
		}
	}
	if used == 0 {
		e.conclude(false, "the service is headless, and its name does not exist: %s", e.noEndpoints(trace, e.Endpoints))
		return
	}
	e.conclude(true, "the service is headless: clients connect to the addresses of %s themselves", count(used, "endpoint"))
	if target := port.TargetPort.String(); target != fmt.Sprint(port.Port) {
		e.advise("there is no proxy to make port %d the targetPort %s: clients have to ask for that", port.Port, target)
	}
}
