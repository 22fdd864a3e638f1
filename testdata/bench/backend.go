//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// A port is one of the ports that every peer serves, and the one behind it.
type port struct {
	name     string
	udp      bool
	frontend uint16 // of the peers
	backend  uint16 // on each of backendHosts
}

var ports = []port{
	{"echo", false, 8001, 7001},
	{"sink", false, 8002, 7002},
	{"source", false, 8003, 7003},
	{"udp", true, 8011, 7011},
	{"fresh", true, 8012, 7011}, // one answer for each datagram, where a peer wants to know
	{"flood", true, 8013, 7013},
}

// backendHosts are loopback addresses; all of 127.0.0.0/8 is local.
var backendHosts = []netip.Addr{
	netip.AddrFrom4([4]byte{127, 0, 9, 1}),
	netip.AddrFrom4([4]byte{127, 0, 9, 2}),
	netip.AddrFrom4([4]byte{127, 0, 9, 3}),
	netip.AddrFrom4([4]byte{127, 0, 9, 4}),
}

// portNamed returns one of ports.
func portNamed(name string) port {
	for _, p := range ports {
		if p.name == name {
			return p
		}
	}
	panic("bench: no port " + name)
}

// A backend is all backends but those of the flood: one thread, which does as
// little as it can.
type backend struct {
	loop  *loop
	ready table[func(fd int)] // what to do when a descriptor is
	buf   []byte
	batch *batch
}

// serveBackends runs until it is killed.
func serveBackends() error {
	l, err := newLoop()
	if err != nil {
		return err
	}
	b := &backend{loop: l, buf: make([]byte, 128<<10), batch: newBatch(64, 2048, true)}
	for _, host := range backendHosts {
		for name, serve := range map[string]func(int){"echo": b.echo, "sink": b.sink, "source": b.source} {
			if err := b.listen(host, portNamed(name).backend, serve); err != nil {
				return err
			}
		}
		fd, err := bindUDP(host, portNamed("udp").backend)
		if err != nil {
			return err
		}
		b.add(fd, unix.EPOLLIN, b.echoUDP)
	}
	for {
		for _, event := range l.wait(time.Second) {
			(*b.ready.at(int(event.Fd)))(int(event.Fd))
		}
	}
}

func (b *backend) add(fd int, events uint32, do func(int)) {
	*b.ready.at(fd) = do
	if err := b.loop.add(fd, events); err != nil {
		b.loop.remove(fd)
	}
}

func (b *backend) listen(host netip.Addr, port uint16, serve func(int)) error {
	addr := netip.AddrPortFrom(host, port)
	fd, err := newSocket(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	// Accepted sockets have both from the one that listens.
	for level, option := range map[int]int{unix.SOL_SOCKET: unix.SO_REUSEADDR, unix.IPPROTO_TCP: unix.TCP_NODELAY} {
		if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
			return err
		}
	}
	if err := unix.Bind(fd, sockaddr(addr)); err != nil {
		return fmt.Errorf("bind %s: %w", addr, err)
	}
	if err := unix.Listen(fd, 16384); err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	events := uint32(unix.EPOLLIN)
	if port == portNamed("source").backend {
		events = unix.EPOLLOUT
	}
	b.add(fd, unix.EPOLLIN, func(fd int) { b.accept(fd, events, serve) })
	return nil
}

func (b *backend) accept(listener int, events uint32, serve func(int)) {
	for range 64 { // leave something for the others
		fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		if errno != 0 {
			return
		}
		b.add(int(fd), events, serve)
	}
}

// echo closes what does not take its answer: the load asks for no more than
// fits.
func (b *backend) echo(fd int) {
	n, err := read(fd, b.buf)
	if err == nil {
		_, err = write(fd, b.buf[:n])
	}
	b.check(fd, err)
}

func (b *backend) sink(fd int) {
	_, err := discard(fd, 8<<20)
	b.check(fd, err)
}

func (b *backend) source(fd int) {
	_, err := write(fd, b.buf)
	b.check(fd, err)
}

func (b *backend) check(fd int, err error) {
	if err != nil && !isAgain(err) {
		b.loop.remove(fd)
	}
}

func (b *backend) echoUDP(fd int) {
	if n := b.batch.receive(fd); n > 0 {
		b.batch.sendBack(fd, n)
	}
}

// bindUDP opens a socket with room for bursts, as far as that is allowed.
func bindUDP(host netip.Addr, port uint16) (int, error) {
	addr := netip.AddrPortFrom(host, port)
	fd, err := newSocket(unix.SOCK_DGRAM)
	if err != nil {
		return -1, err
	}
	const room = 8 << 20
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room); err != nil {
			return -1, err
		}
	}
	if err := unix.Bind(fd, sockaddr(addr)); err != nil {
		return -1, fmt.Errorf("bind %s: %w", addr, err)
	}
	return fd, nil
}
