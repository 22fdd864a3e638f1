package registry

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPortRangeBands has the examples of KEP-3668.
func TestPortRangeBands(t *testing.T) {
	tests := []struct {
		ports  string
		static uint64
	}{
		{"30000-32767", 86}, {"30000-30015", 0}, {"30000-30016", 16}, {"30000-30511", 16}, {"20000-32767", 128},
	}
	for _, tt := range tests {
		r, err := ParsePortRange(tt.ports)
		if err != nil || r.static() != tt.static || r.String() != tt.ports {
			t.Errorf("%s: %v, static band of %d ports, want %d", tt.ports, err, r.static(), tt.static)
		}
		first, last := r.bounds()
		seen := make(map[int32]bool)
		for port := range r.Candidates("finance/payment-service/80") {
			if seen[port] || !r.Contains(port) {
				t.Fatalf("%s: candidate %d", tt.ports, port)
			}
			dynamic := int32(len(seen)) < int32(last)-int32(first)+1-int32(tt.static)
			if dynamic != (port >= int32(first)+int32(tt.static)) {
				t.Fatalf("%s: candidate %d is %d", tt.ports, len(seen), port)
			}
			seen[port] = true
		}
		if len(seen) != int(last)-int(first)+1 {
			t.Errorf("%s: %d candidates", tt.ports, len(seen))
		}
	}
	if r := (PortRange{}); r.String() != "30000-32767" || !r.Contains(30000) || r.Contains(29999) || r.Contains(32768) {
		t.Errorf("the default is %s", r)
	}
}

func TestValidateServiceCIDR(t *testing.T) {
	cidr := func(cidrs string) string {
		return "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: a, resourceVersion: \"1\"}\nspec: {cidrs: " + cidrs + "}"
	}
	tests := []struct {
		old, now string
		want     []string
	}{
		{"", "[10.0.0.0/24, 'fd00::/112']", nil},
		{"", "[]", []string{"spec.cidrs: Required value: at least one CIDR required"}},
		{"", "[10.0.0.0]", []string{`spec.cidrs[0]: Invalid value: "10.0.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)`}},
		{"", "[10.0.0.1/24]", []string{`spec.cidrs[0]: Invalid value: "10.0.0.1/24": must not have bits set beyond the prefix length`}},
		{"", "[10.0.0.0/24, 10.0.1.0/24]", []string{
			`spec.cidrs: Invalid value: ["10.0.0.0/24","10.0.1.0/24"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64`}},
		{"[10.0.0.0/24]", "[10.0.0.0/24, 'fd00::/112']", nil},
		{"[10.0.0.0/24]", "[10.0.1.0/24]", []string{`spec.cidrs[0]: Invalid value: "10.0.1.0/24": field is immutable`}},
		{"[10.0.0.0/24, 'fd00::/112']", "[10.0.0.0/24]", []string{`spec.cidrs: Invalid value: ["10.0.0.0/24"]: field is immutable`}},
	}
	for _, tt := range tests {
		old := ""
		if tt.old != "" {
			old = cidr(tt.old)
		}
		_, got := check(t, cidr(tt.now), old, oneFamily)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s to %s (-want +got):\n%s", tt.old, tt.now, diff)
		}
	}
}
