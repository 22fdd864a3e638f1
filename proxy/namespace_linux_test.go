package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"usher/internal/nstest"
	"usher/registry"
)

// inNamespace is nstest.In with a lo that is up.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if !nstest.In(t, 0) {
		return false
	}
	setLoUp(t)
	return true
}

func setLoUp(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	ifr.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		t.Fatal(err)
	}
}

// TestPorts checks that a port of this host's is taken for one Backend alone,
// and that a Backend to which none is left does not stand in the way of others.
func TestPorts(t *testing.T) {
	if inNamespace(t) {
		eachEngine(t, testPorts)
	}
}

func testPorts(t *testing.T, start starter) {
	h := start(t, Limits{})
	full, free := serveTCP(t, echo), serveTCP(t, echo)
	vip := netip.MustParseAddrPort("127.96.0.5:8080")
	h.serve(vip, tcp, ends(full, free)...)
	const n = 10
	takePorts(t, full, n)
	for i := range n / 2 {
		if err := echoOnce(vip); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
	}
}

// TestMoreSources checks that the one Backend there is can be reached when every
// port from the usual source to it is taken.
func TestMoreSources(t *testing.T) {
	if inNamespace(t) {
		overEngine(t, "loop", testMoreSources)
	}
}

func testMoreSources(t *testing.T, start starter) {
	h := start(t, Limits{})
	full := serveTCP(t, echo)
	vip := netip.MustParseAddrPort("127.96.0.5:8080")
	h.serve(vip, tcp, ends(full)...)
	const n = 10
	takePorts(t, full, n)
	for i := range n / 2 {
		if err := echoOnce(vip); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
	}
}

// takePorts leaves this host n ports to connect from, and takes them for a
// destination until the end of the test.
func takePorts(t *testing.T, to netip.AddrPort, n int) {
	t.Helper()
	const first = 50000
	sysctl := "/proc/sys/net/ipv4/ip_local_port_range"
	usual, err := os.ReadFile(sysctl)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sysctl, fmt.Appendf(nil, "%d %d", first, first+n-1), 0); err != nil {
		t.Skipf("SKIP: the range of ports cannot be set: %v", err)
	}
	t.Cleanup(func() { os.WriteFile(sysctl, usual, 0) })
	for i := range n {
		c, err := net.Dial("tcp4", to.String())
		if err != nil {
			t.Fatalf("connection %d to a backend: %v", i, err)
		}
		t.Cleanup(func() { c.Close() })
	}
}

// TestIPv6 checks that an address of IPv6 can be listened at that no interface
// has, as in a range that is local by a route.
func TestIPv6(t *testing.T) {
	if inNamespace(t) {
		eachEngine(t, testIPv6)
	}
}

func testIPv6(t *testing.T, start starter) {
	h := start(t, Limits{}, func(s *setup) {
		s.listen = func(key registry.FrontendKey) []ListenAddr {
			return []ListenAddr{{AddrPort: key.AddrPort(), Device: "lo"}}
		}
	})
	a, _ := named(t, "a")
	vip := netip.MustParseAddrPort("[fd00:10:96::5]:8080")
	h.serve(vip, tcp, ends(a)...)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.statuses {
		t.Error(s.Err)
	}
	if !h.proxy.own.contains(vip) {
		t.Errorf("%s is not listened at", vip)
	}
}
