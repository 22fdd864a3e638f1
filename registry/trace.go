package registry

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A Trace says how the Frontends of one port of a Service came to be what they
// are: who decides is what decided when they were derived.
type Trace struct {
	// Why is not "" when the port has no Frontends.
	Why string

	// Selected is how many Pods the selector matches.
	Selected int

	Frontends []FrontendTrace

	// Endpoints are those of a headless Service, whose clients find them by DNS.
	Endpoints []Verdict
}

// A FrontendTrace is what became of each endpoint of a Frontend, by address.
type FrontendTrace struct {
	*Frontend
	Endpoints []Verdict
}

// A Verdict says what became of an endpoint, or of a Pod that has none.
type Verdict struct {
	Address string `json:"address,omitempty"` // with the port where that is known
	Pod     string `json:"pod,omitempty"`
	Node    string `json:"node,omitempty"`
	Slice   string `json:"slice,omitempty"`
	Used    bool   `json:"used"`
	Reason  string `json:"reason,omitempty"` // why it is not used, or is although it is not ready
}

// Explain derives a port of svc once more, and says why it comes out as it does.
func (s *Snapshot) Explain(svc *corev1.Service, port corev1.ServicePort) Trace {
	t := &tracer{left: make(map[bool][]Verdict)}
	tx := &transaction{revision: s.revision, local: s.local, txn: s.db.Txn(false), trace: t}
	if HasSelector(svc) {
		tx.planFromPods(svc)
	}
	tx.portFrontends(svc, port)
	out := Trace{Why: t.why, Selected: t.selected, Frontends: t.frontends}
	for i := range out.Frontends {
		f := &out.Frontends[i]
		f.Endpoints = s.inWords(svc, f.Endpoints, t.left[f.Address.Is4()], t.pods)
	}
	if isHeadless(svc) {
		var judged []Verdict
		for _, family := range ipFamilies(svc) {
			for _, e := range tx.endpoints(svc, port, family == corev1.IPv4Protocol) {
				judged = append(judged, e.verdict(e.judge(isAnywhere, isAnywhere, true, false)))
			}
		}
		left := t.left[true]
		for _, v := range t.left[false] {
			if !slices.Contains(left, v) { // of a slice that is of neither family
				left = append(left, v)
			}
		}
		out.Endpoints = s.inWords(svc, judged, left, t.pods)
	}
	return out
}

// inWords joins verdicts, and adds the words of Pods that are not ready.
func (s *Snapshot) inWords(svc *corev1.Service, lists ...[]Verdict) []Verdict {
	all := slices.Concat(lists...)
	var failures map[types.UID]*corev1.Event
	for i := range all {
		v := &all[i]
		if v.Reason != notReady.String() || v.Pod == "" {
			continue
		}
		if failures == nil {
			failures = s.unhealthy(svc.Namespace)
		}
		if pod := s.Pod(svc.Namespace, v.Pod); pod != nil {
			v.Reason += wordsOf(pod, failures[pod.UID])
		}
	}
	return all
}

// unhealthy returns the last Event of each Pod that says that a probe failed.
func (s *Snapshot) unhealthy(namespace string) map[types.UID]*corev1.Event {
	last := make(map[types.UID]*corev1.Event)
	for obj := range s.List(Events, namespace) {
		ev := obj.(*corev1.Event)
		if was := last[ev.InvolvedObject.UID]; ev.Reason == "Unhealthy" && (was == nil || was.LastTimestamp.Before(&ev.LastTimestamp)) {
			last[ev.InvolvedObject.UID] = ev
		}
	}
	return last
}

// wordsOf returns what is known of why a Pod is not ready: what its Ready
// condition says or, as that of the kubelet says little, the Event.
func wordsOf(pod *corev1.Pod, failure *corev1.Event) string {
	reason := ""
	for _, c := range pod.Status.Conditions {
		switch {
		case c.Type != corev1.PodReady:
		case c.Message != "":
			return ": " + c.Message
		default:
			reason = c.Reason
		}
	}
	switch {
	case failure != nil:
		return ": " + strings.TrimSpace(failure.Message)
	case reason != "":
		return ": " + reason
	case pod.Status.Phase == corev1.PodPending:
		return ": the pod has not started"
	}
	return ""
}

// A judgement is what becomes of an endpoint of a Frontend.
type judgement int

const (
	isUsed judgement = iota
	isLast
	isDraining
	elsewhere
	hintedAway
	notReady
	ended
)

func (j judgement) String() string {
	return [...]string{
		"", "terminating, and none is ready", "terminating", "not on this node, and the traffic policy is Local",
		"meant for others by its hints", "not ready", "terminating, and serves no more",
	}[j]
}

// judge decides about an endpoint: use says which ready ones may be used, and
// fallBack which of those that terminate while none of them is there.
func (e endpoint) judge(use, fallBack func(endpoint) bool, hasReady, localOnly bool) judgement {
	ending := !e.ready && e.serving && e.terminating
	switch {
	case e.ready && use(e):
		return isUsed
	case e.ready && !localOnly:
		return hintedAway
	case ending && hasReady:
		return isDraining
	case ending && fallBack(e):
		return isLast
	case e.ready || ending:
		return elsewhere
	case e.terminating:
		return ended
	}
	return notReady
}

