package vip

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeProtocol marks our routes, so that nobody else's is ever removed. The
// number is not assigned in rtnetlink.h nor used by a routing daemon.
const routeProtocol = 96

// Sources of connections to a VIP. The kernel would take the VIP itself, and
// every client would look the same. 127.0.0.1 is accepted, since it is local,
// and is what clients of the loopback View have too; backends in 127.0.0.0/8
// and VIPs can be reached from it.
var (
	source4 = net.IPv4(127, 0, 0, 1)
	source6 = net.IPv6loopback
)

// AnyIP returns the View in which ClusterIPs are seen as they are: a local
// route to lo for each range makes all its addresses the namespace's own. It
// needs CAP_NET_ADMIN over the network namespace (errors.Is fs.ErrPermission
// if that is missing), or a route somebody made before:
//
//	ip route add local 10.96.0.0/16 dev lo src 127.0.0.1
//
// A range that is used for something else is refused with an *OverlapError.
// Two processes cannot have one range in one network namespace: they would
// fight for its addresses, and the one that ends would take the route away
// from the other. The second gets an error; one that was killed leaves its
// route behind, and the next takes it over. lo is brought up, and stays up.
//
// Plain bind(2) to an IPv6 address of the range fails with EADDRNOTAVAIL:
// listeners need IPV6_FREEBIND or the sysctl net.ipv6.ip_nonlocal_bind.
//
// Close removes a route that the View added or took over.
func AnyIP(service ...netip.Prefix) (*View, error) {
	v := &View{
		name: "anyip", device: "lo", netns: networkNamespace(), extend: routeTwin,
		ports: probePorts(netip.AddrFrom4([4]byte{127, 0, 0, 1})),
	}
	v.why = func() string { return fmt.Sprintf("%s routed to lo, for this host alone; %s", v.CIDR(), v.ports) }
	var routed []twin
	for _, prefix := range service {
		t, err := routeTwin(prefix.Masked(), routed)
		if err != nil {
			return nil, errors.Join(err, releaseAll(routed))
		}
		routed = append(routed, t)
	}
	v.ranges.Store(&routed)
	return v, nil
}

// routeTwin makes a range local, beside those that are.
func routeTwin(prefix netip.Prefix, shown []twin) (twin, error) {
	var own []netip.Prefix
	for _, t := range shown {
		own = append(own, t.local)
	}
	r, err := makeLocal(prefix, own)
	if err != nil {
		return twin{}, fmt.Errorf("make %s local: %w", prefix, err)
	}
	return twin{cluster: prefix, local: prefix, remove: sync.OnceValue(r.remove)}, nil
}

// A localRoute is a route that makes a range local.
type localRoute struct {
	netlink.Route
	ours  bool // it is for us to remove
	claim int  // file descriptor of the claim to the range
}

// makeLocal adds the route for prefix, or takes over one that is there. The
// routes to the ranges of the View's own are in nobody's way.
func makeLocal(prefix netip.Prefix, own []netip.Prefix) (*localRoute, error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find lo: %w", err)
	}
	claim, err := claimRange(prefix)
	if err != nil {
		return nil, err
	}
	r := &localRoute{Route: newRoute(prefix, lo.Attrs().Index), claim: claim}
	if err := r.add(prefix, lo, own); err != nil {
		unix.Close(claim)
		return nil, err
	}
	return r, nil
}

func newRoute(prefix netip.Prefix, lo int) netlink.Route {
	source := source4
	if prefix.Addr().Is6() {
		source = source6
	}
	return netlink.Route{
		LinkIndex: lo,
		Dst:       &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())},
		Src:       source,
		Type:      unix.RTN_LOCAL,
		Table:     unix.RT_TABLE_LOCAL,
		Scope:     netlink.SCOPE_HOST,
		Protocol:  routeProtocol,
	}
}

// add brings the route about. Nothing is changed when the range is in use.
func (r *localRoute) add(prefix netip.Prefix, lo netlink.Link, own []netip.Prefix) error {
	reached, present, err := survey(prefix, lo.Attrs().Index, own)
	if err != nil {
		return err
	}
	if err := checkOverlap(prefix, reached); err != nil {
		return err
	}
	if lo.Attrs().Flags&net.FlagUp == 0 {
		if err := netlink.LinkSetUp(lo); err != nil {
			return fmt.Errorf("bring lo up: %w", lacking(err))
		}
	}
	if present != nil {
		r.ours = present.Protocol == routeProtocol
		return nil
	}
	if err := netlink.RouteAdd(&r.Route); err != nil {
		return fmt.Errorf("add a local route: %w", lacking(err))
	}
	r.ours = true
	return nil
}

