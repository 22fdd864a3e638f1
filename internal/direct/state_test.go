package direct

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

// TestProxied checks that a program is not connected to a Backend that waits for
// a PROXY header, or is for the proxy alone for another reason, and that a UDP
// flow goes where new ones do.
func TestProxied(t *testing.T) {
	backend, proxy := netip.MustParseAddrPort("10.1.0.5:8080"), netip.MustParseAddrPort("127.96.0.5:80")
	f := &registry.Frontend{
		FrontendKey: registry.FrontendKey{Address: netip.MustParseAddr("10.96.0.5"), Port: 80, Protocol: corev1.ProtocolTCP},
		Backends:    []registry.Backend{{Address: backend}},
	}
	var stays bool
	here := &state{moved: func(_ registry.FrontendKey, serves func(netip.AddrPort) bool) { stays = serves(backend) }}
	at := func(registry.FrontendKey) (netip.AddrPort, bool) { return proxy, true }
	for _, tt := range []struct {
		proxied, all bool
		proxy        func(registry.FrontendKey) (netip.AddrPort, bool)
		want         []netip.AddrPort
	}{
		{false, false, nil, []netip.AddrPort{backend}},
		{true, false, nil, nil},
		{true, false, at, []netip.AddrPort{proxy}},
		{false, false, at, []netip.AddrPort{backend}},
		{false, true, at, []netip.AddrPort{proxy}},
	} {
		f.Proxied, here.allProxied, here.proxy = tt.proxied, tt.all, tt.proxy
		here.serve(f)
		p := here.choose(f.FrontendKey)
		var list []netip.AddrPort
		for i := range p.len() {
			list = append(list, p.address(i))
		}
		if diff := cmp.Diff(tt.want, list, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tt, diff)
		}
		if direct := !tt.proxied && !tt.all; stays != direct {
			t.Errorf("%+v: a flow to the backend stays: %v", tt, stays)
		}
	}
}
