package vip

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"usher/internal/nstest"
)

const holdEnv = "USHER_VIP_TEST_HOLD"

// TestMain is also the process that holds a View until it is killed.
func TestMain(m *testing.M) {
	if cidr := os.Getenv(holdEnv); cidr != "" {
		if _, err := AnyIP(prefix(cidr)); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		println("ready")
		<-time.After(time.Minute)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func TestAnyIP(t *testing.T) {
	if !nstest.In(t, 0) {
		return
	}
	v, err := AnyIP(prefix("10.96.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"local 10.96.0.0/16 dev lo src 127.0.0.1"}, localRoutes(t)); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if v.Name() != "anyip" || v.Device() != "lo" || v.CIDR() != "10.96.0.0/16" || v.NetNS() == 0 {
		t.Errorf("name %q, device %q, range %q, namespace %d", v.Name(), v.Device(), v.CIDR(), v.NetNS())
	}
	if want := "10.96.0.0/16 routed to lo, for this host alone; every port is allowed"; v.Why() != want {
		t.Errorf("why %q, want %q", v.Why(), want)
	}
	listen, moved, ok := v.Listen(netip.MustParseAddrPort("10.96.0.5:80"))
	if !ok || moved || listen != netip.MustParseAddrPort("10.96.0.5:80") {
		t.Fatalf("listen on %s, %t, %t", listen, moved, ok)
	}
	answer(t, listen.String(), v.Device())
	answer(t, "127.244.0.1:8080", "") // backends live on the loopback
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, network := range []string{"tcp", "udp"} {
		for _, to := range []string{listen.String(), "127.244.0.1:8080"} {
			got, err := ask(ctx, network, to)
			if want := "HELLO 127.0.0.1"; err != nil || got != want {
				t.Errorf("%s %s: %q, %v; want %q, the message and where it came from", network, to, got, err, want)
			}
		}
		if _, err := ask(ctx, network, "10.96.0.6:80"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s to a VIP without a listener: %v, want a refusal", network, err)
		}
	}
	for range 2 {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}
	if got := localRoutes(t); len(got) > 0 {
		t.Errorf("after Close there is %v", got)
	}
}

func TestAnyIPDualStack(t *testing.T) {
	if !nstest.In(t, 0) {
		return
	}
	v, err := AnyIP(prefix("10.96.0.0/16"), prefix("fd00:10:96::/112"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"local 10.96.0.0/16 dev lo src 127.0.0.1", "local fd00:10:96::/112 dev lo src ::1"}
	if diff := cmp.Diff(want, localRoutes(t)); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if ip, ok := v.Address(addr("fd00:10:96::5")); !ok || ip != addr("fd00:10:96::5") {
		t.Errorf("the address is %s, %t", ip, ok)
	}
	answer(t, "[fd00:10:96::5]:80", v.Device())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, network := range []string{"tcp", "udp"} {
		if got, err := ask(ctx, network, "[fd00:10:96::5]:80"); err != nil || got != "HELLO ::1" {
			t.Errorf("%s: %q, %v", network, got, err)
		}
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if got := localRoutes(t); len(got) > 0 {
		t.Errorf("after Close there is %v", got)
	}
}

// TestAnyIPOpensAllOrNothing checks that a range that is taken leaves no trace
// of the one before it.
func TestAnyIPOpensAllOrNothing(t *testing.T) {
	if !nstest.In(t, 0) {
		return
	}
	lo := setUp(t, "lo")
	addAddress(t, lo, "fd00:10:96::77/128")
	_, err := AnyIP(prefix("10.96.0.0/16"), prefix("fd00:10:96::/112"))
	if _, ok := errors.AsType[*OverlapError](err); !ok {
		t.Errorf("error %v, want an overlap", err)
	}
	if got := localRoutes(t); len(got) > 0 {
		t.Errorf("left behind: %v", got)
	}
	v, err := AnyIP(prefix("10.96.0.0/16"))
	if err != nil {
		t.Fatalf("the first range is still claimed: %v", err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}

func addAddress(t *testing.T, link netlink.Link, cidr string) {
	t.Helper()
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(link, a); err != nil {
		t.Fatal(err)
	}
}

func addRoute(t *testing.T, cidr string, link netlink.Link, table, kind int) {
	t.Helper()
	_, dst, err := net.ParseCIDR(cidr)
	if err != nil {
		t.Fatal(err)
	}
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Table: table, Type: kind, Scope: netlink.SCOPE_LINK}
	if kind == unix.RTN_LOCAL {
		r.Scope, r.Src = netlink.SCOPE_HOST, net.IPv4(127, 0, 0, 1)
	}
	if err := netlink.RouteAdd(r); err != nil {
		t.Fatal(err)
	}
}

// TestAnyIPOverlap checks that no network that somebody uses is cut off,
// whichever table it is in and whether its interface is up or not.
func TestAnyIPOverlap(t *testing.T) {
	if !nstest.In(t, 0) {
		return
	}
	lo := setUp(t, "lo")
	down := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "down"}, PeerName: "peer"}
	if err := netlink.LinkAdd(down); err != nil {
		t.Skipf("SKIP: no pair of links can be made here: %v", err)
	}
	addRoute(t, "10.96.5.0/24", lo, unix.RT_TABLE_MAIN, unix.RTN_UNICAST)
	addRoute(t, "198.18.0.0/15", lo, 7, unix.RTN_UNICAST)
	addAddress(t, down, "100.96.3.1/24")
	addRoute(t, "0.0.0.0/1", lo, unix.RT_TABLE_MAIN, unix.RTN_UNICAST)

	tests := []struct {
		cidr string
		want string // "": no overlap
	}{
		{"10.96.0.0/16", "the route 10.96.5.0/24 dev lo"},
		{"10.96.5.128/25", "the route 10.96.5.0/24 dev lo"},
		{"198.18.0.0/16", "the route 198.18.0.0/15 dev lo"},
		{"100.96.0.0/16", "the address 100.96.3.1/24 of down"},
		{"127.96.0.0/16", "the route 127.0.0.0/8 dev lo"},
		{"10.97.0.0/16", ""},
	}
	for _, tt := range tests {
		v, err := AnyIP(prefix(tt.cidr))
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.cidr, err)
			} else if err := v.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		overlap, ok := errors.AsType[*OverlapError](err)
		if !ok {
			t.Fatalf("%s: error %v, want an overlap", tt.cidr, err)
		}
		if diff := cmp.Diff([]string{tt.want}, overlap.With); diff != "" {
			t.Errorf("%s overlaps with (-want +got):\n%s", tt.cidr, diff)
		}
	}
	if got := localRoutes(t); len(got) > 0 {
		t.Errorf("left behind: %v", got)
	}
}

// hold starts a process that has the View of a range, and returns once it has.
func hold(t *testing.T, cidr string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), holdEnv+"="+cidr)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "ready\n" {
		_ = cmd.Wait()
		t.Fatalf("the other process says %q, %v", line, err)
	}
	return cmd
}

