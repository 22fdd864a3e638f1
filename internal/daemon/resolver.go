package daemon

import (
	"context"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"usher/internal/dns"
	"usher/internal/vip"
	"usher/registry"
)

// A resolver is the nameserver of one View.
type resolver struct {
	view     dns.View
	listener atomic.Pointer[dns.Listener] // nil while it is not open
}

// Between two tries to open a nameserver.
const (
	minRetry = time.Second
	maxRetry = 30 * time.Second
)

// podNames has the values of the key dns.pods.
var podNames = map[string]dns.PodNames{
	"disabled": dns.PodsDisabled, "insecure": dns.PodsInsecure, "verified": dns.PodsVerified,
}

// openDNS makes the DNS and opens the nameserver of each View. One whose port
// somebody else has is opened later: it must not stop the rest.
func (d *daemon) openDNS(ctx context.Context) {
	host := dns.NewResolvConf("/etc/resolv.conf")
	upstreams := host.Upstreams
	if len(d.Config.DNS.Upstreams) > 0 {
		upstreams = func() []netip.AddrPort { return d.Config.DNS.Upstreams }
	}
	d.dns = dns.New(dns.Options{
		Store: d.store, Domain: d.Config.ClusterDomain, Upstreams: upstreams, Log: d.Log,
		Pods: podNames[d.Config.DNS.Pods], EndpointPodNames: d.Config.DNS.EndpointPodNames,
		Autopath: d.Config.DNS.Autopath, Search: host.Search,
		IsService: d.isVIP, RebindDomains: d.Config.DNS.RebindDomains,
		ServiceCIDR: append(slices.Clone(d.Config.ServiceCIDRs), d.Config.LoopbackCIDR),
	})
	for _, v := range d.views {
		addr, _, ok := v.Listen(netip.AddrPortFrom(d.serviceIP(registry.DNSOffset), 53))
		if !ok {
			continue
		}
		r := &resolver{view: dnsView(v, addr)}
		r.open(ctx, d)
		d.resolvers = append(d.resolvers, r)
	}
}

// dnsView describes a View to the DNS.
func dnsView(v *vip.View, nameserver netip.AddrPort) dns.View {
	return dns.View{
		Name: v.Name(), Addr: nameserver, Device: v.Device(),
		Address: func(ip netip.Addr) netip.Addr {
			addr, _ := v.Address(ip)
			return addr
		},
		ClusterIP: v.ClusterIP,
		Port: func(key registry.FrontendKey) uint16 {
			addr, _, _ := v.Listen(key.AddrPort())
			return addr.Port()
		},
	}
}

// open tries to open the nameserver's sockets and reports how that went.
func (r *resolver) open(ctx context.Context, d *daemon) bool {
	l, err := d.dns.Listen(ctx, r.view)
	d.reports.nameserver(r.view.Addr, err)
	if err != nil {
		d.Log.Warn("nameserver is not open", "view", r.view.Name, "error", err)
		return false
	}
	r.listener.Store(l)
	return true
}

// serve answers queries until ctx is done, once the sockets could be opened.
func (r *resolver) serve(ctx context.Context, d *daemon) error {
	for wait := minRetry; r.listener.Load() == nil && !r.open(ctx, d); wait = min(2*wait, maxRetry) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
	l := r.listener.Load()
	defer r.listener.Store(nil) // Serve closes it
	return l.Serve(ctx)
}

func (r *resolver) close() error {
	if l := r.listener.Load(); l != nil {
		return l.Close()
	}
	return nil
}

// nameserver returns where the nameserver of a View listens, or "".
func (d *daemon) nameserver(view string) string {
	for _, r := range d.resolvers {
		if r.view.Name == view && r.listener.Load() != nil {
			return r.view.Addr.String()
		}
	}
	return ""
}
