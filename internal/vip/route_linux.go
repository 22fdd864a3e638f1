package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// blackholeMetric lets every other route to just that range go first.
const blackholeMetric = 4096

// route returns the route. Both are in the table that is looked at before all
// others: a VPN may have rules that pass the main one by.
func (r FixedRoute) route(lo int) netlink.Route {
	route := newRoute(r.Prefix, lo)
	route.Protocol = unix.RTPROT_STATIC
	if r.Blackhole {
		route.Type, route.Scope, route.Src, route.Priority = unix.RTN_BLACKHOLE, netlink.SCOPE_UNIVERSE, nil, blackholeMetric
		if r.Prefix.Addr().Is4() {
			route.LinkIndex = 0
		}
	}
	return route
}

// String is the route as `ip route` has it.
func (r FixedRoute) String() string {
	if r.Blackhole {
		return fmt.Sprintf("blackhole %s table local proto static metric %d", r.Prefix, blackholeMetric)
	}
	source := source4
	if r.Prefix.Addr().Is6() {
		source = source6
	}
	return fmt.Sprintf("local %s dev lo table local proto static src %s", r.Prefix, source)
}

// Find returns the route that does what r does, as `ip route` has it, or "" if
// there is none. It may be somebody else's.
func (r FixedRoute) Find() (string, error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return "", fmt.Errorf("find lo: %w", err)
	}
	want := r.route(lo.Attrs().Index)
	routes, err := localTable(r.Prefix.Addr())
	if err != nil {
		return "", err
	}
	for _, route := range routes {
		dst, ok := toPrefix(route.Dst)
		if !ok || dst != r.Prefix || route.Type != want.Type || !r.Blackhole && route.LinkIndex != want.LinkIndex {
			continue
		}
		if route.Protocol == want.Protocol {
			return r.String(), nil
		}
		return fmt.Sprintf("%s of protocol %d", strings.Replace(r.String(), " proto static", "", 1), route.Protocol), nil
	}
	return "", nil
}

func localTable(family netip.Addr) ([]netlink.Route, error) {
	f := netlink.FAMILY_V4
	if family.Is6() {
		f = netlink.FAMILY_V6
	}
	routes, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(f, &netlink.Route{Table: unix.RT_TABLE_LOCAL}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return routes, nil
}

// Add adds the route. A range that is in use for something else is refused
// with an *OverlapError.
func (r FixedRoute) Add() error {
	if err := Overlap(r.Prefix); err != nil {
		return err
	}
	return r.change(netlink.RouteAdd)
}

// Remove removes the route.
func (r FixedRoute) Remove() error { return r.change(netlink.RouteDel) }

func (r FixedRoute) change(do func(*netlink.Route) error) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	route := r.route(lo.Attrs().Index)
	return lacking(do(&route))
}

// Overlap returns an *OverlapError if prefix is, in part or as a whole, in use
// for something else than the ClusterIPs of a View, or nil.
func Overlap(prefix netip.Prefix) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	reached, _, err := survey(prefix, lo.Attrs().Index, nil)
	if err != nil {
		return err
	}
	return checkOverlap(prefix, reached)
}

// Leaves returns the interface by which what is sent to addr leaves this
// network namespace, or "" if it stays or goes nowhere.
func Leaves(addr netip.Addr) (string, error) {
	routes, err := netlink.RouteGet(net.IP(addr.AsSlice()))
	for _, none := range []error{unix.EINVAL, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES} { // a blackhole, and its kin
		if errors.Is(err, none) {
			return "", nil
		}
	}
	if err != nil {
		return "", fmt.Errorf("find the route to %s: %w", addr, err)
	}
	for _, route := range routes {
		if route.Type != unix.RTN_UNICAST {
			continue
		}
		link, err := netlink.LinkByIndex(route.LinkIndex)
		if err != nil {
			return "", fmt.Errorf("find the interface to %s: %w", addr, err)
		}
		if link.Attrs().Flags&net.FlagLoopback == 0 {
			return link.Attrs().Name, nil
		}
	}
	return "", nil
}

// LeftBehind returns the ranges whose routes are there and whose Views are
// not: they were killed.
func LeftBehind() ([]netip.Prefix, error) {
	sockets, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return nil, err
	}
	claimed := make(map[string]bool)
	for line := range strings.Lines(string(sockets)) {
		if fields := strings.Fields(line); len(fields) == 8 {
			claimed[fields[7]] = true
		}
	}
	var left []netip.Prefix
	for _, family := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		routes, err := localTable(family)
		if err != nil {
			return nil, err
		}
		for _, route := range routes {
			if dst, ok := toPrefix(route.Dst); ok && route.Protocol == routeProtocol && !claimed[claimName(dst)] {
				left = append(left, dst)
			}
		}
	}
	return left, nil
}
