package registry

import (
	"net/netip"
	"testing"
)

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

// TestIPRangeBands has the examples of KEP-3070.
func TestIPRangeBands(t *testing.T) {
	tests := []struct {
		cidr        string
		size        int
		static      uint64
		first, last string // of the dynamic band
	}{
		{"10.96.0.0/28", 14, 0, "10.96.0.1", "10.96.0.14"},
		{"10.96.0.0/26", 62, 16, "10.96.0.17", "10.96.0.62"},
		{"10.96.0.0/24", 254, 16, "10.96.0.17", "10.96.0.254"},
		{"10.96.0.0/22", 1022, 64, "10.96.0.65", "10.96.3.254"},
		{"10.96.0.0/16", 65534, 256, "10.96.1.1", "10.96.255.254"},
		{"10.0.0.0/32", 0, 0, "", ""},
		{"fd00:10:96::/112", 65535, 256, "fd00:10:96::101", "fd00:10:96::ffff"},
	}
	for _, tt := range tests {
		t.Run(tt.cidr, func(t *testing.T) {
			r := NewIPRange(netip.MustParsePrefix(tt.cidr))
			if r.static != tt.static {
				t.Errorf("static band of %d addresses, want %d", r.static, tt.static)
			}
			seen := make(map[netip.Addr]bool)
			n := 0
			for ip := range r.Candidates("finance/payment-service") {
				if seen[ip] || !r.Contains(ip) {
					t.Fatalf("candidate %s: seen %t, contained %t", ip, seen[ip], r.Contains(ip))
				}
				seen[ip] = true
				dynamic := ip.Compare(mustAddr(tt.first)) >= 0 && ip.Compare(mustAddr(tt.last)) <= 0
				if want := n < tt.size-int(tt.static); dynamic != want {
					t.Fatalf("candidate %d is %s: in the dynamic band %t, want %t", n, ip, dynamic, want)
				}
				n++
			}
			if n != tt.size {
				t.Errorf("%d candidates, want %d", n, tt.size)
			}
		})
	}
}

func TestIPRangeContains(t *testing.T) {
	r := NewIPRange(netip.MustParsePrefix("10.96.0.0/16"))
	for ip, want := range map[string]bool{
		"10.96.0.0": false, "10.96.0.1": true, "10.96.255.254": true, "10.96.255.255": false,
		"10.97.0.1": false, "fd00::1": false,
	} {
		if got := r.Contains(mustAddr(ip)); got != want {
			t.Errorf("Contains(%s) = %t, want %t", ip, got, want)
		}
	}
}

// TestCandidatesDependOnOwner checks that a manifest gets the same address on
// every machine, and another one another address.
func TestCandidatesDependOnOwner(t *testing.T) {
	r := NewIPRange(netip.MustParsePrefix("10.96.0.0/16"))
	first := func(owner string) netip.Addr {
		for ip := range r.Candidates(owner) {
			return ip
		}
		return netip.Addr{}
	}
	if got, want := first("finance/payment-service"), mustAddr("10.96.37.195"); got != want {
		t.Errorf("the address of finance/payment-service is %s; on other machines it is %s", got, want)
	}
	if first("a/b") == first("a/c") {
		t.Error("two owners have the same first candidate")
	}
}
