package vip

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func prefixes(cidrs ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, c := range cidrs {
		list = append(list, prefix(c))
	}
	return list
}

// TestShowLoopback adds ranges to the loopback View and takes them away.
func TestShowLoopback(t *testing.T) {
	tests := []struct {
		name   string
		base   [2]string
		more   []string
		want   string            // the ranges of the View
		seen   map[string]string // ClusterIPs and their twins
		failed map[string]string
	}{
		{"one more", [2]string{"10.96.0.0/16", "127.96.0.0/16"}, []string{"10.97.0.0/16"}, "127.96.0.0/16,127.97.0.0/16",
			map[string]string{"10.96.0.1": "127.96.0.1", "10.97.1.2": "127.97.1.2", "10.98.0.1": ""}, nil},
		{"host bits", [2]string{"10.96.0.0/16", "127.96.0.0/16"}, []string{"192.168.7.9/24"}, "127.96.0.0/16,127.168.7.0/24",
			map[string]string{"192.168.7.1": "127.168.7.1"}, nil},
		{"the configured one", [2]string{"10.96.0.0/16", "127.50.0.0/16"}, []string{"10.96.0.0/16", "10.96.3.0/24"}, "127.50.0.0/16",
			map[string]string{"10.96.3.1": "127.50.3.1"}, nil},
		{"one inside another", [2]string{"10.96.0.0/16", "127.96.0.0/16"}, []string{"10.97.0.0/24", "10.97.0.0/16"}, "127.96.0.0/16,127.97.0.0/24,127.97.0.0/16",
			map[string]string{"10.97.0.1": "127.97.0.1", "10.97.1.1": "127.97.1.1"}, nil},
		{"around the configured one", [2]string{"10.96.0.0/16", "127.96.0.0/16"}, []string{"10.96.0.0/12"}, "127.96.0.0/16,127.96.0.0/12",
			map[string]string{"10.96.0.1": "127.96.0.1", "10.97.0.1": "127.97.0.1"}, nil},
		{"where the configured one is", [2]string{"10.96.0.0/16", "127.50.0.0/16"}, []string{"10.50.0.0/24"}, "127.50.0.0/16",
			map[string]string{"10.50.0.1": ""}, map[string]string{"10.50.0.0/24": "it would be seen as 127.50.0.0/24, where 10.96.0.0/16 is"}},
		{"around it, seen elsewhere", [2]string{"10.96.0.0/16", "127.100.0.0/16"}, []string{"10.96.0.0/12"}, "127.100.0.0/16",
			map[string]string{"10.100.0.1": ""}, map[string]string{"10.96.0.0/12": "it would be seen as 127.96.0.0/12, where 10.96.0.0/16 is"}},
		{"two that would be seen as one", [2]string{"10.96.0.0/16", "127.96.0.0/16"}, []string{"10.97.0.0/16", "172.97.0.0/16"}, "127.96.0.0/16,127.97.0.0/16",
			map[string]string{"10.97.0.1": "127.97.0.1", "172.97.0.1": ""}, map[string]string{"172.97.0.0/16": "it would be seen as 127.97.0.0/16, where 10.97.0.0/16 is"}},
		{"reserved", [2]string{"10.96.0.0/16", "127.96.0.0/16"}, []string{"10.240.0.0/16"}, "127.96.0.0/16",
			nil, map[string]string{"10.240.0.0/16": "it would be seen as 127.240.0.0/16, and 127.240.0.0/24 is in use"}},
		{"the host's own address", [2]string{"10.96.0.0/16", "127.96.0.0/16"}, []string{"10.0.0.0/16"}, "127.96.0.0/16",
			nil, map[string]string{"10.0.0.0/16": "it would be seen as 127.0.0.0/16, and 127.0.0.1 has to stay the host's own"}},
		{"IPv6", [2]string{"10.96.0.0/16", "127.96.0.0/16"}, []string{"fd00::/112", "10.97.0.0/16"}, "127.96.0.0/16,127.97.0.0/16",
			nil, map[string]string{"fd00::/112": "loopback has room for 24 bits of IPv4"}},
		{"too large", [2]string{"10.96.0.0/16", "127.96.0.0/16"}, []string{"10.0.0.0/7"}, "127.96.0.0/16",
			nil, map[string]string{"10.0.0.0/7": "loopback has room for 24 bits of IPv4"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := Loopback(prefix(tt.base[0]), prefix(tt.base[1]), prefix("127.240.0.0/24"))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time nothing is new
				_, failed := v.Show(prefixes(tt.more...))
				reasons := map[string]string{}
				for p, err := range failed {
					reasons[p.String()] = err.Error()
				}
				if diff := cmp.Diff(tt.failed, reasons); diff != "" && len(tt.failed)+len(reasons) > 0 {
					t.Errorf("failed (-want +got):\n%s", diff)
				}
				if got := v.CIDR(); got != tt.want {
					t.Errorf("the View has %s, want %s", got, tt.want)
				}
			}
			for ip, want := range tt.seen {
				got, ok := v.Address(addr(ip))
				if ok != (want != "") || ok && got != addr(want) {
					t.Errorf("%s is seen as %s, %t; want %q", ip, got, ok, want)
				}
				if back, ok := v.ClusterIP(got); want != "" && (!ok || back != addr(ip)) {
					t.Errorf("%s is %s, want %s", got, back, ip)
				}
			}
			v.Show(nil)
			if got, _ := v.Address(prefix(tt.base[0]).Addr()); got != prefix(tt.base[1]).Addr() || strings.Contains(v.CIDR(), ",") {
				t.Errorf("after all were taken away the View has %s", v.CIDR())
			}
		})
	}
}
