package config

import (
	"fmt"
	"net/netip"
	"slices"

	"usher/registry"
)

// parseNodePortAddresses reads what kube-proxy has under that name.
func parseNodePortAddresses(list []string) (NodePortAddresses, error) {
	var a NodePortAddresses
	for _, s := range list {
		switch s {
		case "localhost":
			a.Localhost = true
		case "primary":
			a.Primary = true
		case "all":
			a.All = true
		default:
			prefix, err := netip.ParsePrefix(s)
			if err != nil {
				return a, fmt.Errorf("nodePortAddresses: %q must be a valid CIDR or one of the keywords 'primary', 'localhost', 'all'", s)
			}
			a.Ranges = append(a.Ranges, prefix.Masked())
		}
	}
	return a, nil
}

// parsePool reads the range of load balancers' addresses. None of them may be
// anything else's.
func (c *Config) parsePool(s string) (netip.Prefix, error) {
	const key = "loadBalancer.pool"
	pool, err := parsePrefix(key, s)
	if err != nil {
		return pool, err
	}
	for _, other := range append(slices.Clone(c.ServiceCIDRs), c.LoopbackCIDR, registry.PodCIDR) {
		if pool.Overlaps(other) {
			return pool, fmt.Errorf("%s: %s overlaps with %s, which is in use", key, pool, other)
		}
	}
	if pool.Addr().IsLoopback() && (!pool.Addr().Is4() || pool.Contains(netip.AddrFrom4([4]byte{127, 0, 0, 1}))) {
		return pool, fmt.Errorf("%s: %s has the host's own address", key, pool)
	}
	return pool, nil
}
