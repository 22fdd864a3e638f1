//go:build amd64 || arm64

package direct

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// waysUDP are those in which a program may use UDP.
var waysUDP = []string{
	"connect", "connect+msg", "connect+mmsg", "connect+mapped", "connect+nonblock",
	"to", "to+msg", "to+mmsg", "to+mapped", "to+mapped+msg", "to+mapped+mmsg", "to+nonblock", "to+nonblock+mmsg", "to+unspec", "to+trunc",
	"to+dup+msg", "to+dup+fcntl+msg",
}

// TestUDPIsTheKernels lets a program send to a Service, and to its Backend
// without usher: it must see the same, the address that it named as the source
// of answers too.
func TestUDPIsTheKernels(t *testing.T) {
	good := udpBackend(t, "a", "127.0.0.1:0")
	w := newWorld(t, service("good", "10.96.1.1", 80, "UDP", good))
	for _, to := range []string{"10.96.1.1:80", good} {
		want := output(t, plain("datagrams", append([]string{good}, waysUDP...)...))
		got := output(t, w.client("datagrams", append([]string{to}, waysUDP...)...))
		if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
			t.Errorf("%s (-plain +translated):\n%s", to, diff)
		}
	}
}

// TestUDPSilence checks that a program which waits in vain waits as long as it
// would without usher.
func TestUDPSilence(t *testing.T) {
	mute, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	address := mute.LocalAddr().String()
	w := newWorld(t, service("mute", "10.96.1.1", 80, "UDP", address))
	ways := []string{"connect+silent", "connect+msg+silent", "to+silent", "to+msg+silent", "to+nonblock+silent", "to+nonblock+msg+silent"}
	want := output(t, plain("datagrams", append([]string{address}, ways...)...))
	got := output(t, w.client("datagrams", append([]string{"10.96.1.1:80"}, ways...)...))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-plain +translated):\n%s", diff)
	}
}

// waysTCP are those in which a program may connect, and ways6 those of UDP over
// IPv6.
var (
	waysTCP = []string{"block+timeout", "nonblock", "nonblock+mapped", "nonblock+fastopen"}
	ways6   = []string{"connect", "connect+msg", "connect+mmsg", "connect+nonblock", "to", "to+msg", "to+mmsg", "to+nonblock+mmsg", "to+dup+msg"}
)

// nowhere are addresses of the service range that nobody serves, with a Service
// and without.
var nowhere = []string{"10.96.1.1:80", "10.96.1.2:80", "10.96.77.7:4711", "[fd00:96::11]:80", "[fd00:96::77]:4711"}

// attempts are the lines of a script that tries to reach an address.
func attempts(program, to string) string {
	tcp, udp := waysTCP, waysUDP
	if netip.MustParseAddrPort(to).Addr().Is6() {
		tcp, udp = []string{"block+timeout", "nonblock", "nonblock+fastopen"}, ways6
	}
	return fmt.Sprintf("%[1]s=connects %[2]s %[3]s %[4]s; %[1]s=datagrams %[2]s %[3]s %[5]s; ", roleClient, program, to,
		strings.Join(tcp, " "), strings.Join(udp, " "))
}

// counts checks that what takes a default route is counted.
func counts(t *testing.T) {
	t.Helper()
	for _, to := range []string{"192.0.2.77:80", "[2001:db8:ffff::77]:80"} {
		before := sentOutside(t)
		if got := output(t, plain("datagrams", to, "to+unanswered")); got != "to+unanswered: sent\n" {
			t.Fatal(got)
		}
		if sentOutside(t) == before {
			t.Fatalf("a datagram to %s is not counted", to)
		}
	}
}

// TestNothingLeaves checks that no packet to the service range takes the default
// route, of IPv4 or IPv6, whatever a program tries: while usher is there,
// without the daemon, and when usher was killed as well.
func TestNothingLeaves(t *testing.T) {
	for _, mode := range []string{"direct", "proxy"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, service("empty", "10.96.1.1", 80, "UDP")+service("tcp", "10.96.1.2", 80, "TCP")+
				service("empty6", "fd00:96::11", 80, "UDP"))
			w.proxied = mode == "proxy"
			counts(t)
			self := copyOfSelf(t)
			var script strings.Builder
			for _, to := range nowhere {
				script.WriteString(attempts(self, to))
			}
			before := sentOutside(t)
			cmd := w.usher("setsid", "sh", "-c", fmt.Sprintf("exec 3<&0; (while read go; do %s echo end; done) <&3 & echo ready; wait", script.String()))
			say, hear := interactive(t, cmd)
			if got := hear(); got != "ready" {
				t.Fatal(got)
			}
			everything := func(want string) {
				t.Helper()
				say("go")
				for got := hear(); got != "end"; got = hear() {
					if !strings.Contains(got, want) {
						t.Errorf("%s: want %s", got, want)
					}
				}
			}
			everything("ECONNREFUSED")
			w.die()
			everything("ECONNREFUSED")
			_ = cmd.Process.Kill()
			_, _ = cmd.Process.Wait()
			everything("ENOSYS")
			if sent := sentOutside(t) - before; sent != 0 {
				t.Errorf("%d packets to the service range have left", sent)
			}
		})
	}
}

// TestUDPMoves checks that a flow leaves a Backend that no longer serves, even
// while its program waits for an answer, and stays where it is otherwise.
func TestUDPMoves(t *testing.T) {
	a, b, c := udpBackend(t, "a", "127.0.0.1:0"), udpBackend(t, "b", "127.0.0.2:0"), udpBackend(t, "c", "127.0.0.3:0")
	for _, way := range []string{"connect", "dup", "moved", "to"} {
		t.Run(way, func(t *testing.T) {
			w := newWorld(t, service("web", "10.96.0.7", 80, "UDP", a))
			say, hear := interactive(t, w.client("chat", way, "10.96.0.7:80"))
			asks := func() string {
				say("x")
				return strings.Fields(hear())[0]
			}
			if got := asks(); got != "a" {
				t.Fatal(got)
			}
			say("name")
			local := hear()
			w.apply(t, service("web", "10.96.0.7", 80, "UDP", a, b))
			for range 20 {
				if got := asks(); got != "a" {
					t.Fatalf("moved to %s without need", got)
				}
			}
			w.apply(t, service("web", "10.96.0.7", 80, "UDP", b, c))
			// What is under way when the flow moves is lost.
			until(t, "another answers", func() bool { got := asks(); return got == "b" || got == "c" })
			first := asks()
			for range 3 {
				if got := asks(); got != first {
					t.Errorf("%s answers after %s", got, first)
				}
			}
			say("name")
			if got := hear(); got != local {
				t.Errorf("the socket was %s and is %s", local, got)
			}
		})
	}
}
