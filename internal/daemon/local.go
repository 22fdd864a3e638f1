package daemon

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"usher/internal/config"
	"usher/registry"
)

// addressesEvery is how often the addresses of this machine are read: a laptop
// moves from one network to another.
const addressesEvery = 10 * time.Second

// followAddresses keeps the Store's idea of this machine up to date.
func (d *daemon) followAddresses(ctx context.Context) error {
	ticker := time.NewTicker(addressesEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			d.readAddresses()
		case <-ctx.Done():
			return nil
		}
	}
}

// readAddresses tells the Store where it is. Listeners follow from that: the
// proxy asks listen for what is new.
func (d *daemon) readAddresses() {
	own, err := interfaceAddresses()
	if err != nil {
		d.Log.Warn("read the addresses of this machine", "error", err)
		return
	}
	l := &registry.Local{Node: d.Config.NodeName, NodePorts: nodePortAddresses(d.Config.NodePortsAt, own, primaryAddress)}
	for _, addr := range own {
		l.Addresses = append(l.Addresses, netip.PrefixFrom(addr, addr.BitLen()))
	}
	if d.pool != nil {
		l.Addresses = append(l.Addresses, d.Config.Pool)
	}
	d.local.Store(l)
	d.store.SetLocal(*l)
}

// interfaceAddresses returns the addresses of this machine, but those that are
// of no use without the name of an interface.
func interfaceAddresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, a := range list {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && !prefix.Addr().IsLinkLocalUnicast() {
			addrs = append(addrs, prefix.Addr().Unmap())
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), nil
}

// nodePortAddresses picks the addresses at which node ports are served out of
// those of this machine.
func nodePortAddresses(c config.NodePortAddresses, own []netip.Addr, primary func(network string) netip.Addr) []netip.Addr {
	var chosen []netip.Addr
	if c.Localhost {
		chosen = append(chosen, netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback())
	}
	if c.Primary {
		chosen = append(chosen, primary("udp4"), primary("udp6"))
	}
	return slices.DeleteFunc(slices.Clone(own), func(addr netip.Addr) bool {
		in := func(p netip.Prefix) bool { return p.Contains(addr) }
		return !c.All && !slices.Contains(chosen, addr) && !slices.ContainsFunc(c.Ranges, in)
	})
}

// primaryAddress returns the address from which this machine reaches the
// network, or none. A UDP socket that is connected sends nothing.
func primaryAddress(network string) netip.Addr {
	somewhere := map[string]string{"udp4": "192.0.2.1:9", "udp6": "[2001:db8::1]:9"} // for documentation: RFC 5737, RFC 3849
	c, err := net.Dial(network, somewhere[network])
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}
