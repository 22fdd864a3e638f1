package vip

import "net/netip"

// A FixedRoute is a route for a range of ClusterIPs that stays until it is
// removed, or the machine starts anew: an administrator's. AnyIP uses one that
// makes its range local, without any privilege, and leaves it alone. Its methods
// need Linux; elsewhere their errors wrap errors.ErrUnsupported.
type FixedRoute struct {
	Prefix netip.Prefix

	// Blackhole makes a route that leads nowhere instead: an address that nobody
	// translates reaches nobody. The route of AnyIP goes before it.
	Blackhole bool
}
