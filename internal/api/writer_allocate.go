package api

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"usher/registry"
)

// wanted returns what obj has yet to get.
func (w *Writer) wanted(obj registry.Object) []*allocation {
	switch obj := obj.(type) {
	case *corev1.Pod:
		if obj.Annotations[registry.AnnotationLease] != "" && obj.Status.PodIP == "" {
			return []*allocation{{
				candidates: w.addresses(obj, registry.NewIPRange(registry.PodCIDR)),
				give: func(key registry.Key) {
					obj.Status.PodIP = key.Name
					obj.Status.PodIPs = []corev1.PodIP{{IP: key.Name}}
				},
				full: fmt.Errorf("failed to allocate a podIP for Pod %q: range is full", obj.Name),
			}}
		}
	case *corev1.Service:
		return slices.Concat(w.wantedIPs(obj), w.wantedPorts(obj), w.wantedBalancer(obj))
	}
	return nil
}

// wantedIPs returns the ClusterIPs that svc has yet to get.
func (w *Writer) wantedIPs(svc *corev1.Service) []*allocation {
	if svc.Spec.Type == corev1.ServiceTypeExternalName || svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return nil
	}
	var open []*allocation
	for i := len(svc.Spec.ClusterIPs); i < len(svc.Spec.IPFamilies); i++ {
		if !slices.Contains(w.families, svc.Spec.IPFamilies[i]) {
			continue
		}
		open = append(open, &allocation{
			candidates: w.addresses(svc, w.ranges(svc.Spec.IPFamilies[i])...),
			give: func(key registry.Key) {
				ips := svc.Spec.ClusterIPs
				svc.Spec.ClusterIPs = append(slices.Clone(ips[:min(i, len(ips))]), key.Name)
				svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
			},
			full: fmt.Errorf("failed to allocate a serviceIP for Service %q: range is full", svc.Name),
		})
	}
	return open
}

// ranges returns the ranges of ClusterIPs of a family: the configured one, and
// then those of ServiceCIDRs.
func (w *Writer) ranges(family corev1.IPFamily) []registry.IPRange {
	var ranges []registry.IPRange
	if i := slices.Index(w.families, family); i >= 0 {
		ranges = append(ranges, w.ServiceCIDRs[i])
	}
	for _, r := range w.Store.Snapshot().ServiceRanges(family) {
		if !slices.Contains(ranges, r) {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

// addresses returns the addresses of ranges, each in the order for obj. In a
// dry run it is that of the network, as Kubernetes answers: it is nobody's, and
// says so.
func (w *Writer) addresses(obj registry.Object, ranges ...registry.IPRange) iter.Seq[registry.Key] {
	return func(yield func(registry.Key) bool) {
		if w.dryRun {
			yield(claimKey(ranges[0].Prefix().Addr()))
			return
		}
		for _, r := range ranges {
			for ip := range r.Candidates(obj.GetNamespace() + "/" + obj.GetName()) {
				if !yield(claimKey(ip)) {
					return
				}
			}
		}
	}
}

// wantedPorts returns the node ports that svc has yet to get. Ports of the same
// number share one: they differ in their protocols.
func (w *Writer) wantedPorts(svc *corev1.Service) []*allocation {
	var open []*allocation
	want := func(what string, give func(port int32)) {
		open = append(open, &allocation{
			candidates: w.ports(svc, what),
			give: func(key registry.Key) {
				port, _ := strconv.Atoi(key.Name)
				give(int32(port))
			},
			full: errors.New("failed to allocate a nodePort: range is full"),
		})
	}
	asked := make(map[int32]bool) // ports for which there is an allocation
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if p.NodePort != 0 || asked[p.Port] || !registry.AllocatesNodePorts(svc) {
			continue
		}
		if p.NodePort = sharedPort(svc, p); p.NodePort != 0 {
			continue
		}
		asked[p.Port] = true
		missing := make(map[int]bool)
		for j, q := range svc.Spec.Ports {
			missing[j] = q.Port == p.Port && q.NodePort == 0
		}
		want(strconv.Itoa(int(p.Port)), func(port int32) {
			for j := range svc.Spec.Ports {
				if missing[j] {
					svc.Spec.Ports[j].NodePort = port
				}
			}
		})
	}
	if registry.NeedsHealthCheck(svc) && svc.Spec.HealthCheckNodePort == 0 {
		want("health", func(port int32) { svc.Spec.HealthCheckNodePort = port })
	}
	return open
}

// sharedPort returns the node port of another port with the number of p, or 0.
// It is not one that p's protocol has already.
func sharedPort(svc *corev1.Service, p *corev1.ServicePort) int32 {
	for _, q := range svc.Spec.Ports {
		if q.Port == p.Port && q.NodePort != 0 && !slices.ContainsFunc(svc.Spec.Ports, func(r corev1.ServicePort) bool {
			return r.NodePort == q.NodePort && r.Protocol == p.Protocol
		}) {
			return q.NodePort
		}
	}
	return 0
}

func (w *Writer) ports(svc *corev1.Service, what string) iter.Seq[registry.Key] {
	return func(yield func(registry.Key) bool) {
		for port := range w.NodePorts.Candidates(svc.Namespace + "/" + svc.Name + "/" + what) {
			if !yield(portKey(port)) {
				return
			}
		}
	}
}

// outOfRange says why obj cannot have what is claimed under key, or "".
func (w *Writer) outOfRange(obj registry.Object, key registry.Key) string {
	if _, ok := obj.(*corev1.Service); !ok {
		return ""
	}
	if key.Kind == registry.NodePorts {
		if port, _ := strconv.Atoi(key.Name); !w.NodePorts.Contains(int32(port)) {
			return fmt.Sprintf("provided port is not in the valid range. The range of valid ports is %s", w.NodePorts)
		}
		return ""
	}
	ip, err := netip.ParseAddr(key.Name)
	if err != nil {
		return err.Error()
	}
	if w.Pool.Contains(ip) {
		return ""
	}
	ranges := w.ranges(familyOf(key.Name))
	switch {
	case slices.ContainsFunc(ranges, func(r registry.IPRange) bool { return r.Contains(ip) }):
		return ""
	case len(ranges) == 1:
		return fmt.Sprintf("the provided IP (%v) is not in the valid range. The range of valid IPs is %s", ip, ranges[0].Prefix())
	}
	return "the provided network does not match the current range"
}

// errorFor says that the object cannot have what it asked for under key.
func (c *claims) errorFor(key registry.Key, why string) error {
	svc, ok := c.obj.(*corev1.Service)
	switch {
	case !ok:
		return invalid(registry.KeyOf(c.obj), field.Invalid(field.NewPath("status", "podIP"), key.Name, why))
	case key.Kind == registry.IPAddresses:
		return invalid(registry.KeyOf(svc), field.Invalid(field.NewPath("spec", "clusterIPs"), svc.Spec.ClusterIPs,
			fmt.Sprintf("failed to allocate IP %v: %s", key.Name, why)))
	}
	for i, p := range svc.Spec.Ports {
		if portKey(p.NodePort) == key {
			return invalid(registry.KeyOf(svc), field.Invalid(field.NewPath("spec", "ports").Index(i).Child("nodePort"), p.NodePort, why))
		}
	}
	return apierrors.NewInternalError(fmt.Errorf("failed to allocate requested HealthCheck NodePort %s: %s", key.Name, why))
}

// familyOf returns the family of a valid address.
func familyOf(ip string) corev1.IPFamily {
	if strings.Contains(ip, ":") {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}
