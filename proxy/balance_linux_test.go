package proxy

import (
	"net/netip"
	"syscall"
	"testing"

	"usher/balancer"
	"usher/registry"
)

// TestLocalFaultsEjectNobodyOfLoops is TestLocalFaultsEjectNobody for the event
// loops.
func TestLocalFaultsEjectNobodyOfLoops(t *testing.T) {
	for errno, ejects := range map[syscall.Errno]bool{
		syscall.EMFILE: false, syscall.ENFILE: false, syscall.ENOBUFS: false, syscall.ENOMEM: false,
		syscall.ECONNREFUSED: true, syscall.EHOSTUNREACH: true, syscall.ETIMEDOUT: true,
	} {
		var p balancer.Picker
		p.Update(&registry.Frontend{Backends: []registry.Backend{
			{Address: netip.MustParseAddrPort("10.0.0.1:80")}, {Address: netip.MustParseAddrPort("10.0.0.2:80")},
		}})
		f := new(frontend)
		f.now.Store(new(registry.Frontend))
		c := conn{acceptor: &acceptor{tally: &newTallies(f, 1)[0]}, choice: p.Pick(netip.Addr{}, 0)}
		l := loop{}
		for range 3 {
			l.failed(&c, 1, errno)
		}
		if got := len(p.Ejections()) > 0; got != ejects {
			t.Errorf("%v ejects: %v, want %v", errno, got, ejects)
		}
	}
}
