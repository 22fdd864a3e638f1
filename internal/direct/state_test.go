package direct

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

// TestClientAddressIsNotLeftOut checks that a program is not connected to a
// Backend that waits for a PROXY header.
func TestClientAddressIsNotLeftOut(t *testing.T) {
	var s state
	f := &registry.Frontend{
		FrontendKey: registry.FrontendKey{Address: netip.MustParseAddr("10.96.0.5"), Port: 80, Protocol: corev1.ProtocolTCP},
		Backends:    []registry.Backend{{Address: netip.MustParseAddrPort("10.1.0.5:8080")}},
	}
	for _, tt := range []struct {
		way  registry.ClientAddress
		want int
	}{{"", 1}, {registry.ProxyV2, 0}, {"", 1}} {
		f.ClientAddress = tt.way
		s.serve(f)
		if got := s.pick(f.FrontendKey).Len(); got != tt.want {
			t.Errorf("%q: %d backends, want %d", tt.way, got, tt.want)
		}
	}
}
