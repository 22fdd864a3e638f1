package registry

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Values of the label endpointslice.kubernetes.io/managed-by on the slices
// that the Store derives. Kubernetes' controllers use them.
const (
	managedBySelector  = "endpointslice-controller.k8s.io"
	managedByMirroring = "endpointslicemirroring-controller.k8s.io"

	labelSkipMirror = "endpointslice.kubernetes.io/skip-mirror"

	// annotationLeader is on Endpoints that are a lock for electing a leader:
	// they have no endpoints.
	annotationLeader = "control-plane.alpha.kubernetes.io/leader"
)

// maxEndpointsPerSlice is the default of Kubernetes' controller.
const maxEndpointsPerSlice = 100

// IsDerived reports whether obj is an EndpointSlice that the Store derived
// from other objects. It is in no etcd and cannot be written.
func IsDerived(obj Object) bool {
	if _, ok := obj.(*discoveryv1.EndpointSlice); !ok {
		return false
	}
	switch obj.GetLabels()[discoveryv1.LabelManagedBy] {
	case managedBySelector, managedByMirroring:
		return true
	}
	return false
}

// IsHeadlessByPods reports whether obj is an EndpointSlice that the Store derived
// from the Pods of a headless Service.
func IsHeadlessByPods(obj Object) bool {
	return IsDerived(obj) && obj.GetLabels()[discoveryv1.LabelManagedBy] == managedBySelector && hasLabel(obj, labelHeadless)
}

// A slicePlan collects the endpoints that share a slice: those of one address
// family with the same ports.
type slicePlan struct {
	addressType discoveryv1.AddressType
	ports       []discoveryv1.EndpointPort
	endpoints   []discoveryv1.Endpoint
	triggers    []time.Time // when each endpoint became what it is
}

// wantSlices returns the EndpointSlices that follow from the selector of svc
// or, when it has none, from the Endpoints object of the same name.
func (tx *transaction) wantSlices(svc *corev1.Service) []*discoveryv1.EndpointSlice {
	switch {
	case svc == nil || svc.Spec.Type == corev1.ServiceTypeExternalName:
		return nil
	case HasSelector(svc):
		list := tx.buildSlices(svc, managedBySelector, tx.planFromPods(svc))
		for _, s := range list {
			addHints(svc, s.Endpoints)
		}
		return list
	}
	eps, _ := first(tx.txn, Endpoints.Resource, byID, objectID(svc.Namespace, svc.Name)).(*corev1.Endpoints)
	if eps == nil || eps.Labels[labelSkipMirror] == "true" || hasAnnotation(eps, annotationLeader) {
		return nil
	}
	list := tx.buildSlices(svc, managedByMirroring, planFromEndpoints(eps))
	for _, s := range list {
		mirrorMetadata(s, eps)
	}
	return list
}

// mirrorMetadata gives a slice what Kubernetes' mirroring takes from the
// Endpoints: the labels, most annotations, and the ownership.
func mirrorMetadata(s *discoveryv1.EndpointSlice, eps *corev1.Endpoints) {
	labels := maps.Clone(eps.Labels)
	if labels == nil {
		labels = make(map[string]string)
	}
	labels[discoveryv1.LabelServiceName] = eps.Name
	labels[discoveryv1.LabelManagedBy] = managedByMirroring
	s.Labels = labels
	s.Annotations = maps.Clone(eps.Annotations)
	delete(s.Annotations, corev1.EndpointsLastChangeTriggerTime)
	delete(s.Annotations, corev1.LastAppliedConfigAnnotation)
	s.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(eps, Endpoints.GroupVersionKind)}
}

// planFromPods groups the selected Pods by the ports they serve: a named
// targetPort may be another number on each Pod.
func (tx *transaction) planFromPods(svc *corev1.Service) []*slicePlan {
	families := ipFamilies(svc)
	plans := make(map[string]*slicePlan)
	found := make(map[corev1.IPFamily]bool) // any endpoint
	for _, pod := range slices.SortedFunc(podsSelected(tx.txn, svc.Namespace, svc.Spec.Selector),
		func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) }) {
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			tx.trace.pod(pod, fmt.Sprintf("the pod has ended (%s)", pod.Status.Phase))
			continue
		}
		why := "the pod has no address of a family of the Service"
		has := make(map[corev1.IPFamily]bool)
		for _, ip := range podIPs(pod) {
			family := familyOf(ip)
			if has[family] || !slices.Contains(families, family) {
				continue
			}
			has[family], found[family] = true, true
			plan := planFor(plans, family, podPorts(svc, pod))
			plan.endpoints = append(plan.endpoints, tx.podEndpoint(svc, pod, ip))
			plan.triggers = append(plan.triggers, podTrigger(pod))
			why = ""
		}
		if len(podIPs(pod)) == 0 {
			why = "the pod has no address yet"
		}
		tx.trace.pod(pod, why)
	}
	for _, family := range families {
		if !found[family] { // one slice without endpoints
			planFor(plans, family, []discoveryv1.EndpointPort{})
		}
	}
	var list []*slicePlan
	for _, key := range slices.Sorted(maps.Keys(plans)) {
		list = append(list, plans[key])
	}
	return list
}

