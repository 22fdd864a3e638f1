// Package vip makes the virtual IPs of Services reachable. A View is a place
// where they are visible: the host's loopback range, which needs nothing, a route
// that makes the range of ClusterIPs local to a network namespace, or the private
// namespace of one program.
//
// It says where to listen and does not listen itself, and it knows neither
// Services nor the registry. It is the only package that speaks netlink.
package vip

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A View is a place where VIPs are visible. Its methods are safe for
// concurrent use.
type View struct {
	name   string
	device string
	ports  portRule
	netns  uint64
	why    func() string

	// extend makes one more range visible beside those that are.
	extend func(prefix netip.Prefix, shown []twin) (twin, error)

	ranges atomic.Pointer[[]twin] // is replaced, never changed
	mu     sync.Mutex             // held by who replaces it
}

// A twin says that a range of ClusterIPs is seen as another one of the same
// size, an address as the one with the same host bits.
type twin struct {
	cluster, local netip.Prefix
	added          bool         // by Show
	remove         func() error // takes back what was added to the system; nil: nothing
}

// Loopback returns the View of the host's own loopback range: the ClusterIP
// 10.96.x.y is seen as 127.96.x.y there. All of 127.0.0.0/8 is local on Linux,
// and no other host reaches it; elsewhere the addresses have to be aliases of
// the loopback interface. Ports that are privileged and not permitted move,
// see Listen.
//
// Both ranges must be IPv4, the loopback one in 127.0.0.0/8 without 127.0.0.1,
// and at least as large as that of the Services. The reserved ranges are in use
// for something else; Show keeps out of them.
func Loopback(service, loopback netip.Prefix, reserved ...netip.Prefix) (*View, error) {
	wrong := func(why string) error {
		return fmt.Errorf("view Services %s in loopback %s: %s", service, loopback, why)
	}
	switch {
	case !service.Addr().Is4() || !loopback.Addr().Is4():
		return nil, wrong("both ranges have to be IPv4, of which alone the loopback is more than one address")
	case !loopback.Addr().IsLoopback() || loopback.Bits() < 8:
		return nil, wrong("the loopback range has to be part of 127.0.0.0/8")
	case loopback.Bits() > service.Bits():
		return nil, wrong(fmt.Sprintf("the loopback range is smaller than that of the Services: a /%d is needed", service.Bits()))
	}
	local := netip.PrefixFrom(loopback.Addr(), service.Bits()).Masked()
	if local.Contains(netip.AddrFrom4([4]byte{127, 0, 0, 1})) {
		return nil, wrong("127.0.0.1 has to stay the host's own")
	}
	v := &View{
		name:  "loopback",
		ports: probePorts(local.Addr().Next()),
		netns: networkNamespace(),
		extend: func(prefix netip.Prefix, shown []twin) (twin, error) {
			return naturalTwin(prefix, shown, reserved)
		},
	}
	v.ranges.Store(&[]twin{{cluster: service.Masked(), local: local}})
	v.why = func() string { return loopbackNote + "; " + v.ports.String() }
	return v, nil
}

// Described returns a View as its owner describes it to another process: by its
// CIDR and FirstPort. It says what is where, and has nothing to take back.
func Described(service []netip.Prefix, cidr string, firstPort uint16) (*View, error) {
	v := &View{ports: portRule{first: firstPort}}
	var ranges []twin
	left := slices.Clone(service)
	for text := range strings.SplitSeq(cidr, ",") {
		local, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("read the range of a view: %w", err)
		}
		fits := func(s netip.Prefix) bool {
			return s.Bits() == local.Bits() && s.Addr().BitLen() == local.Addr().BitLen()
		}
		i := slices.IndexFunc(left, func(s netip.Prefix) bool {
			return fits(s) && bytes.Equal(s.Addr().AsSlice()[1:], local.Addr().AsSlice()[1:]) // its natural twin, or itself
		})
		if i < 0 {
			i = slices.IndexFunc(left, fits) // the configured one
		}
		if i >= 0 {
			ranges = append(ranges, twin{cluster: left[i].Masked(), local: local.Masked()})
			left = slices.Delete(left, i, i+1)
		}
	}
	v.ranges.Store(&ranges)
	return v, nil
}

