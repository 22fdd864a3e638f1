//go:build amd64 || arm64

package direct

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"usher/internal/client"
)

// newTranslator opens one for the programs of a test.
func newTranslator(t *testing.T, w *world) *Translator {
	t.Helper()
	c, err := client.New(w.server, "")
	if err != nil {
		t.Fatal(err)
	}
	tr, err := Open(Options{
		Client: c, Namespace: "default", ServiceCIDR: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		Say: func(line string) { t.Log("usher: " + line) }, Otherwise: "usher run --net host",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close(); c.Close() })
	return tr
}

// startIn starts a client as a process of a program. It ends with the test.
func startIn(t *testing.T, p *Program, name string, args ...string) *bufio.Reader {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleClient+"="+name, uninterrupted, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started, ended := make(chan error), make(chan struct{})
	go func() { // its thread is of no other use, and ends with it
		runtime.LockOSThread()
		defer close(ended)
		err := p.Enter()
		if err == nil {
			err = cmd.Start()
		}
		if started <- err; err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); <-ended })
	return bufio.NewReader(stdout)
}

// openSocket opens a socket as is said: FAMILY PROTOCOL ADDRESS.
func openSocket(what string) (fd int, err error) {
	f := strings.Fields(what)
	family, kind := unix.AF_INET, unix.SOCK_STREAM
	if strings.HasPrefix(f[0], "6") {
		family = unix.AF_INET6
	}
	if f[1] == "udp" {
		kind = unix.SOCK_DGRAM
	}
	if fd, err = unix.Socket(family, kind, 0); err != nil {
		return -1, err
	}
	if f[0] == "6only" {
		_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1)
	}
	to := address{family: uint16(family)}
	if err := unix.Bind(fd, to.sockaddr(netip.MustParseAddrPort(f[2]))); err != nil {
		return -1, err
	}
	if kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, 5)
	}
	return fd, err
}

// listenMain binds to what its arguments say and prints where that is, then
// waits for the end of its input.
func listenMain(args []string) {
	for _, what := range args {
		fd, err := openSocket(what)
		if err != nil {
			fmt.Println(err)
			continue
		}
		sa, _ := unix.Getsockname(fd)
		_, at := addrPortOf(sa)
		fmt.Println(at)
	}
	_, _ = os.Stdin.Read(make([]byte, 1))
}

// itselfMain listens as its first argument says and echoes a byte, to itself
// at each of the others.
func itselfMain(args []string) {
	fd, err := openSocket(args[0])
	if err != nil {
		panic(err)
	}
	f := os.NewFile(uintptr(fd), "")
	protocol := strings.Fields(args[0])[1]
	if protocol == "udp" {
		c, err := net.FilePacketConn(f)
		if err != nil {
			panic(err)
		}
		go func() {
			for b := make([]byte, 9); ; {
				if n, from, err := c.ReadFrom(b); err == nil {
					_, _ = c.WriteTo(b[:n], from)
				}
			}
		}()
	} else {
		l, err := net.FileListener(f)
		if err != nil {
			panic(err)
		}
		go func() {
			for {
				if c, err := l.Accept(); err == nil {
					_, _ = c.Write([]byte("x"))
					c.Close()
				}
			}
		}()
	}
	for _, to := range args[1:] {
		c, err := net.Dial(protocol, to)
		if err != nil {
			fmt.Println(err)
			continue
		}
		_, _ = c.Write([]byte("x"))
		n, err := c.Read(make([]byte, 9))
		fmt.Println(n, err)
		c.Close()
	}
}

func lines(t *testing.T, r *bufio.Reader, n int) []string {
	t.Helper()
	var list []string
	for range n {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("%q and then %v", list, err)
		}
		list = append(list, strings.TrimSpace(line))
	}
	return list
}

// TestBind runs two programs that listen at the same ports, each at an address
// of its own.
func TestBind(t *testing.T) {
	tr := newTranslator(t, newWorld(t, ""))
	sockets := []string{
		"4 tcp 0.0.0.0:4001", "4 tcp 127.0.0.1:4002", "6 tcp [::]:4003", "6 tcp [::1]:4004",
		"4 udp 0.0.0.0:4001", "6 udp [::]:4002", "4 tcp 0.0.0.0:80",
	}
	for _, own := range []string{"127.244.0.1", "127.244.0.2"} {
		p := tr.Program(netip.MustParseAddr(own))
		out := startIn(t, p, "listen", append(sockets, "4 tcp "+own+":4005")...)
		want := []string{own + ":4001", own + ":4002", own + ":4003", own + ":4004", own + ":4001", own + ":4002", own + ":80", own + ":4005"}
		if diff := cmp.Diff(want, lines(t, out, len(want))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", own, diff)
		}
	}
}

