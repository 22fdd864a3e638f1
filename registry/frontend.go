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

	// Unused are the addresses of all other endpoints, such as those that are not
	// ready. They are known where Removed asks for them.
	Unused []netip.AddrPort

	Policy        Policy
	Affinity      time.Duration // for how long a client keeps its Backend; 0: not at all
	Proxied       bool          // nobody may connect to the Backends without the proxy
	ClientAddress ClientAddress // how Backends learn the client's address; "": not at all
	Removed       Removed       // what becomes of connections to a Backend that is removed; "": they stay
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
		f.Policy == g.Policy && f.Affinity == g.Affinity && f.Proxied == g.Proxied && f.ClientAddress == g.ClientAddress && f.Removed == g.Removed &&
		slices.Equal(f.Backends, g.Backends) && slices.Equal(f.Draining, g.Draining) && slices.Equal(f.Unused, g.Unused)
}

// Serving returns the Backend at an address, if only for what it has already; nil
// if there is none.
func (f *Frontend) Serving(at netip.AddrPort) *Backend {
	for _, list := range [...][]Backend{f.Backends, f.Draining} {
		if i := slices.IndexFunc(list, func(b Backend) bool { return b.Address == at }); i >= 0 {
			return &list[i]
		}
	}
	return nil
}

// Keeps reports whether a connection to the Backend at an address may stay: its
// endpoint is there, used or not, or the Service does not care.
func (f *Frontend) Keeps(at netip.AddrPort) bool {
	return f.Removed == "" || f.Serving(at) != nil || slices.Contains(f.Unused, at)
}
