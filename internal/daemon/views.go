package daemon

import (
	"errors"
	"fmt"
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
			return vip.Loopback(prefix, c.LoopbackCIDR)
		}
	}
	return nil, errors.New("loopback has room for IPv4 alone, and serviceCIDR is IPv6")
}

// listen returns where the proxy listens for a Frontend: an address in each
// View that has one for it.
func (d *daemon) listen(key registry.FrontendKey) []proxy.ListenAddr {
	var list []proxy.ListenAddr
	for _, v := range d.views {
		if addr, _, ok := v.Listen(key.AddrPort()); ok {
			list = append(list, proxy.ListenAddr{AddrPort: addr, Device: v.Device()})
		}
	}
	return list
}

// isService reports whether an address is in the range of a View.
func (d *daemon) isService(addr netip.Addr) bool {
	return slices.ContainsFunc(d.views, func(v *vip.View) bool {
		_, ok := v.ClusterIP(addr)
		return ok
	})
}

// localAddresses returns where a Frontend can be reached other than by its
// ClusterIP.
func (d *daemon) localAddresses(key registry.FrontendKey) []netip.AddrPort {
	var list []netip.AddrPort
	for _, l := range d.listen(key) {
		if l.AddrPort != key.AddrPort() {
			list = append(list, l.AddrPort)
		}
	}
	return list
}