func planFor(plans map[string]*slicePlan, family corev1.IPFamily, ports []discoveryv1.EndpointPort) *slicePlan {
	var key strings.Builder
	key.WriteString(string(family))
	for _, p := range ports {
		fmt.Fprintf(&key, ",%s/%d/%s", *p.Name, *p.Port, *p.Protocol)
	}
	if plans[key.String()] == nil {
		plans[key.String()] = &slicePlan{addressType: discoveryv1.AddressType(family), ports: ports}
	}
	return plans[key.String()]
}

// ipFamilies returns the address families of the endpoints of svc.
func ipFamilies(svc *corev1.Service) []corev1.IPFamily {
	if len(svc.Spec.IPFamilies) == 0 {
		return []corev1.IPFamily{corev1.IPv4Protocol}
	}
	return svc.Spec.IPFamilies
}

// podPorts resolves the ports of svc on pod. A port that the Pod does not
// have is left out.
func podPorts(svc *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	ports := []discoveryv1.EndpointPort{}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		number := movedPort(pod, p.Protocol, targetPort(p, pod))
		if number == 0 {
			continue
		}
		ports = append(ports, discoveryv1.EndpointPort{
			Name: &p.Name, Protocol: &p.Protocol, Port: &number, AppProtocol: p.AppProtocol,
		})
	}
	return ports
}

// targetPort returns the number of the Service port p on pod, or 0 when pod
// has no port of the wanted name and protocol.
func targetPort(p *corev1.ServicePort, pod *corev1.Pod) int32 {
	if p.TargetPort.Type == 0 { // an integer
		if p.TargetPort.IntVal == 0 {
			return p.Port
		}
		return p.TargetPort.IntVal
	}
	containers := slices.Clone(pod.Spec.Containers)
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers, c)
		}
	}
	for _, c := range containers {
		for _, cp := range c.Ports {
			protocol := cmp.Or(cp.Protocol, corev1.ProtocolTCP)
			if cp.Name == p.TargetPort.StrVal && protocol == p.Protocol {
				return cp.ContainerPort
			}
		}
	}
	return 0
}