// lacking adds to an error what the process would have needed.
func lacking(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: CAP_NET_ADMIN over the network namespace is needed, which root and the owner of a namespace have", err)
	}
	return err
}

// remove takes the route away, if that is for us to do, and gives up the claim.
func (r *localRoute) remove() error {
	defer unix.Close(r.claim)
	if !r.ours {
		return nil
	}
	err := netlink.RouteDel(&r.Route)
	switch {
	case err == nil, errors.Is(err, unix.ESRCH): // somebody else has removed it
		return nil
	case errors.Is(err, fs.ErrPermission): // a privileged process was killed before this one
		return nil
	}
	return fmt.Errorf("remove the local route to %s: %w", r.Dst, err)
}

// nowhere are the types of routes by which nothing is reached: nothing is cut
// off when a range of one becomes local.
var nowhere = []int{unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT, unix.RTN_THROW}

// survey returns what the namespace reaches in the family of prefix, in any
// table and on any interface. The route to lo that makes just prefix local, by
// us or by somebody else, is returned apart, with what the kernel has for it;
// those to the own ranges of a View are left out.
func survey(prefix netip.Prefix, lo int, own []netip.Prefix) (reached []reach, present *netlink.Route, err error) {
	family := netlink.FAMILY_V4
	if prefix.Addr().Is6() {
		family = netlink.FAMILY_V6
	}
	routes, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list routes: %w", err)
	}
	for _, route := range routes {
		dst, ok := toPrefix(route.Dst)
		switch {
		case !ok, slices.Contains(nowhere, route.Type):
		case dst == prefix && route.Type == unix.RTN_LOCAL && route.LinkIndex == lo:
			present = &route
		case slices.Contains(own, dst) && route.Type == unix.RTN_LOCAL && route.LinkIndex == lo:
		default:
			reached = append(reached, reach{dst, describe(dst, route)})
		}
	}
	// The routes of an interface that is down are not there yet.
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, family) })
	if err != nil {
		return nil, nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, addr := range addrs {
		if p, ok := toPrefix(addr.IPNet); ok {
			reached = append(reached, reach{p.Masked(), fmt.Sprintf("the address %s of %s", p, linkName(addr.LinkIndex))})
		}
	}
	return reached, present, nil
}

// dump lists again what changed while it was being listed.
func dump[T any](list func() ([]T, error)) (entries []T, err error) {
	for range 8 {
		if entries, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return entries, err
}

// describe puts a route as `ip route` does.
func describe(dst netip.Prefix, r netlink.Route) string {
	text := "the route " + dst.String()
	if r.Gw != nil {
		text += " via " + r.Gw.String()
	}
	if r.LinkIndex != 0 {
		text += " dev " + linkName(r.LinkIndex)
	}
	if r.Protocol == routeProtocol {
		text += fmt.Sprintf(" (left behind by usher: `ip route del local %s table local proto %d` removes it)", dst, routeProtocol)
	}
	return text
}

func linkName(index int) string {
	if link, err := netlink.LinkByIndex(index); err == nil {
		return link.Attrs().Name
	}
	return fmt.Sprintf("interface %d", index)
}

// toPrefix returns n, or false for a default route without a destination.
func toPrefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits), ok
}

// claimRange claims prefix for this process in its network namespace. The
// claim is the name of an abstract unix socket: those belong to the network
// namespace as routes do, and go with the process however it ends. Nobody can
// connect to it.
func claimRange(prefix netip.Prefix) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open a socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: claimName(prefix)})
	if err == nil {
		return fd, nil
	}
	unix.Close(fd)
	if errors.Is(err, syscall.EADDRINUSE) {
		return -1, errors.New("another usher has this range in this network namespace: stop that one, or set serviceCIDR to another range")
	}
	return -1, fmt.Errorf("claim the range: %w", err)
}

// claimName is the name of the socket that claims a range, as /proc/net/unix
// has it too.
func claimName(prefix netip.Prefix) string { return "@usher/anyip/" + prefix.String() }
