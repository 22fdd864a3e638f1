package proxy

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

// askFrom is ask as a client with that address.
func askFrom(client string, vip netip.AddrPort) (string, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}, Timeout: patience}
	c, err := d.Dial("tcp4", vip.String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(c)
	return string(b), err
}

// sequence asks n times and returns the answers in a row.
func sequence(t testing.TB, n int, ask func() (string, error)) string {
	t.Helper()
	var got strings.Builder
	for range n {
		answer, err := ask()
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString(answer)
	}
	return got.String()
}

// withAffinity is a change of a Service.
func withAffinity(seconds int32) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		svc.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
	}
}

// TestAffinity has two clients, and a Service whose Backends and affinity
// change while it is used.
func TestAffinity(t *testing.T) { eachEngine(t, testAffinity) }

func testAffinity(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	a, _ := named(t, "a")
	b, _ := named(t, "b")
	c, _ := named(t, "c")
	all := ends(a, b, c)
	h.serveAs(vip, tcp, withAffinity(10800), all...)
	one := func() (string, error) { return askFrom("127.0.0.1", vip) }
	two := func() (string, error) { return askFrom("127.0.0.2", vip) }
	first, second := sequence(t, 1, one), sequence(t, 1, two)
	if first == second {
		t.Errorf("two clients have %s, want one each", first)
	}
	for range 3 {
		if got := sequence(t, 1, one) + sequence(t, 1, two); got != first+second {
			t.Errorf("again they have %s, want %s", got, first+second)
		}
	}
	address := map[string]netip.AddrPort{"a": a, "b": b, "c": c}
	without := slices.DeleteFunc(slices.Clone(all), func(e end) bool { return e.addr == address[first] })
	h.serveAs(vip, tcp, withAffinity(10800), without...)
	moved := sequence(t, 1, one)
	if moved == first || sequence(t, 2, one) != moved+moved || sequence(t, 1, two) != second {
		t.Errorf("without %s the clients have %s and %s", first, moved, sequence(t, 1, two))
	}
	h.serveAs(vip, tcp, withAffinity(60), all...)
	if got := sequence(t, 1, one) + sequence(t, 1, two); got != moved+second {
		t.Errorf("with another time-out they have %s, want %s", got, moved+second)
	}
	h.serve(vip, tcp, all...)
	if got := sequence(t, 3, one); !strings.Contains(got, "a") || !strings.Contains(got, "b") || !strings.Contains(got, "c") {
		t.Errorf("without affinity a client has %s, want all", got)
	}
	h.serveAs(vip, tcp, withAffinity(60), all...)
	first = sequence(t, 1, one)
	if got := sequence(t, 3, one); got != strings.Repeat(first, 3) {
		t.Errorf("with affinity again a client has %s, want %s", got, first)
	}
}

// TestAffinityFollowsWhoAnswers has the Backend of a client refuse.
func TestAffinityFollowsWhoAnswers(t *testing.T) { eachEngine(t, testAffinityFollowsWhoAnswers) }

func testAffinityFollowsWhoAnswers(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	a, _ := named(t, "a")
	dead := ends(freePort(t, "127.0.0.1"), freePort(t, "127.0.0.1"), freePort(t, "127.0.0.1"))
	h.serveAs(vip, tcp, withAffinity(10800), append(dead, ends(a)...)...)
	for i := range 4 { // each is somebody's first
		client := fmt.Sprintf("127.0.0.%d", i+1)
		sequence(t, 1, func() (string, error) { return askFrom(client, vip) })
		before := h.statsOf(vip).DialErrors
		sequence(t, 2, func() (string, error) { return askFrom(client, vip) })
		if n := h.statsOf(vip).DialErrors - before; n != 0 {
			t.Errorf("%d dials failed for a client whose backend has answered", n)
		}
	}
}

// TestUDPAffinity has flows of one client, and one of another.
func TestUDPAffinity(t *testing.T) { eachEngine(t, testUDPAffinity) }

func testUDPAffinity(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	a, _ := serveUDP(t, "a")
	b, stopB := serveUDP(t, "b")
	h.serveAs(vip, udp, withAffinity(10800), ends(a, b)...)
	from := func(client string) string {
		t.Helper()
		c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(client)}, net.UDPAddrFromAddrPort(vip))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		got, err := exchange(c, "")
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := from("127.0.0.1") + from("127.0.0.2") + from("127.0.0.1") + from("127.0.0.1") + from("127.0.0.2")
	if got != "abaab" && got != "babba" {
		t.Fatalf("two clients have %s, want one backend each", got)
	}
	stopB()
	for _, client := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.2"} {
		if got := from(client); got != "a" {
			t.Errorf("%s has %s, want the one that answers", client, got)
		}
	}
	if n := h.statsOf(vip).DialErrors; n != 1 {
		t.Errorf("%d refusals, want one: the client is that of the other backend then", n)
	}
}

// withPolicy is a change of a Service.
func withPolicy(p registry.Policy) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Annotations = map[string]string{registry.AnnotationBalancer: string(p)}
	}
}

// TestLeastConnections has connections that stay and one that ends.
func TestLeastConnections(t *testing.T) { eachEngine(t, testLeastConnections) }

