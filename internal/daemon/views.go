package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"

	"usher/internal/config"
	"usher/internal/vip"
	"usher/proxy"
	"usher/registry"
)

// openViews opens the Views that the configuration asks for, or those that
// are permitted when it leaves the choice. One that is asked for and cannot be
// had is an error. The caller closes those that are returned, with an error
// too.
func openViews(c *config.Config, log *slog.Logger) ([]*vip.View, error) {
	var views []*vip.View
	chosen := len(c.Views) > 0
	if !chosen || slices.Contains(c.Views, "anyip") {
		v, err := vip.AnyIP(c.ServiceCIDRs...)
		switch {
		case err == nil:
			views = append(views, v)
		case chosen:
			return nil, fmt.Errorf("open view anyip: %w", err)
		default:
			log.Info("view anyip is not available", "reason", err)
		}
	}
	if !chosen || slices.Contains(c.Views, "loopback") {
		v, err := openLoopback(c)
		switch {
		case err == nil:
			views = append(views, v)
		case chosen:
			return views, fmt.Errorf("open view loopback: %w", err)
		default:
			log.Info("view loopback is not available", "reason", err)
		}
	}
	return views, nil
}

// openLoopback opens the loopback View of the service CIDR that is IPv4.
func openLoopback(c *config.Config) (*vip.View, error) {
	for _, prefix := range c.ServiceCIDRs {
		if prefix.Addr().Is4() {
			return vip.Loopback(prefix, c.LoopbackCIDR, c.Pool, registry.PodCIDR)
		}
	}
	return nil, errors.New("loopback has room for IPv4 alone, and serviceCIDR is IPv6")
}

// openPool opens the View of the addresses of load balancers, which are seen
// as they are; nil without a range for them.
func openPool(pool netip.Prefix, log *slog.Logger) (*vip.View, error) {
	switch {
	case !pool.IsValid():
		return nil, nil
	case pool.Addr().IsLoopback():
		return vip.Loopback(pool, pool)
	}
	v, err := vip.AnyIP(pool)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported) {
		log.Warn("Services of type LoadBalancer get no address: loadBalancer.pool has to be a part of 127.0.0.0/8 here", "error", err)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("loadBalancer.pool: %w", err)
	}
	return v, nil
}

// allViews returns the Views of ClusterIPs and of load balancers.
func (d *daemon) allViews() []*vip.View {
	if d.pool == nil {
		return d.views
	}
	return append(slices.Clip(d.views), d.pool)
}

// listen returns where the proxy listens for a Frontend: here, and in the
// networks of programs.
func (d *daemon) listen(key registry.FrontendKey) []proxy.ListenAddr {
	return append(d.listenHere(key), d.private.listen(key)...)
}

// listenHere returns where the proxy listens for a Frontend in this network: an
// address in each View that has one for it, or one of this machine itself.
func (d *daemon) listenHere(key registry.FrontendKey) []proxy.ListenAddr {
	var list []proxy.ListenAddr
	for _, v := range d.allViews() {
		if addr, _, ok := v.Listen(key.AddrPort()); ok {
			list = append(list, proxy.ListenAddr{AddrPort: addr, Device: v.Device()})
		}
	}
	if len(list) == 0 && d.local.Load().Has(key.Address) {
		list = append(list, proxy.ListenAddr{AddrPort: key.AddrPort()})
	}
	return list
}

// isVIP reports whether an address is of a View, and not the machine's own.
func (d *daemon) isVIP(addr netip.Addr) bool {
	return slices.ContainsFunc(d.allViews(), func(v *vip.View) bool {
		_, ok := v.ClusterIP(addr)
		return ok
	})
}

// localAddresses returns where a Frontend can be reached other than by its
// own address.
func (d *daemon) localAddresses(key registry.FrontendKey) []netip.AddrPort {
	var list []netip.AddrPort
	for _, l := range d.listenHere(key) {
		if l.AddrPort != key.AddrPort() {
			list = append(list, l.AddrPort)
		}
	}
	return list
}
