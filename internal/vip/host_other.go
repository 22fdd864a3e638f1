//go:build !linux

package vip

import (
	"net/netip"
	"os"
)

const loopbackNote = "each address has to be an alias of the loopback interface here (ifconfig lo0 alias)"

// probePorts assumes the rule of the BSDs: the low ports of a particular
// address are for root.
func probePorts(netip.Addr) portRule {
	if os.Geteuid() == 0 {
		return portRule{}
	}
	return portRule{first: 1024, lift: "usher is run as root"}
}

// networkNamespace returns 0: there are none.
func networkNamespace() uint64 { return 0 }