func testLeastConnections(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	serve := func(name string) netip.AddrPort {
		return serveTCP(t, func(c *net.TCPConn) {
			io.WriteString(c, name)
			io.Copy(io.Discard, c)
		})
	}
	h.serveAs(vip, tcp, withPolicy(registry.LeastConnections), ends(serve("a"), serve("b"), freePort(t, "127.0.0.1"))...)
	open := func() (*net.TCPConn, string) {
		t.Helper()
		c, name := dialTCP(t, vip), make([]byte, 1)
		if _, err := io.ReadFull(c, name); err != nil {
			t.Fatal(err)
		}
		return c, string(name)
	}
	conns := make(map[string][]*net.TCPConn)
	for range 12 { // some of them by way of the one that refuses
		c, name := open()
		conns[name] = append(conns[name], c)
	}
	if d := len(conns["a"]) - len(conns["b"]); d < -1 || d > 1 {
		t.Fatalf("%d and %d connections, want as many", len(conns["a"]), len(conns["b"]))
	}
	for _, c := range conns["b"][1:] {
		c.Close()
	}
	waitFor(t, "the end of them", func() bool { return h.statsOf(vip).Active == int64(len(conns["a"])+1) })
	for range 3 {
		if _, name := open(); name != "b" {
			t.Errorf("connected to %s, which has most", name)
		}
	}
}

// TestPolicies has a Service change its policy, over both protocols.
func TestPolicies(t *testing.T) { eachEngine(t, testPolicies) }

func testPolicies(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip, datagrams := freePort(t, "127.96.0.5"), freePort(t, "127.96.0.6")
	a, _ := named(t, "a")
	b, _ := named(t, "b")
	c, _ := serveUDP(t, "a")
	d, _ := serveUDP(t, "b")
	for _, policy := range []registry.Policy{registry.Random, registry.P2C, registry.Maglev, registry.LeastConnections, registry.RoundRobin} {
		h.serveAs(vip, tcp, withPolicy(policy), ends(a, b)...)
		h.serveAs(datagrams, udp, withPolicy(policy), ends(c, d)...)
		stream := sequence(t, 8, func() (string, error) { return ask(vip) })
		flows := sequence(t, 8, func() (string, error) {
			c := dialUDP(t, datagrams)
			defer c.Close()
			return exchange(c, "")
		})
		for _, got := range []string{stream, flows} {
			switch {
			case policy == registry.Maglev && strings.Count(got, got[:1]) != 8:
				t.Errorf("%s: one client has %s", policy, got)
			case policy == registry.RoundRobin && got != "abababab" && got != "babababa":
				t.Errorf("%s: %s", policy, got)
			}
		}
	}
}

// TestHairpin has a Backend connect to its own Service, and get itself.
func TestHairpin(t *testing.T) { eachEngine(t, testHairpin) }

func testHairpin(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	first := make(chan struct{}, 1)
	first <- struct{}{}
	h.serve(vip, tcp, ends(serveTCP(t, func(c *net.TCPConn) {
		select {
		case <-first:
			answer, err := ask(vip)
			fmt.Fprint(c, "I hear ", answer, err)
		default:
			io.WriteString(c, "myself")
		}
	}))...)
	if got, err := ask(vip); got != "I hear myself<nil>" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

// TestEndBeforeAnswer has a client end its half at once, while Backends do not
// answer: the one that does is told of the end.
func TestEndBeforeAnswer(t *testing.T) { eachEngine(t, testEndBeforeAnswer) }

func testEndBeforeAnswer(t *testing.T, start starter) {
	const hedge = 200 * time.Millisecond
	h := start(t, Limits{Hedge: hedge})
	vip := freePort(t, "127.96.0.5")
	a := serveTCP(t, func(c *net.TCPConn) {
		io.Copy(io.Discard, c)
		io.WriteString(c, "a")
	})
	h.serve(vip, tcp, ends(silent(t), silent(t), a)...)
	longest := time.Duration(0)
	for range 3 {
		begin := time.Now()
		c := dialTCP(t, vip)
		c.CloseWrite()
		if got, err := io.ReadAll(c); string(got) != "a" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		longest = max(longest, time.Since(begin))
	}
	if longest < hedge {
		t.Errorf("no silent backend was waited for: the longest took %v", longest)
	}
}

// TestEndMovesOn is the same with a Backend that resets what it has not
// accepted. No byte was sent to it.
func TestEndMovesOn(t *testing.T) { overEngine(t, "loop", testEndMovesOn) }

func testEndMovesOn(t *testing.T, start starter) {
	h := start(t, Limits{Hedge: patience})
	vip := freePort(t, "127.96.0.5")
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := serveTCP(t, func(c *net.TCPConn) {
		io.Copy(io.Discard, c)
		io.WriteString(c, "a")
	})
	h.serve(vip, tcp, ends(netip.MustParseAddrPort(l.Addr().String()), a)...)
	clients := []*net.TCPConn{dialTCP(t, vip), dialTCP(t, vip)} // one of them is its
	for _, c := range clients {
		c.CloseWrite()
	}
	waitFor(t, "both to be dialled", func() bool { return h.statsOf(vip).Connections == 2 })
	time.Sleep(50 * time.Millisecond) // for the end to get there; it need not
	l.Close()
	for _, c := range clients {
		if got, err := io.ReadAll(c); string(got) != "a" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
	}
}
