package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"usher/registry"
)

// here is the address of this namespace's in the network of a neighbour.
var here, there = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")

// TestTransparent checks whom a Backend sees when it is dialled from the
// client's own address, and how the proxy does without the capability.
func TestTransparent(t *testing.T) {
	if inNamespace(t) {
		n := newNeighbour(t)
		eachEngine(t, func(t *testing.T, start starter) { testTransparent(t, start, n) })
	}
}

func testTransparent(t *testing.T, start starter, n *neighbour) {
	if err := Transparent(); err != nil {
		t.Fatal(err)
	}
	h := start(t, Limits{})
	helpless := start(t, Limits{}, func(s *setup) {
		able := s.engine
		s.engine = func(o engineOptions) engine {
			o.transparent = false
			return able(o)
		}
	})
	loopback, outside := serveTCP(t, sayClient), n.serve(t)
	refuses, silent := freePort(t, "127.0.0.1"), silent(t)
	for _, tt := range []struct {
		name     string
		harness  *harness
		way      registry.ClientAddress
		client   string
		backends []end
		want     string
	}{
		{"not asked for", h, "", "127.0.0.7", ends(loopback), "127.0.0.1"},
		{"loopback", h, registry.Transparent, "127.0.0.7", ends(loopback), "127.0.0.7"},
		{"address of this host", h, registry.Transparent, here.String(), ends(loopback), here.String()},
		{"after a refusal", h, registry.Transparent, "127.0.0.7", ends(refuses, loopback, refuses), "127.0.0.7"},
		{"after silence", h, registry.Transparent, "127.0.0.7", ends(silent, loopback), "127.0.0.7"},
		{"loopback cannot leave the host", h, registry.Transparent, "127.0.0.7", ends(outside), here.String()},
		{"without the capability", helpless, registry.Transparent, "127.0.0.7", ends(loopback), "127.0.0.1"},
	} {
		vip := freePort(t, "127.96.0.5")
		tt.harness.serveAs(vip, tcp, withClientAddress(tt.way), tt.backends...)
		for range 4 {
			if got, err := askFrom(tt.client, vip); err != nil || got != tt.want {
				t.Errorf("%s: the backend sees %q, %v; want %q", tt.name, got, err, tt.want)
			}
		}
		tt.harness.remove(vip)
	}
}

// TestTransparentNeighbour has a client on another host. Answers to it are for
// this host only when they are routed so; then a Backend sees the client.
func TestTransparentNeighbour(t *testing.T) {
	if inNamespace(t) {
		n := newNeighbour(t)
		eachEngine(t, func(t *testing.T, start starter) { testTransparentNeighbour(t, start, n) })
	}
}

func testTransparentNeighbour(t *testing.T, start starter, n *neighbour) {
	h := start(t, Limits{})
	backend := serveAt(t, here, sayClient)
	vip := netip.AddrPortFrom(here, freePort(t, here.String()).Port())
	h.serveAs(vip, tcp, withClientAddress(registry.Transparent), ends(backend)...)

	// ip rule add from BACKEND ipproto tcp sport PORT lookup 96
	// ip route add local default dev lo table 96
	const table = 96
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	rule := netlink.NewRule()
	rule.Src, rule.IPProto, rule.Table = netlink.NewIPNet(backend.Addr().AsSlice()), unix.IPPROTO_TCP, table
	rule.Sport = netlink.NewRulePortRange(backend.Port(), backend.Port())
	route := &netlink.Route{
		LinkIndex: lo.Attrs().Index, Table: table, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
		Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)},
	}
	if err := errors.Join(netlink.RouteAdd(route), netlink.RuleAdd(rule)); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(netlink.RuleDel(rule), netlink.RouteDel(route)); err != nil {
			t.Error(err)
		}
	}()
	n.do(t, func() error {
		got, err := askFrom(there.String(), vip)
		if err != nil || got != there.String() {
			t.Errorf("the backend sees %q, %v; want %q", got, err, there)
		}
		return nil
	})
}

// sayClient answers with the address of the client.
func sayClient(c *net.TCPConn) { io.WriteString(c, remoteOf(c).Addr().String()) }

// A neighbour is a thread in a network namespace of its own: another host.
type neighbour struct{ calls chan func() }

// newNeighbour returns a neighbour joined to this namespace by a link.
func newNeighbour(t *testing.T) *neighbour {
	t.Helper()
	n := &neighbour{calls: make(chan func())}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		for f := range n.calls {
			f()
		}
	}()
	t.Cleanup(func() { close(n.calls); <-done })
	var ns int
	n.do(t, func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	defer unix.Close(ns)
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "here"}, PeerName: "there"}
	if err := netlink.LinkAdd(link); err != nil {
		t.Skipf("SKIP: no pair of links can be made here: %v", err)
	}
	peer, err := netlink.LinkByName("there")
	if err == nil {
		err = netlink.LinkSetNsFd(peer, ns)
	}
	if err == nil {
		err = configure("here", here)
	}
	if err != nil {
		t.Fatal(err)
	}
	n.do(t, func() error { return configure("there", there) })
	return n
}

// configure gives a link an address and brings it up.
func configure(name string, addr netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(24, 32)}}
	return errors.Join(netlink.AddrAdd(link, a), netlink.LinkSetUp(link))
}

// do runs f in the neighbour's namespace.
func (n *neighbour) do(t *testing.T, f func() error) {
	t.Helper()
	result := make(chan error)
	n.calls <- func() { result <- f() }
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// serve runs a server of the neighbour's.
func (n *neighbour) serve(t *testing.T) (at netip.AddrPort) {
	t.Helper()
	n.do(t, func() error {
		at = serveAt(t, there, sayClient)
		return nil
	})
	return at
}