// TestAnyIPOneOwner checks that two processes do not share a range, and that
// the route of one that was killed is taken over and removed by the next.
func TestAnyIPOneOwner(t *testing.T) {
	if !nstest.In(t, 0) {
		return
	}
	const ours = "local 10.96.0.0/16 dev lo src 127.0.0.1"
	first := hold(t, "10.96.0.0/16")
	_, err := AnyIP(prefix("10.96.0.0/16"))
	if err == nil || !strings.Contains(err.Error(), "another usher has this range") {
		t.Errorf("the second process gets %v", err)
	}
	if diff := cmp.Diff([]string{ours}, localRoutes(t)); diff != "" {
		t.Fatalf("the first one's route (-want +got):\n%s", diff)
	}
	_ = first.Process.Kill()
	_ = first.Wait()
	if diff := cmp.Diff([]string{ours}, localRoutes(t)); diff != "" {
		t.Fatalf("after kill -9 (-want +got):\n%s", diff)
	}

	_, err = AnyIP(prefix("10.96.0.0/12"))
	if want := "`ip route del local 10.96.0.0/16 table local proto 96` removes it"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("another range over the one left behind: %v, want %q in it", err, want)
	}
	v, err := AnyIP(prefix("10.96.0.0/16"))
	if err != nil {
		t.Fatalf("what was left behind is not taken over: %v", err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if got := localRoutes(t); len(got) > 0 {
		t.Errorf("after Close there is %v", got)
	}
}

// TestAnyIPPreparedRoute checks that a route that an administrator added is
// used, and left alone.
func TestAnyIPPreparedRoute(t *testing.T) {
	if !nstest.In(t, 0) {
		return
	}
	addRoute(t, "10.96.0.0/16", setUp(t, "lo"), unix.RT_TABLE_LOCAL, unix.RTN_LOCAL)
	v, err := AnyIP(prefix("10.96.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	answer(t, "10.96.0.5:80", v.Device()) // still local
}

// dropCapabilities takes every capability from the calling thread.
func dropCapabilities() error {
	var none [2]unix.CapUserData
	return unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0])
}

// powerless calls do on a thread without capabilities, which ends with its
// goroutine.
func powerless(do func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := dropCapabilities(); err != nil {
			result <- err
			return
		}
		result <- do()
	}()
	return <-result
}

