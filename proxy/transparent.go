package proxy

import (
	"net/netip"

	"usher/registry"
)

// source returns the address from which a Backend is dialled for a client of a
// Frontend, or none for what the kernel chooses. It is the address alone: the
// port of a client of this host is taken, by the client itself.
//
// A connection from a loopback address cannot leave the host: Linux refuses it
// over IPv4, and over IPv6 nobody could answer.
func source(f *registry.Frontend, client, backend netip.Addr) netip.Addr {
	if f.ClientAddress != registry.Transparent || client.IsLoopback() && !backend.IsLoopback() {
		return netip.Addr{}
	}
	return client
}