// verdict puts a judgement into words.
func (e endpoint) verdict(j judgement) Verdict {
	v := Verdict{Address: e.Address.String(), Pod: e.Pod, Node: e.Node, Slice: e.slice, Used: j == isUsed || j == isLast, Reason: j.String()}
	if j == hintedAway {
		var names []string
		for _, n := range e.nodes {
			names = append(names, "node "+n.Name)
		}
		for _, z := range e.zones {
			names = append(names, "zone "+z.Name)
		}
		v.Reason = "meant for " + strings.Join(names, ", ") + " by its hints"
	}
	return v
}

// A tracer collects what a derivation decides. That of a Commit has none: its
// methods do nothing then.
type tracer struct {
	why       string
	selected  int
	pods      []Verdict          // without an endpoint
	left      map[bool][]Verdict // endpoints left out of the ports, by whether IPv4
	frontends []FrontendTrace
}

// refuse notes why a port has no Frontends.
func (t *tracer) refuse(why string) {
	if t != nil {
		t.why = why
	}
}

// pod notes that the selector matches a Pod, and why that has no endpoint.
func (t *tracer) pod(pod *corev1.Pod, why string) {
	if t == nil {
		return
	}
	t.selected++
	if why != "" {
		t.pods = append(t.pods, Verdict{Address: pod.Status.PodIP, Pod: pod.Name, Node: pod.Spec.NodeName, Reason: why})
	}
}

// otherFamily notes a slice of another address family than is4, where svc has
// no Frontends of that either.
func (t *tracer) otherFamily(slice *discoveryv1.EndpointSlice, svc *corev1.Service, is4 bool) {
	if t != nil && !slices.Contains(ipFamilies(svc), corev1.IPFamily(slice.AddressType)) {
		t.slice(slice, is4, "its address is of the family "+string(slice.AddressType)+", which the Service does not have")
	}
}

// optedOut notes a slice that has a label that takes it out of the proxy.
func (t *tracer) optedOut(slice *discoveryv1.EndpointSlice, is4 bool) {
	if t != nil {
		t.slice(slice, is4, "the label "+optOut(slice)+" takes its slice out of the proxy")
	}
}

// noPort notes a slice that has nothing that matches a port.
func (t *tracer) noPort(slice *discoveryv1.EndpointSlice, svc *corev1.Service, port corev1.ServicePort, is4 bool) {
	switch {
	case t == nil:
	case IsDerived(slice) && HasSelector(svc):
		t.slice(slice, is4, fmt.Sprintf("the pod has no %s port %q", port.Protocol, port.TargetPort.String()))
	case port.Name == "":
		t.slice(slice, is4, fmt.Sprintf("its slice has no %s port without a name, as the Service's is", port.Protocol))
	default:
		t.slice(slice, is4, fmt.Sprintf("its slice has no %s port %q", port.Protocol, port.Name))
	}
}

func (t *tracer) slice(slice *discoveryv1.EndpointSlice, is4 bool, why string) {
	for i := range slice.Endpoints {
		t.endpoint(slice, &slice.Endpoints[i], is4, why)
	}
}

// endpoint notes that an endpoint does not count.
func (t *tracer) endpoint(slice *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint, is4 bool, why string) {
	if t == nil {
		return
	}
	v := Verdict{Slice: slice.Name, Pod: podOf(e), Node: deref(e.NodeName, ""), Reason: why}
	if len(e.Addresses) > 0 {
		v.Address = e.Addresses[0]
	}
	t.left[is4] = append(t.left[is4], v)
}

// duplicate notes that of two endpoints with one address another one counts.
func (t *tracer) duplicate(e, kept endpoint) {
	if t != nil {
		v := e.verdict(isUsed)
		v.Used, v.Reason = false, "the same address is in slice "+kept.slice
		t.left[e.Address.Addr().Is4()] = append(t.left[e.Address.Addr().Is4()], v)
	}
}

// frontend begins what is noted of a Frontend.
func (t *tracer) frontend(f *Frontend) {
	if t != nil {
		t.frontends = append(t.frontends, FrontendTrace{Frontend: f})
	}
}

// judged notes what becomes of an endpoint of the Frontend begun last.
func (t *tracer) judged(e endpoint, j judgement) {
	if t != nil {
		f := &t.frontends[len(t.frontends)-1]
		f.Endpoints = append(f.Endpoints, e.verdict(j))
	}
}

// optOut returns the label by which obj, a Service or an EndpointSlice, is none
// of the proxy's business, or "".
func optOut(obj Object) string {
	for _, label := range []string{LabelServiceProxyName, labelHeadless} {
		if hasLabel(obj, label) {
			return label
		}
	}
	return ""
}

// notServed says why a port of svc has no Frontends, or "".
func notServed(svc *corev1.Service, port corev1.ServicePort) string {
	switch label := optOut(svc); {
	case label != "":
		return "the label " + label + " takes the Service out of the proxy"
	case port.Protocol != corev1.ProtocolTCP && port.Protocol != corev1.ProtocolUDP:
		return string(port.Protocol) + " is stored and not proxied"
	}
	return ""
}
