package registry

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// A Local is what a Store has to know of the machine that it is on. What it
// says decides which endpoints are near, and which addresses are served here.
type Local struct {
	Node string // the name of this node

	// Addresses are what this machine can listen at besides ClusterIPs. Other
	// externalIPs, and addresses of load balancers, are somebody else's.
	Addresses []netip.Prefix

	// NodePorts are the addresses at which node ports are served.
	NodePorts []netip.Addr
}

func (l Local) equal(m Local) bool {
	return l.Node == m.Node && slices.Equal(l.Addresses, m.Addresses) && slices.Equal(l.NodePorts, m.NodePorts)
}

// Has reports whether this machine can listen at addr.
func (l Local) Has(addr netip.Addr) bool {
	return slices.ContainsFunc(l.Addresses, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// SetLocal tells the Store where it is. It is called before the first Replace,
// and again when something changes: then every Service is looked at, and what
// follows is a Commit at the present revision.
func (s *Store) SetLocal(l Local) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.local.equal(l) {
		return
	}
	s.local = l
	if !s.isSynced {
		return
	}
	tx := s.begin(s.Snapshot().revision)
	tx.markAll()
	s.commit(tx)
}

// markAll notes every Service.
func (tx *transaction) markAll() {
	for svc := range all[*corev1.Service](tx.txn, Services.Resource, byID+"_prefix", "") {
		tx.mark(svc)
	}
}

// markNode notes the Services that depend on where node is: those with Pods on
// it and, when it is this one, all that prefer what is near.
func (tx *transaction) markNode(was, now Object) {
	name, zone := topology(now)
	if now == nil {
		name, _ = topology(was)
	}
	if _, before := topology(was); before == zone {
		return
	}
	if name == tx.local.Node {
		tx.markAll()
		return
	}
	for pod := range all[*corev1.Pod](tx.txn, Pods.Resource, byNode, name) {
		tx.mark(pod)
	}
}

// topology returns the name and the zone of a Node, or of none.
func topology(obj Object) (name, zone string) {
	if node, ok := obj.(*corev1.Node); ok && node != nil {
		return node.Name, node.Labels[corev1.LabelTopologyZone]
	}
	return "", ""
}

// zoneOf returns the zone that a node is in, or "".
func (tx *transaction) zoneOf(node string) string {
	obj, _ := first(tx.txn, Nodes.Resource, byID, objectID("", node)).(Object)
	_, zone := topology(obj)
	return zone
}
