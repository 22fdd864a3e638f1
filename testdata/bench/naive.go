//go:build linux

package main

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// The naive proxy is what one writes first in Go: two goroutines and io.Copy a
// connection, a socket and a goroutine a UDP client.

var naiveHost = netip.AddrFrom4([4]byte{127, 0, 10, 3})

// serveNaive runs until it is killed.
func serveNaive() error {
	failed := make(chan error)
	for _, p := range ports {
		addr := netip.AddrPortFrom(naiveHost, p.frontend)
		turn := &rotation{port: p.backend}
		if p.udp {
			conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
			if err != nil {
				return err
			}
			if err := conn.SetReadBuffer(4 << 20); err != nil {
				return err
			}
			go func() { failed <- naiveUDP(conn, turn) }()
			continue
		}
		ln, err := net.Listen("tcp", addr.String())
		if err != nil {
			return err
		}
		go func() { failed <- naiveTCP(ln, turn) }()
	}
	return <-failed
}

// A rotation picks one backend after the other.
type rotation struct {
	port uint16
	next atomic.Uint64
}

func (r *rotation) pick() string {
	host := backendHosts[r.next.Add(1)%uint64(len(backendHosts))]
	return netip.AddrPortFrom(host, r.port).String()
}

func naiveTCP(ln net.Listener, turn *rotation) error {
	for {
		client, err := ln.Accept()
		if err != nil {
			return err
		}
		go naivePipe(client.(*net.TCPConn), turn.pick())
	}
}

func naivePipe(client *net.TCPConn, backend string) {
	defer client.Close()
	conn, err := net.Dial("tcp", backend)
	if err != nil {
		return
	}
	defer conn.Close()
	server := conn.(*net.TCPConn)
	var both sync.WaitGroup
	both.Go(func() { naiveCopy(server, client) })
	naiveCopy(client, server)
	both.Wait()
}

func naiveCopy(to, from *net.TCPConn) {
	io.Copy(to, from)
	to.CloseWrite()
}

// naiveFlows bounds the clients of a port: the oldest makes way.
const naiveFlows = 4096

// naiveUDP passes datagrams on to the backend of their client.
func naiveUDP(conn *net.UDPConn, turn *rotation) error {
	flows := map[netip.AddrPort]net.Conn{}
	var oldest [naiveFlows]netip.AddrPort
	buf := make([]byte, 64<<10)
	for opened := 0; ; {
		n, client, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		backend, open := flows[client]
		if !open {
			if backend, err = net.Dial("udp", turn.pick()); err != nil {
				continue
			}
			slot := &oldest[opened%naiveFlows]
			if old, open := flows[*slot]; open {
				old.Close()
				delete(flows, *slot)
			}
			*slot, flows[client] = client, backend
			opened++
			go naiveAnswer(conn, client, backend)
		}
		backend.Write(buf[:n])
	}
}

// naiveAnswer passes a backend's answers on until its flow makes way.
func naiveAnswer(conn *net.UDPConn, client netip.AddrPort, backend net.Conn) {
	buf := make([]byte, 2048)
	for {
		n, err := backend.Read(buf)
		if err != nil {
			return
		}
		conn.WriteToUDPAddrPort(buf[:n], client)
	}
}
