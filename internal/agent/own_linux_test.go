package agent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// A server on every address of the machine has the port: a process that does
// not listen is not ready.
func TestRunPortTaken(t *testing.T) {
	ln, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := corev1.ContainerPort{ContainerPort: int32(ln.Addr().(*net.TCPAddr).Port), Protocol: corev1.ProtocolTCP}
	r := start(t, Workload{Ports: []corev1.ContainerPort{port}, Command: program("idle")})
	r.await(t, 1, "payment-0 | idle")
	says := fmt.Sprintf("something else answers at %s:%d (a server that listens on every address?)", r.pod("payment-0").Status.PodIP, port.ContainerPort)
	r.await(t, 1, "pod/payment-0: "+says)
	r.await(t, 1, "pod/payment-0 not ready: "+says) // silentFor later
	if got := r.lines("status payment-0 Running ready=true"); len(got) > 0 {
		t.Errorf("got %q", got)
	}
}

// A server that does not look at HOST is ready, and makes no other replica so.
func TestRunListensEverywhere(t *testing.T) {
	r := start(t, Workload{Replicas: 3, Ports: []corev1.ContainerPort{tcpPort(t)}, Command: program("family", "everywhere")})
	r.await(t, 1, "pod/payment-0 ")
	r.await(t, 1, "pod/payment-1 ") // ready, or silentFor later not
	r.await(t, 1, "pod/payment-2 ")
	var listens []string
	for i := range 3 {
		if name := fmt.Sprintf("payment-%d", i); len(r.lines(name+" | listening")) > 0 {
			listens = append(listens, "status "+name+" Running ready=true")
		}
	}
	if len(listens) != 1 {
		t.Fatalf("%q listen, want one", listens)
	}
	var ready []string
	for _, line := range r.lines("status") {
		if strings.HasSuffix(line, "ready=true") {
			ready = append(ready, line)
		}
	}
	if diff := cmp.Diff(listens, ready); diff != "" {
		t.Errorf("ready (-want +got):\n%s", diff)
	}
}

// TestListensAt finds the sockets of an address that have no peer.
func TestListensAt(t *testing.T) {
	const addr = "127.244.250.1"
	l, err := net.Listen("tcp4", addr+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mapped := listenMapped(t, addr)
	c, err := net.ListenPacket("udp4", addr+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	client, err := net.Dial("udp4", c.LocalAddr().String()) // from the same address
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	elsewhere, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	port := func(a net.Addr) uint16 { return netip.MustParseAddrPort(a.String()).Port() }
	wantTCP := []uint16{port(l.Addr()), mapped}
	slices.Sort(wantTCP)
	tcp, udp, err := listensAt(netip.MustParseAddr(addr))
	if err != nil || !slices.Equal(tcp, wantTCP) || !slices.Equal(udp, []uint16{port(c.LocalAddr())}) {
		t.Errorf("got TCP %v and UDP %v, %v; want %v and %v", tcp, udp, err, wantTCP, port(c.LocalAddr()))
	}
}

// listenMapped listens at an address of IPv4 with a socket of IPv6.
func listenMapped(t *testing.T, addr string) (port uint16) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	at := &unix.SockaddrInet6{Addr: netip.MustParseAddr("::ffff:" + addr).As16()}
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 0), unix.Bind(fd, at), unix.Listen(fd, 1)); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(sa.(*unix.SockaddrInet6).Port)
}
