package vip

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	prefix = netip.MustParsePrefix
	addr   = netip.MustParseAddr
)

func TestLoopbackTwins(t *testing.T) {
	tests := []struct {
		service, loopback string
		clusterIP, local  string // local "": not visible
	}{
		{"10.96.0.0/16", "127.96.0.0/16", "10.96.0.10", "127.96.0.10"},
		{"10.96.0.0/16", "127.96.0.0/16", "10.96.255.254", "127.96.255.254"},
		{"10.96.0.0/16", "127.96.0.0/16", "::ffff:10.96.3.7", "127.96.3.7"},
		{"10.96.0.0/16", "127.96.0.0/16", "10.97.0.1", ""},
		{"10.96.0.0/16", "127.96.0.0/16", "127.96.0.1", ""},
		{"10.96.0.0/16", "127.96.0.0/16", "fd00::1", ""},
		{"10.96.128.0/20", "127.96.16.0/20", "10.96.143.7", "127.96.31.7"},
		{"10.96.0.0/12", "127.96.0.0/12", "10.111.1.2", "127.111.1.2"},
		{"10.43.0.0/24", "127.96.0.0/16", "10.43.0.9", "127.96.0.9"}, // a part of the loopback range
		{"198.18.0.0/16", "127.96.0.0/16", "198.18.5.6", "127.96.5.6"},
		{"10.96.1.2/16", "127.96.3.4/16", "10.96.0.1", "127.96.0.1"}, // host bits in a prefix
	}
	for _, tt := range tests {
		t.Run(tt.service+" "+tt.clusterIP, func(t *testing.T) {
			v, err := Loopback(prefix(tt.service), prefix(tt.loopback))
			if err != nil {
				t.Fatal(err)
			}
			got, ok := v.Address(addr(tt.clusterIP))
			if ok != (tt.local != "") || ok && got != addr(tt.local) {
				t.Fatalf("Address(%s) = %s, %t; want %q", tt.clusterIP, got, ok, tt.local)
			}
			if !ok {
				return
			}
			if back, ok := v.ClusterIP(got); !ok || back != addr(tt.clusterIP).Unmap() {
				t.Errorf("ClusterIP(%s) = %s, %t; want %s", got, back, ok, tt.clusterIP)
			}
		})
	}
}

// TestLoopbackReverseOnlyTwins checks that nothing else in 127.0.0.0/8 is
// taken for a VIP.
func TestLoopbackReverseOnlyTwins(t *testing.T) {
	v, err := Loopback(prefix("10.96.0.0/24"), prefix("127.96.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"127.96.1.1", "127.0.0.1", "10.96.0.1", "::1"} {
		if ip, ok := v.ClusterIP(addr(a)); ok {
			t.Errorf("ClusterIP(%s) = %s, want none", a, ip)
		}
	}
	if v.Name() != "loopback" || v.Device() != "" || v.CIDR() != "127.96.0.0/24" {
		t.Errorf("name %q, device %q, range %q", v.Name(), v.Device(), v.CIDR())
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}

func TestLoopbackRefused(t *testing.T) {
	tests := []struct{ service, loopback, want string }{
		{"10.96.0.0/16", "127.0.0.0/16", "127.0.0.1 has to stay the host's own"},
		{"10.96.0.0/8", "127.0.0.0/8", "127.0.0.1 has to stay the host's own"},
		{"10.96.0.0/16", "10.97.0.0/16", "part of 127.0.0.0/8"},
		{"10.96.0.0/16", "127.0.0.0/7", "part of 127.0.0.0/8"},
		{"10.96.0.0/12", "127.96.0.0/16", "a /12 is needed"},
		{"fd00:10:96::/112", "127.96.0.0/16", "have to be IPv4"},
		{"10.96.0.0/16", "::1/128", "have to be IPv4"},
	}
	for _, tt := range tests {
		_, err := Loopback(prefix(tt.service), prefix(tt.loopback))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Loopback(%s, %s): %v, want %q in it", tt.service, tt.loopback, err, tt.want)
		}
	}
}

func TestListenPorts(t *testing.T) {
	tests := []struct {
		first, port, want uint16
	}{
		{1024, 80, 8080},
		{1024, 443, 8443},
		{1024, 53, 8053},
		{1024, 1, 8001},
		{1024, 1023, 9023},
		{1024, 1024, 1024},
		{1024, 8080, 8080},
		{53, 53, 53},
		{53, 52, 8052},
		{0, 1, 1},
		{65535, 60000, 60000}, // no such port 8000 higher: it fails to open, and that is said
	}
	for _, tt := range tests {
		v, err := Loopback(prefix("10.96.0.0/16"), prefix("127.96.0.0/16"))
		if err != nil {
			t.Fatal(err)
		}
		v.ports = portRule{first: tt.first}
		got, moved, ok := v.Listen(netip.AddrPortFrom(addr("10.96.0.5"), tt.port))
		if want := netip.AddrPortFrom(addr("127.96.0.5"), tt.want); !ok || got != want || moved != (tt.port != tt.want) {
			t.Errorf("ports from %d: Listen(%d) = %s, %t, %t; want %s", tt.first, tt.port, got, moved, ok, want)
		}
	}
	v, err := Loopback(prefix("10.96.0.0/16"), prefix("127.96.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	if got, _, ok := v.Listen(netip.MustParseAddrPort("10.97.0.5:80")); ok {
		t.Errorf("an address of another range is served on %s", got)
	}
}

func TestPortRuleSaysTheWayOut(t *testing.T) {
	if got, want := (portRule{}).String(), "every port is allowed"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	got := portRule{first: 1024, lift: "it is allowed"}.String()
	want := "ports under 1024 are opened 8000 higher, 80 as 8080, until it is allowed"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDescribed checks that another process knows where a View listens.
func TestDescribed(t *testing.T) {
	service := []netip.Prefix{
		netip.MustParsePrefix("fd00:96::/112"), netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("10.98.0.0/16"), netip.MustParsePrefix("10.97.0.0/16"),
	}
	for _, tt := range []struct {
		cidr           string
		first          uint16
		frontend, want string
	}{
		{"127.96.0.0/16", 1024, "10.96.0.5:80", "127.96.0.5:8080"},
		{"127.96.0.0/16", 0, "10.96.0.5:80", "127.96.0.5:80"},
		{"127.96.0.0/16", 0, "[fd00:96::5]:80", "invalid AddrPort"},
		{"127.50.0.0/16,127.97.0.0/16,127.98.0.0/16", 0, "10.96.0.5:80", "127.50.0.5:80"},
		{"127.96.0.0/16,127.97.0.0/16,127.98.0.0/16", 0, "10.98.0.5:80", "127.98.0.5:80"},
		{"127.96.0.0/16,127.50.0.0/16", 0, "10.98.0.5:80", "127.50.0.5:80"}, // that of 10.96.0.0/16 is taken
		{"10.96.0.0/16,fd00:96::/112", 0, "[fd00:96::5]:80", "[fd00:96::5]:80"},
		{"10.96.0.0/16,fd00:96::/112", 1024, "10.96.0.5:5000", "10.96.0.5:5000"},
	} {
		v, err := Described(service, tt.cidr, tt.first)
		if err != nil {
			t.Fatal(err)
		}
		if got, _, _ := v.Listen(netip.MustParseAddrPort(tt.frontend)); got.String() != tt.want {
			t.Errorf("%s from %d: %s is at %s, want %s", tt.cidr, tt.first, tt.frontend, got, tt.want)
		}
	}
	if _, err := Described(service, "everywhere", 0); err == nil {
		t.Error("no error for a range that is none")
	}
}
