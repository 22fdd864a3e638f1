//go:build amd64 || arm64

package direct

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"usher/internal/dns"
)

// namesPort is the port of nameservers. Whatever a program asks there, we
// answer: its resolv.conf stays as it is.
const namesPort = 53

// names is the nameserver of the programs. The zero one leaves names alone.
type names struct {
	server  netip.AddrPort
	server6 netip.AddrPort // for sockets that are for IPv6 alone; not there without IPv6
}

// answers reports whether an address is a nameserver's, in place of which we
// answer.
func (n names) answers(to netip.AddrPort) bool { return to.Port() == namesPort && n.server.IsValid() }

// address returns where we do.
func (n names) address(to netip.AddrPort) netip.AddrPort {
	if to.Addr().Is6() && n.server6.IsValid() {
		return n.server6
	}
	return n.server
}

// owns reports whether an address is one of ours.
func (n names) owns(addr netip.AddrPort) bool { return addr == n.server || addr == n.server6 }

// hidden are the sockets of those who resolve names for programs without asking
// a nameserver from within them: nscd and systemd-resolved. glibc does without.
var hidden = []string{
	"/run/nscd/socket", "/var/run/nscd/socket",
	"/run/systemd/resolve/io.systemd.Resolve", "/var/run/systemd/resolve/io.systemd.Resolve",
}

// hides reports whether a unix socket is not there for programs.
func (n names) hides(path string) bool {
	return n.server.IsValid() && slices.Contains(hidden, path)
}

// serveNames answers for the program's namespace until ctx is done. It has a
// nameserver of its own, since that knows the namespace, gives the ClusterIPs
// as they are, and outlives the daemon. Names that are not ours are asked of
// the nameservers of the host. Until st is listed, questions wait.
func serveNames(ctx context.Context, wg *sync.WaitGroup, o Options, st *state) (names, error) {
	host := dns.NewResolvConf(cmp.Or(o.ResolvConf, "/etc/resolv.conf"))
	server := dns.New(dns.Options{
		Store: st.store, Domain: o.ClusterDomain, ServiceCIDR: st.ranges,
		Upstreams: host.Upstreams, IsService: st.contains, Namespace: o.Namespace,
	})
	l, err := server.Listen(ctx, dns.View{Name: "exec", Addr: netip.AddrPortFrom(localhost, 0)})
	if err != nil {
		return names{}, fmt.Errorf("open a nameserver for the program: %w", err)
	}
	serve := func(l *dns.Listener) {
		<-st.listed
		_ = l.Serve(ctx)
	}
	wg.Go(func() { serve(l) })
	found := names{server: l.Addr()}
	if l6, err := server.Listen(ctx, dns.View{Name: "exec", Addr: netip.AddrPortFrom(netip.IPv6Loopback(), 0)}); err == nil {
		wg.Go(func() { serve(l6) })
		found.server6 = l6.Addr()
	}
	return found, nil
}
