package daemon

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"usher/internal/config"
)

// TestNodePortAddresses has the keywords and ranges of kube-proxy's key.
func TestNodePortAddresses(t *testing.T) {
	var own []netip.Addr
	for s := range strings.SplitSeq("127.0.0.1 172.17.0.1 192.168.1.5 ::1 2001:db8::5", " ") {
		own = append(own, netip.MustParseAddr(s))
	}
	primary := func(network string) netip.Addr {
		if network == "udp6" {
			return netip.Addr{} // there is no network of that family
		}
		return netip.MustParseAddr("192.168.1.5")
	}
	ranges := func(list ...string) (prefixes []netip.Prefix) {
		for _, s := range list {
			prefixes = append(prefixes, netip.MustParsePrefix(s))
		}
		return prefixes
	}
	for _, tt := range []struct {
		c    config.NodePortAddresses
		want string
	}{
		{config.NodePortAddresses{}, "[]"},
		{config.NodePortAddresses{Localhost: true}, "[127.0.0.1 ::1]"},
		{config.NodePortAddresses{Primary: true}, "[192.168.1.5]"},
		{config.NodePortAddresses{Primary: true, Localhost: true}, "[127.0.0.1 192.168.1.5 ::1]"},
		{config.NodePortAddresses{All: true}, fmt.Sprint(own)},
		{config.NodePortAddresses{Ranges: ranges("172.16.0.0/12", "10.0.0.0/8")}, "[172.17.0.1]"},
		{config.NodePortAddresses{Ranges: ranges("0.0.0.0/0")}, "[127.0.0.1 172.17.0.1 192.168.1.5]"},
		{config.NodePortAddresses{Ranges: ranges("2001:db8::/32")}, "[2001:db8::5]"},
	} {
		if got := fmt.Sprint(nodePortAddresses(tt.c, own, primary)); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.c, got, tt.want)
		}
	}
}