// Private returns the View of a network namespace that another process has made
// for its programs. ClusterIPs are seen as they are there, which is that
// process's doing.
func Private(netns uint64, why string, service ...netip.Prefix) *View {
	v := &View{name: "private", netns: netns, why: func() string { return why }}
	var ranges []twin
	for _, prefix := range service {
		ranges = append(ranges, twin{cluster: prefix.Masked(), local: prefix.Masked()})
	}
	v.ranges.Store(&ranges)
	return v
}

// Name returns "loopback", "anyip" or "private".
func (v *View) Name() string { return v.name }

// Address returns the address that a ClusterIP has in the View, and false for
// one that is not visible in it.
func (v *View) Address(clusterIP netip.Addr) (netip.Addr, bool) {
	for _, r := range *v.ranges.Load() {
		if addr, ok := move(clusterIP, r.cluster, r.local); ok {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// ClusterIP returns the ClusterIP that is seen as addr in the View, and false
// for an address that is none of its VIPs. It is the reverse of Address.
func (v *View) ClusterIP(addr netip.Addr) (netip.Addr, bool) {
	for _, r := range *v.ranges.Load() {
		if ip, ok := move(addr, r.local, r.cluster); ok {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

// Listen returns the address to listen on for a Frontend, and false if its
// ClusterIP is not visible in the View. A port that this process may not open
// is moved up by 8000, so that 80 becomes 8080, 443 8443 and 53 8053: always
// the same one, which may also be another port of the same Service.
func (v *View) Listen(frontend netip.AddrPort) (addr netip.AddrPort, moved, ok bool) {
	ip, ok := v.Address(frontend.Addr())
	if !ok {
		return netip.AddrPort{}, false, false
	}
	port := v.ports.open(frontend.Port())
	return netip.AddrPortFrom(ip, port), port != frontend.Port(), true
}

// FirstPort returns the first port that is not moved by Listen, or 0 when none
// is.
func (v *View) FirstPort() uint16 { return v.ports.first }

// Device returns the network device that listeners have to be bound to
// (SO_BINDTODEVICE, which needs no privilege since Linux 5.7), or "". Without
// it an address that is local by a route answers every host of the network.
func (v *View) Device() string { return v.device }

// CIDR returns the ranges of the VIPs in the View, joined by commas.
func (v *View) CIDR() string {
	var cidrs []string
	for _, r := range *v.ranges.Load() {
		cidrs = append(cidrs, r.local.String())
	}
	return strings.Join(cidrs, ",")
}

// NetNS returns the inode of the network namespace that the View is in, as in
// /proc/PID/ns/net, or 0 where there are none.
func (v *View) NetNS() uint64 { return v.netns }

// Why says in a sentence why the View is there and what it lacks.
func (v *View) Why() string { return v.why() }

// Close takes back what the View added to the system, once. Listeners on its
// addresses should be closed by then.
func (v *View) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return releaseAll(*v.ranges.Load())
}

// releaseAll takes back what was added for ranges, the last first.
func releaseAll(ranges []twin) error {
	var errs []error
	for _, t := range slices.Backward(ranges) {
		if t.remove != nil {
			errs = append(errs, t.remove())
		}
	}
	return errors.Join(errs...)
}

// move returns the address of range to with the host bits that addr has in
// range from. The ranges are masked and have as many bits.
func move(addr netip.Addr, from, to netip.Prefix) (netip.Addr, bool) {
	addr = addr.Unmap()
	if !from.Contains(addr) {
		return netip.Addr{}, false
	}
	a, f, t := addr.AsSlice(), from.Addr().AsSlice(), to.Addr().AsSlice()
	for i := range a {
		t[i] |= a[i] &^ f[i] // f has no host bits, and all others in common with a
	}
	moved, _ := netip.AddrFromSlice(t)
	return moved, true
}
