package proxy

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"

	"usher/registry"
)

// header returns what a Backend is told before anything that a client of vip
// sends: who that is.
func header(way registry.ClientAddress, client, vip netip.AddrPort) []byte {
	version := byte(2)
	if way == registry.ProxyV1 {
		version = 1
	}
	h := proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(client), net.TCPAddrFromAddrPort(vip))
	b, err := h.Format()
	if err != nil {
		panic(fmt.Sprintf("proxy: PROXY header of %s to %s: %v", client, vip, err)) // they are the ends of one connection
	}
	return b
}