// TestGiven checks that a port that was moved (see runnet.txtar) is found by both
// of its numbers, and by no other protocol.
func TestGiven(t *testing.T) {
	p := new(Translator).Program(netip.MustParseAddr("127.244.0.1"))
	p.given[port{corev1.ProtocolTCP, 80}], p.given[port{corev1.ProtocolTCP, 9000}] = 8080, 9000
	for _, tt := range []struct {
		protocol     corev1.Protocol
		named, given uint16
	}{{corev1.ProtocolTCP, 80, 8080}, {corev1.ProtocolTCP, 9000, 9000}, {corev1.ProtocolTCP, 81, 81}, {corev1.ProtocolUDP, 80, 80}, {corev1.ProtocolUDP, 8080, 8080}} {
		if given, named := p.Given(tt.protocol, tt.named), p.Named(tt.protocol, tt.given); given != tt.given || named != tt.named {
			t.Errorf("%d/%s is given as %d; %d is named %d", tt.named, tt.protocol, given, tt.given, named)
		}
	}
}

// TestBindElsewhere checks what is no way to listen at the own address.
func TestBindElsewhere(t *testing.T) {
	tr := newTranslator(t, newWorld(t, ""))
	p := tr.Program(netip.MustParseAddr("127.244.0.1"))
	out := startIn(t, p, "listen", "4 tcp 127.0.0.9:4001", "4 tcp 127.244.0.9:4001", "4 tcp 0.0.0.0:0", "6only tcp [::]:4001", "6only tcp [::]:4001")
	got := lines(t, out, 5)
	if diff := cmp.Diff([]string{"127.0.0.9:4001", "127.244.0.9:4001"}, got[:2]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for i, prefix := range []string{"0.0.0.0:", "[::1]:", "[::1]:"} {
		if at := got[2+i]; !strings.HasPrefix(at, prefix) || strings.HasSuffix(at, ":0") || strings.HasSuffix(at, ":4001") {
			t.Errorf("%s, want some port of %s", at, prefix)
		}
	}
	// Without an address nothing is asked.
	out = startIn(t, tr.Program(netip.Addr{}), "listen", "4 tcp 127.0.0.1:4001")
	if got := lines(t, out, 1)[0]; got != "127.0.0.1:4001" {
		t.Errorf("without an address of its own: %s", got)
	}
}

// TestItself connects programs to what they call themselves.
func TestItself(t *testing.T) {
	tr := newTranslator(t, newWorld(t, ""))
	tests := []struct {
		name, listen string
		to           []string
	}{
		{"TCP", "4 tcp 0.0.0.0:4001", []string{"127.0.0.1:4001", "127.244.0.1:4001", "[::1]:4001"}},
		{"on IPv6", "6 tcp [::1]:4001", []string{"127.0.0.1:4001", "[::1]:4001"}},
		{"UDP", "4 udp 127.0.0.1:4001", []string{"127.0.0.1:4001", "127.244.0.1:4001"}},
		{"a low port", "4 tcp 0.0.0.0:80", []string{"127.0.0.1:80", "127.244.0.1:80"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := tr.Program(netip.MustParseAddr("127.244.0.1"))
			out := startIn(t, p, "itself", append([]string{tt.listen}, tt.to...)...)
			for i, got := range lines(t, out, len(tt.to)) {
				if got != "1 <nil>" {
					t.Errorf("%s: %s", tt.to[i], got)
				}
			}
		})
	}
}

// TestItselfNoLonger checks that localhost is the machine's again where a
// program has listened before.
func TestItselfNoLonger(t *testing.T) {
	tr := newTranslator(t, newWorld(t, ""))
	p := tr.Program(netip.MustParseAddr("127.244.0.1"))
	other := netip.MustParseAddrPort(backend(t, "other", "127.0.0.1:0"))
	p.given[port{corev1.ProtocolTCP, other.Port()}] = other.Port()
	out := startIn(t, p, "ask", "1", other.String())
	if got := lines(t, out, 1)[0]; got != "other" {
		t.Errorf("got %q", got)
	}
}