// podTrigger returns when pod became ready, or ceased to be.
func podTrigger(pod *corev1.Pod) time.Time {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// podEndpoint writes pod as an endpoint of svc.
func (tx *transaction) podEndpoint(svc *corev1.Service, pod *corev1.Pod, ip string) discoveryv1.Endpoint {
	serving := IsPodReady(pod)
	terminating := pod.DeletionTimestamp != nil
	ready := svc.Spec.PublishNotReadyAddresses || serving && !terminating
	e := discoveryv1.Endpoint{
		Addresses:  []string{ip},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	// Copies: a pointer into pod would keep all of it, as long as the slice.
	if pod.Spec.NodeName != "" {
		e.NodeName = new(pod.Spec.NodeName)
	}
	if zone := tx.zoneOf(pod.Spec.NodeName); zone != "" {
		e.Zone = new(zone)
	}
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == svc.Name {
		e.Hostname = new(pod.Spec.Hostname)
	}
	return e
}

// IsPodReady reports whether the Ready condition of pod is true.
func IsPodReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// planFromEndpoints mirrors a legacy Endpoints object, a slice for each of its
// subsets and address families.
func planFromEndpoints(eps *corev1.Endpoints) []*slicePlan {
	var plans []*slicePlan
	for i := range eps.Subsets {
		subset := &eps.Subsets[i]
		var ports []discoveryv1.EndpointPort
		for j := range subset.Ports {
			p := &subset.Ports[j]
			protocol := cmp.Or(p.Protocol, corev1.ProtocolTCP)
			ports = append(ports, discoveryv1.EndpointPort{
				Name: &p.Name, Protocol: &protocol, Port: &p.Port, AppProtocol: p.AppProtocol,
			})
		}
		for _, addressType := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
			plan := &slicePlan{addressType: addressType, ports: ports}
			plan.mirror(subset.Addresses, true)
			plan.mirror(subset.NotReadyAddresses, false)
			if len(plan.endpoints) > 0 {
				plans = append(plans, plan)
			}
		}
	}
	return plans
}

func (p *slicePlan) mirror(addresses []corev1.EndpointAddress, ready bool) {
	for _, a := range addresses {
		addr, ok := parseAddr(a.IP)
		if !ok || addr.Is4() != (p.addressType == discoveryv1.AddressTypeIPv4) {
			continue
		}
		e := discoveryv1.Endpoint{
			Addresses:  []string{addr.String()},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
			TargetRef:  a.TargetRef, NodeName: a.NodeName,
		}
		if a.Hostname != "" {
			e.Hostname = &a.Hostname
		}
		p.endpoints = append(p.endpoints, e)
	}
}

// buildSlices writes plans as the EndpointSlices of svc. The same plans yield
// the same names.
func (tx *transaction) buildSlices(svc *corev1.Service, managedBy string, plans []*slicePlan) []*discoveryv1.EndpointSlice {
	labels := maps.Clone(svc.Labels)
	if labels == nil {
		labels = make(map[string]string)
	}
	labels[discoveryv1.LabelServiceName] = svc.Name
	labels[discoveryv1.LabelManagedBy] = managedBy
	delete(labels, labelHeadless)
	if len(ClusterIPs(svc)) == 0 {
		labels[labelHeadless] = ""
	}
	var list []*discoveryv1.EndpointSlice
	for i, plan := range plans {
		triggers := slices.Collect(slices.Chunk(plan.triggers, maxEndpointsPerSlice))
		var chunks [][]discoveryv1.Endpoint
		for chunk := range slices.Chunk(plan.endpoints, maxEndpointsPerSlice) {
			// A slice that stays must not keep the endpoints of those that go.
			chunks = append(chunks, slices.Clone(chunk))
		}
		if len(chunks) == 0 {
			chunks = append(chunks, []discoveryv1.Endpoint{})
		}
		for j, endpoints := range chunks {
			name, uid := tx.sliceName(svc, fmt.Sprintf("%s/%d/%d", plan.addressType, i, j))
			s := EndpointSlices.New().(*discoveryv1.EndpointSlice)
			s.ObjectMeta = metav1.ObjectMeta{
				Name: name, GenerateName: svc.Name + "-", Namespace: svc.Namespace, UID: uid,
				CreationTimestamp: svc.CreationTimestamp, Labels: labels,
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(svc, Services.GroupVersionKind)},
			}
			s.AddressType, s.Endpoints, s.Ports = plan.addressType, endpoints, plan.ports
			if j < len(triggers) {
				s.Annotations = triggerAnnotation(append(slices.Clip(triggers[j]), svc.CreationTimestamp.Time))
			}
			list = append(list, s)
		}
	}
	return list
}

// triggerAnnotation says when the last of what made a slice happened. It
// follows from the objects alone, so that each node says the same.
func triggerAnnotation(times []time.Time) map[string]string {
	last := slices.MaxFunc(times, time.Time.Compare)
	if last.IsZero() {
		return nil
	}
	return map[string]string{corev1.EndpointsLastChangeTriggerTime: last.UTC().Format(time.RFC3339Nano)}
}

// sliceName returns a name and a UID that depend on svc and part alone, unless
// a slice written by hand has the name already.
func (tx *transaction) sliceName(svc *corev1.Service, part string) (string, types.UID) {
	const alphabet = "bcdfghjklmnpqrstvwxz2456789" // Kubernetes' own for generated names
	base := svc.Name
	if len(base) > 57 {
		base = base[:57]
	}
	for salt := 0; ; salt++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%s/%s/%d", svc.Namespace, svc.Name, svc.UID, part, salt))
		n := binary.BigEndian.Uint64(sum[:])
		suffix := make([]byte, 5)
		for i := range suffix {
			suffix[i] = alphabet[n%uint64(len(alphabet))]
			n /= uint64(len(alphabet))
		}
		name := base + "-" + string(suffix)
		was, _ := first(tx.txn, EndpointSlices.Resource, byID, objectID(svc.Namespace, name)).(Object)
		if was == nil || IsDerived(was) {
			id, _ := uuid.FromBytes(sum[8:24])
			return name, types.UID(id.String())
		}
	}
}
