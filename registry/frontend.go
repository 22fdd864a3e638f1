package registry

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// A FrontendKey identifies a Frontend: one VIP, port and protocol.
type FrontendKey struct {
	Address  netip.Addr // a ClusterIP, or what else the Service is reached by
	Port     uint16
	Protocol corev1.Protocol // TCP or UDP
}

// AddrPort returns the VIP and port.
func (k FrontendKey) AddrPort() netip.AddrPort { return netip.AddrPortFrom(k.Address, k.Port) }

func (k FrontendKey) String() string { return fmt.Sprintf("%s/%s", k.AddrPort(), k.Protocol) }

// A Frontend is one VIP, port and protocol that the proxy serves. It is
// immutable.
type Frontend struct {
	FrontendKey
	Reach    Reach
	Service  types.NamespacedName
	PortName string

	// Backends are what a Picker may choose from, ordered by address. Without
	// any the Frontend refuses connections.
	Backends []Backend

	// Draining are the other endpoints that serve: they terminate, or a policy
	// or a hint prefers others. They get nothing new, and keep the UDP flows
	// they have.
	Draining []Backend

	Policy        Policy
	Affinity      time.Duration // for how long a client keeps its Backend; 0: not at all
	ClientAddress ClientAddress // how Backends learn the client's address; "": not at all
}

// A Backend is one address and port that a Frontend may pick. It is
// comparable.
type Backend struct {
	Address netip.AddrPort
	Pod     string // the Pod behind the endpoint, in the Service's namespace; "" when unknown
	Node    string // the node the endpoint is on; "" when unknown
	Weight  uint16 // its share beside the others'; 0 is as 1
}

// id is the primary key of f in its table. Of those with one FrontendKey the
// first is served.
func (f *Frontend) id() string { return fmt.Sprintf("%s %d %s", f.FrontendKey, f.Reach, f.Service) }

// Equal reports whether f and g serve the same thing in the same way.
func (f *Frontend) Equal(g *Frontend) bool {
	return f.FrontendKey == g.FrontendKey && f.Reach == g.Reach && f.Service == g.Service && f.PortName == g.PortName &&
		f.Policy == g.Policy && f.Affinity == g.Affinity && f.ClientAddress == g.ClientAddress &&
		slices.Equal(f.Backends, g.Backends) && slices.Equal(f.Draining, g.Draining)
}
