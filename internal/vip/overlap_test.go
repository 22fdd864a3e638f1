package vip

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheckOverlap(t *testing.T) {
	comparePrefix := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	tests := []struct {
		name    string
		prefix  string
		reached []string
		want    *OverlapError
	}{
		{"nothing there", "10.96.0.0/16", nil, nil},
		{"default route", "10.96.0.0/16", []string{"0.0.0.0/0"}, nil},
		{"its halves, as VPNs have them", "10.96.0.0/16", []string{"0.0.0.0/1", "128.0.0.0/1"}, nil},
		{"neighbours", "10.96.0.0/16", []string{"10.95.0.0/16", "10.97.0.0/16", "127.0.0.0/8"}, nil},
		{"a part", "10.96.0.0/16", []string{"10.96.5.0/24"},
			&OverlapError{prefix("10.96.0.0/16"), []string{"10.96.5.0/24"}, prefix("198.18.0.0/16")}},
		{"the same", "10.96.0.0/16", []string{"10.96.0.0/16"},
			&OverlapError{prefix("10.96.0.0/16"), []string{"10.96.0.0/16"}, prefix("198.18.0.0/16")}},
		{"one address", "10.96.0.0/16", []string{"10.96.255.255/32"},
			&OverlapError{prefix("10.96.0.0/16"), []string{"10.96.255.255/32"}, prefix("198.18.0.0/16")}},
		{"a company's network, named once", "10.96.0.0/16", []string{"10.96.1.0/24", "10.0.0.0/8", "10.96.1.1/32"},
			&OverlapError{prefix("10.96.0.0/16"), []string{"10.0.0.0/8"}, prefix("198.18.0.0/16")}},
		{"proposals that are taken", "10.96.0.0/16", []string{"10.0.0.0/8", "198.18.4.0/24"},
			&OverlapError{prefix("10.96.0.0/16"), []string{"10.0.0.0/8"}, prefix("100.96.0.0/16")}},
		{"every proposal is taken", "10.96.0.0/16", []string{"10.0.0.0/8", "198.18.4.0/24", "100.64.0.0/10"},
			&OverlapError{prefix("10.96.0.0/16"), []string{"10.0.0.0/8"}, netip.Prefix{}}},
		{"another range", "192.168.0.0/16", []string{"192.168.1.0/24"},
			&OverlapError{prefix("192.168.0.0/16"), []string{"192.168.1.0/24"}, prefix("10.96.0.0/16")}},
		{"IPv6", "fd00:10:96::/112", []string{"::/0", "fe80::/64", "fd00::/8"},
			&OverlapError{prefix("fd00:10:96::/112"), []string{"fd00::/8"}, netip.Prefix{}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var reached []reach
			for _, r := range tt.reached {
				reached = append(reached, reach{prefix(r), r})
			}
			err := checkOverlap(prefix(tt.prefix), reached)
			var got *OverlapError
			if err != nil && !errors.As(err, &got) {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, comparePrefix); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestOverlapErrorText(t *testing.T) {
	err := &OverlapError{prefix("10.96.0.0/16"), []string{"the route 10.96.5.0/24 dev tun0", "the address 10.96.9.1/24 of eth0"}, prefix("198.18.0.0/16")}
	want := "10.96.0.0/16 overlaps with the route 10.96.5.0/24 dev tun0, the address 10.96.9.1/24 of eth0: " +
		"set serviceCIDR to another range; 198.18.0.0/16 is free"
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
