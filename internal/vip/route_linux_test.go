package vip

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"usher/internal/nstest"
)

// TestFixedRoute checks that the routes of an administrator are found, and do
// what they are for.
func TestFixedRoute(t *testing.T) {
	if !nstest.In(t, 0) {
		return
	}
	setUp(t, "lo")
	tests := []struct {
		route FixedRoute
		text  string
		dial  error // to an address of the range where nobody listens
	}{
		{FixedRoute{Prefix: prefix("10.96.0.0/16")}, "local 10.96.0.0/16 dev lo table local proto static src 127.0.0.1", syscall.ECONNREFUSED},
		{FixedRoute{Prefix: prefix("10.96.0.0/16"), Blackhole: true}, "blackhole 10.96.0.0/16 table local proto static metric 4096", syscall.EINVAL},
	}
	addRoute(t, "0.0.0.0/0", dummyLink(t), unix.RT_TABLE_MAIN, unix.RTN_UNICAST)
	for _, tt := range tests {
		if got, err := tt.route.Find(); got != "" || err != nil {
			t.Fatalf("before: %q, %v", got, err)
		}
		if device, err := Leaves(addr("10.96.0.5")); device != "out" || err != nil {
			t.Errorf("before: what is sent leaves by %q, %v", device, err)
		}
		if err := tt.route.Add(); err != nil {
			t.Fatal(err)
		}
		if got, err := tt.route.Find(); got != tt.text || err != nil {
			t.Errorf("found %q, %v, want %q", got, err, tt.text)
		}
		if device, err := Leaves(addr("10.96.0.5")); device != "" || err != nil {
			t.Errorf("with %s what is sent leaves by %q, %v", tt.text, device, err)
		}
		c, err := net.DialTimeout("tcp", "10.96.0.5:80", 10*time.Second)
		if !errors.Is(err, tt.dial) {
			t.Errorf("with %s: %v, %v, want %v", tt.text, c, err, tt.dial)
		}
		if err := tt.route.Remove(); err != nil {
			t.Error(err)
		}
		if got, err := tt.route.Find(); got != "" || err != nil {
			t.Errorf("after: %q, %v", got, err)
		}
	}
}

// dummyLink returns an interface by which packets can leave, into nothing.
func dummyLink(t *testing.T) netlink.Link {
	t.Helper()
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "out"}, PeerName: "peer"}
	if err := netlink.LinkAdd(pair); err != nil {
		t.Skipf("SKIP: no pair of links can be made here: %v", err)
	}
	return setUp(t, "out")
}

// TestAnyIPBesideBlackhole checks that a route that leads nowhere is in nobody's
// way, and is back when the View ends.
func TestAnyIPBesideBlackhole(t *testing.T) {
	if !nstest.In(t, 0) {
		return
	}
	setUp(t, "lo")
	hole := FixedRoute{Prefix: prefix("10.96.0.0/16"), Blackhole: true}
	if err := hole.Add(); err != nil {
		t.Fatal(err)
	}
	v, err := AnyIP(prefix("10.96.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	answer(t, "10.96.0.5:80", v.Device())
	if got, err := ask(t.Context(), "tcp", "10.96.0.5:80"); err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := hole.Find(); got != hole.String() || err != nil {
		t.Errorf("found %q, %v", got, err)
	}
	if got, err := (FixedRoute{Prefix: prefix("10.96.0.0/16")}).Find(); got != "local 10.96.0.0/16 dev lo table local src 127.0.0.1 of protocol 96" || err != nil {
		t.Errorf("the View's own route is %q, %v", got, err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if _, err := net.DialTimeout("tcp", "10.96.0.5:80", 10*time.Second); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("after Close: %v", err)
	}
}

// TestAnyIPOnFixedRoute checks that the route of setup is used without a
// privilege, and left alone.
func TestAnyIPOnFixedRoute(t *testing.T) {
	if !nstest.In(t, 0) {
		return
	}
	setUp(t, "lo")
	fixed := FixedRoute{Prefix: prefix("10.96.0.0/16")}
	if err := fixed.Add(); err != nil {
		t.Fatal(err)
	}
	if err := powerless(func() error {
		v, err := AnyIP(prefix("10.96.0.0/16"))
		if err != nil {
			return err
		}
		return v.Close()
	}); err != nil {
		t.Error(err)
	}
	if got, err := fixed.Find(); got != fixed.String() || err != nil {
		t.Errorf("found %q, %v", got, err)
	}
	if err := powerless(fixed.Remove); !errors.Is(err, syscall.EPERM) {
		t.Errorf("removed without a privilege: %v", err)
	}
}

// TestOverlap checks what is said about a range before it is used, and that the
// routes of usher itself do not count.
func TestOverlap(t *testing.T) {
	if !nstest.In(t, 0) {
		return
	}
	lo := setUp(t, "lo")
	addRoute(t, "10.97.0.0/24", lo, unix.RT_TABLE_MAIN, unix.RTN_UNICAST)
	v, err := AnyIP(prefix("10.96.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := Overlap(prefix("10.96.0.0/16")); err != nil {
		t.Error(err)
	}
	overlap, ok := errors.AsType[*OverlapError](Overlap(prefix("10.97.0.0/16")))
	if !ok || overlap.With[0] != "the route 10.97.0.0/24 dev lo" {
		t.Errorf("overlap %+v", overlap)
	}
	if err := (FixedRoute{Prefix: prefix("10.97.0.0/16")}).Add(); !errors.As(err, &overlap) {
		t.Errorf("a range in use: %v", err)
	}
}

func TestLeftBehind(t *testing.T) {
	if !nstest.In(t, 0) {
		return
	}
	setUp(t, "lo")
	left := func(want ...netip.Prefix) {
		t.Helper()
		got, err := LeftBehind()
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" || err != nil {
			t.Errorf("%v, left behind (-want +got):\n%s", err, diff)
		}
	}
	if err := (FixedRoute{Prefix: prefix("10.97.0.0/16")}).Add(); err != nil {
		t.Fatal(err)
	}
	left()
	holder := hold(t, "10.96.0.0/16")
	left()
	_ = holder.Process.Kill()
	_ = holder.Wait()
	left(prefix("10.96.0.0/16"))
}
