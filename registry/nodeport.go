package registry

import (
	"fmt"
	"iter"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is the API group of usher's own resources.
const Group = "usher.internal"

// A NodePort says to whom a node port belongs, as an IPAddress does of an
// address. It is named by the number: a Service has it in every protocol.
type NodePort struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec networkingv1.IPAddressSpec `json:"spec"`
}

// DeepCopyObject makes a NodePort an Object.
func (p *NodePort) DeepCopyObject() runtime.Object {
	out := &NodePort{TypeMeta: p.TypeMeta}
	p.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	p.Spec.DeepCopyInto(&out.Spec)
	return out
}

// NodePorts is the Kind of NodePort.
var NodePorts = &Kind{
	GroupVersionKind: schema.GroupVersionKind{Group: Group, Version: "v1", Kind: "NodePort"},
	Resource:         "nodeports", Singular: "nodeport",
	new: func() Object { return new(NodePort) },
}

// A PortRange is the ports that node ports are given from. The zero value is
// Kubernetes' own, 30000-32767.
type PortRange struct{ first, last uint16 }

// ParsePortRange reads a range as "30000-32767".
func ParsePortRange(s string) (PortRange, error) {
	var r PortRange
	if n, err := fmt.Sscanf(s, "%d-%d", &r.first, &r.last); n != 2 || err != nil || r.String() != s {
		return PortRange{}, fmt.Errorf("%q is not a range of ports, as 30000-32767", s)
	}
	if r.first == 0 || r.first > r.last {
		return PortRange{}, fmt.Errorf("%q has no ports", s)
	}
	return r, nil
}

func (r PortRange) bounds() (first, last uint16) {
	if r == (PortRange{}) {
		return 30000, 32767
	}
	return r.first, r.last
}

func (r PortRange) String() string {
	first, last := r.bounds()
	return fmt.Sprintf("%d-%d", first, last)
}

// Contains reports whether port is in the range.
func (r PortRange) Contains(port int32) bool {
	first, last := r.bounds()
	return port >= int32(first) && port <= int32(last)
}

// Size returns how many ports there are.
func (r PortRange) Size() int {
	first, last := r.bounds()
	return int(last) - int(first) + 1
}

// static returns the size of the static band (KEP-3668): the lowest
// min(max(16, size/32), 128) ports are for people who ask for one.
func (r PortRange) static() uint64 { return staticBand(uint64(r.Size()), 32, 128) }

// Candidates returns every port of the range once, in the order in which to
// try them for the owner, as IPRange.Candidates does.
func (r PortRange) Candidates(owner string) iter.Seq[int32] {
	return func(yield func(int32) bool) {
		first, _ := r.bounds()
		for n := range candidates(owner, uint64(r.Size()), r.static()) {
			if !yield(int32(first) + int32(n)) {
				return
			}
		}
	}
}

// NodePortsOf returns the node ports of svc, with that of its health check,
// each once.
func NodePortsOf(svc *corev1.Service) []int32 {
	var ports []int32
	seen := map[int32]bool{0: true}
	for _, p := range svc.Spec.Ports {
		if !seen[p.NodePort] {
			ports = append(ports, p.NodePort)
		}
		seen[p.NodePort] = true
	}
	if port := svc.Spec.HealthCheckNodePort; !seen[port] {
		ports = append(ports, port)
	}
	return ports
}

// AllocatesNodePorts reports whether the ports of svc that have no node port
// are to get one.
func AllocatesNodePorts(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeNodePort ||
		svc.Spec.Type == corev1.ServiceTypeLoadBalancer && deref(svc.Spec.AllocateLoadBalancerNodePorts, true)
}

// validNodePort checks the name of a NodePort.
func validNodePort(name string, _ bool) []string {
	if n, err := strconv.ParseUint(name, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != name {
		return []string{"must be a port number between 1 and 65535"}
	}
	return nil
}
