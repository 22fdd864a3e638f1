package agent

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

// A Network is what a replica sees of the network, when that is not what
// everybody does: it has the Pod's address to itself, wherever it means to
// listen.
type Network interface {
	// Enter puts the calling thread, and what it starts, into the Network. The
	// goroutine must be locked to the thread, and end without unlocking it.
	Enter() error

	// Given returns the port at which the replica listens that has named another
	// one, where it may not have that, and Named the reverse.
	Given(protocol corev1.Protocol, named uint16) uint16
	Named(protocol corev1.Protocol, given uint16) uint16
}

// given is Given of a replica that may have no Network.
func given(n Network, protocol corev1.Protocol, named uint16) uint16 {
	if n == nil {
		return named
	}
	return n.Given(protocol, named)
}

// learned returns the container ports of a replica, by where it listens.
func learned(n Network, addr netip.Addr) (ports []corev1.ContainerPort, err error) {
	tcp, udp, err := listensAt(addr)
	if err != nil {
		return nil, err
	}
	for _, p := range []struct {
		protocol corev1.Protocol
		numbers  []uint16
	}{{corev1.ProtocolTCP, tcp}, {corev1.ProtocolUDP, udp}} {
		for _, number := range p.numbers {
			ports = append(ports, corev1.ContainerPort{ContainerPort: int32(n.Named(p.protocol, number)), Protocol: p.protocol})
		}
	}
	return ports, nil
}

// movedPorts returns those of ports that are others in truth.
func movedPorts(n Network, ports []corev1.ContainerPort) []registry.MovedPort {
	var moved []registry.MovedPort
	for _, p := range ports {
		if to := int32(given(n, p.Protocol, uint16(p.ContainerPort))); to != p.ContainerPort {
			moved = append(moved, registry.MovedPort{Port: p.ContainerPort, Protocol: p.Protocol, To: to})
		}
	}
	return moved
}

// listens notes where the process listens. Those who ask a readinessProbe have
// not looked for that yet.
func (r *replica) listens() {
	if r.network == nil {
		return
	}
	if r.prober != nil {
		_, _ = r.check.relearn(0)
	}
	r.ports = append([]corev1.ContainerPort{}, r.workload.Ports...) // none is known, too
	if found := r.check.found.Load(); found != nil {
		r.ports = *found
	}
}

// describe brings the ports of a Pod in line with where its process listens. It
// reports whether there was anything to change.
func (r *replica) describe(pod *corev1.Pod) bool {
	if r.network == nil || r.ports == nil {
		return false
	}
	container := &pod.Spec.Containers[0]
	ports, moved := container.Ports, pod.Annotations[registry.AnnotationMovedPorts]
	container.Ports = r.ports
	registry.SetMovedPorts(pod, movedPorts(r.network, r.ports))
	return !slices.Equal(ports, r.ports) || moved != pod.Annotations[registry.AnnotationMovedPorts]
}
