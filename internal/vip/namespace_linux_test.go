package vip

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// setUp brings up a link of the namespace.
func setUp(t *testing.T, name string) netlink.Link {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	return link
}

// localRoutes returns the routes of our protocol, as `ip route` would.
func localRoutes(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family,
			&netlink.Route{Table: unix.RT_TABLE_LOCAL, Protocol: routeProtocol}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			list = append(list, fmt.Sprintf("local %s dev %s src %s", r.Dst, linkName(r.LinkIndex), r.Src))
		}
	}
	return list
}

// A neighbour is a thread in a network namespace of its own: another host.
type neighbour struct {
	t     *testing.T
	calls chan func()
}

// newNeighbour returns a neighbour joined to this namespace by a link, with
// the addresses 192.0.2.1/24 here and 192.0.2.2/24 there.
func newNeighbour(t *testing.T) *neighbour {
	t.Helper()
	n := &neighbour{t: t, calls: make(chan func())}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		for f := range n.calls {
			f()
		}
	}()
	t.Cleanup(func() { close(n.calls); <-done })

	var ns int
	n.do(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	defer unix.Close(ns)
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "here"}, PeerName: "there"}
	if err := netlink.LinkAdd(link); err != nil {
		t.Skipf("SKIP: no pair of links can be made here: %v", err)
	}
	there, err := netlink.LinkByName("there")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetNsFd(there, ns); err != nil {
		t.Fatal(err)
	}
	configure := func(name, cidr string) error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			return err
		}
		return netlink.LinkSetUp(link)
	}
	if err := configure("here", "192.0.2.1/24"); err != nil {
		t.Fatal(err)
	}
	n.do(func() error { return configure("there", "192.0.2.2/24") })
	return n
}

// do runs f in the neighbour's namespace.
func (n *neighbour) do(f func() error) {
	n.t.Helper()
	result := make(chan error)
	n.calls <- func() { result <- f() }
	if err := <-result; err != nil {
		n.t.Fatal(err)
	}
}

// answer opens a TCP listener and a UDP socket on addr, bound to device if that
// is not "". They answer a message by itself in upper case and where it came from.
func answer(t *testing.T, addr, device string) {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var optErr error
		err := c.Control(func(fd uintptr) {
			if device != "" {
				optErr = unix.BindToDevice(int(fd), device)
			}
			if strings.HasPrefix(addr, "[") && optErr == nil {
				optErr = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
			}
		})
		if err != nil {
			return err
		}
		return optErr
	}}
	ln, err := config.Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	udp, err := config.ListenPacket(t.Context(), "udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if line, err := bufio.NewReader(c).ReadString('\n'); err == nil {
				_, _ = c.Write([]byte(reply(line, c.RemoteAddr())))
			}
			c.Close()
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		b := make([]byte, 1024)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo([]byte(reply(string(b[:n]), from)), from)
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		udp.Close()
		<-done
		<-done
	})
}

func reply(message string, from net.Addr) string {
	host, _, _ := net.SplitHostPort(from.String())
	return strings.ToUpper(strings.TrimSpace(message)) + " " + host
}

// ask sends a message to addr and returns the answer.
func ask(ctx context.Context, network, addr string) (string, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	if _, err := c.Write([]byte("hello\n")); err != nil {
		return "", err
	}
	b := make([]byte, 1024)
	n, err := c.Read(b)
	return string(b[:n]), err
}
