package daemon

import (
	"net/netip"

	"usher/internal/dns"
	answers "usher/internal/explain"
	"usher/registry"
)

// explainer returns who answers questions about what the daemon would do.
func (d *daemon) explainer() *answers.Parts {
	p := &answers.Parts{
		Store: d.store, DNS: d.dns, Domain: d.Config.ClusterDomain, Search: dns.NewResolvConf("/etc/resolv.conf").Search,
		Failed: d.reports.failure, Next: d.proxy.Next,
		Listen: func(key registry.FrontendKey) []netip.AddrPort {
			var list []netip.AddrPort
			for _, l := range d.listenHere(key) {
				list = append(list, l.AddrPort)
			}
			return list
		},
	}
	for _, v := range d.views {
		addr, _, _ := v.Listen(netip.AddrPortFrom(d.serviceIP(registry.DNSOffset), 53))
		p.Views = append(p.Views, dnsView(v, addr))
	}
	return p
}

// failure says why a Frontend cannot be listened for at an address, or "".
func (r *reporter) failure(f *registry.Frontend, addr netip.AddrPort) string {
	at := listenPort{addr, f.Protocol}
	r.mu.Lock()
	err := r.failed[f.Service][at]
	r.mu.Unlock()
	if err == nil {
		return ""
	}
	return explain(at, r.d.isVIP(addr.Addr()), err)
}
