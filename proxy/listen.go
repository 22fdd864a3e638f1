package proxy

import (
	"context"
	"net"
	"time"
)

// network returns the name of a network that is of one IP family: Go would
// listen to both on an address of IPv6 that allows it.
func network(name string, at ListenAddr) string {
	if at.Addr().Is4() {
		return name + "4"
	}
	return name + "6"
}

// ListenTCP listens at the address. The caller closes what it returns.
func (at ListenAddr) ListenTCP() (*net.TCPListener, error) {
	if at.Sockets != nil {
		return listenElsewhere(at)
	}
	ln, err := listenConfig(at).Listen(context.Background(), network("tcp", at), at.AddrPort.String())
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}

// ListenUDP is ListenTCP for datagrams.
func (at ListenAddr) ListenUDP() (*net.UDPConn, error) {
	if at.Sockets != nil {
		return receiveElsewhere(at)
	}
	conn, err := listenConfig(at).ListenPacket(context.Background(), network("udp", at), at.AddrPort.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// listenConfig returns how sockets are opened at an address.
func listenConfig(at ListenAddr) *net.ListenConfig {
	lc := &net.ListenConfig{Control: prepare(at), KeepAliveConfig: keepAlive}
	lc.SetMultipathTCP(false) // plain sockets, whatever the system's default
	return lc
}

// keepAlive finds a peer that is gone within half a minute.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}