// TestAnyIPWithoutPrivilege checks what is said to those who may not.
func TestAnyIPWithoutPrivilege(t *testing.T) {
	if !nstest.In(t, 0) {
		return
	}
	setUp(t, "lo")
	err := powerless(func() error {
		_, err := AnyIP(prefix("10.96.0.0/16"))
		return err
	})
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("error %v", err)
	}
}

// TestOtherHostsCannotReachVIPs has a neighbour on the network that routes the
// range here. An address that is local by a route answers it, unless the
// listener is bound to lo.
func TestOtherHostsCannotReachVIPs(t *testing.T) {
	if !nstest.In(t, 0) {
		return
	}
	v, err := AnyIP(prefix("10.96.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	n := newNeighbour(t)
	n.do(func() error {
		_, dst, _ := net.ParseCIDR("10.96.0.0/16")
		return netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: net.IPv4(192, 0, 2, 1)})
	})
	answer(t, "10.96.0.5:80", v.Device())
	answer(t, "10.96.0.6:80", "")
	for _, network := range []string{"tcp", "udp"} {
		for to, reachable := range map[string]bool{"10.96.0.5:80": false, "10.96.0.6:80": true} {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if got, err := ask(ctx, network, to); err != nil || got != "HELLO 127.0.0.1" {
				t.Errorf("%s %s from this host: %q, %v", network, to, got, err)
			}
			n.do(func() error {
				got, err := ask(ctx, network, to)
				switch {
				case reachable && (err != nil || got != "HELLO 192.0.2.2"):
					t.Errorf("%s %s without a device: %q, %v: the test proves nothing", network, to, got, err)
				case !reachable && !errors.Is(err, syscall.ECONNREFUSED):
					t.Errorf("%s %s from another host: %q, %v; want a refusal", network, to, got, err)
				}
				return nil
			})
			cancel()
		}
	}
}

// TestShowAnyIP adds ranges while the View is there, and takes them away: one
// that is hidden answers until it is released.
func TestShowAnyIP(t *testing.T) {
	if !nstest.In(t, 0) {
		return
	}
	v, err := AnyIP(prefix("10.96.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	const base = "local 10.96.0.0/16 dev lo src 127.0.0.1"
	show := func(more []string, failed string, want ...string) {
		t.Helper()
		release, errs := v.Show(prefixes(more...))
		for p, err := range errs {
			if failed == "" || !strings.Contains(err.Error(), failed) {
				t.Errorf("%s: %v, want %q", p, err, failed)
			}
		}
		if failed != "" && len(errs) != 1 {
			t.Errorf("%d ranges failed, want one: %s", len(errs), failed)
		}
		if err := release(); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(append([]string{base}, want...), localRoutes(t)); diff != "" {
			t.Errorf("%v: routes (-want +got):\n%s", more, diff)
		}
	}
	const narrow, wide = "local 10.97.0.0/24 dev lo src 127.0.0.1", "local 10.97.0.0/16 dev lo src 127.0.0.1"
	show([]string{"10.96.0.0/16", "10.97.0.0/24"}, "", narrow)
	show([]string{"10.97.0.0/24", "10.97.0.0/16"}, "", narrow, wide)
	show([]string{"10.97.0.0/16"}, "", wide)
	if want := "10.96.0.0/16,10.97.0.0/16 routed to lo, for this host alone; every port is allowed"; v.Why() != want {
		t.Errorf("why %q, want %q", v.Why(), want)
	}
	addAddress(t, setUp(t, "lo"), "10.98.0.1/32")
	show([]string{"10.97.0.0/16", "10.98.0.0/16"}, "10.98.0.0/16 overlaps with", wide)

	answer(t, "10.97.0.5:80", v.Device())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if got, err := ask(ctx, "tcp", "10.97.0.5:80"); err != nil || got != "HELLO 127.0.0.1" {
		t.Errorf("%q, %v", got, err)
	}
	release, _ := v.Show(nil)
	if _, ok := v.Address(addr("10.97.0.5")); ok {
		t.Error("a range that is hidden is visible")
	}
	if got, err := ask(ctx, "tcp", "10.97.0.5:80"); err != nil {
		t.Errorf("before it is released: %q, %v", got, err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	show([]string{"10.97.0.0/16"}, "", wide)
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if got := localRoutes(t); len(got) > 0 {
		t.Errorf("after Close there is %v", got)
	}
}
