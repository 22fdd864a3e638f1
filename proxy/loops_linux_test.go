package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/registry"
)

func init() {
	engines["loop"] = func(o engineOptions) engine {
		e, err := newLoops(o)
		if err != nil {
			panic(err)
		}
		return e
	}
}

// TestExcessIsReset checks that a client too many is told so at once, that
// those who were let in are not disturbed, and that flows make room.
func TestExcessIsReset(t *testing.T) { overEngine(t, "loop", testExcessIsReset) }

func testExcessIsReset(t *testing.T, start starter) {
	var book logBook
	h := start(t, Limits{MaxDescriptors: 2 + 2*perConnection}, book.keep)
	vip, packets := freePort(t, "127.96.0.5"), freePort(t, "127.96.0.6")
	a, _ := serveUDP(t, "a")
	h.serve(vip, tcp, ends(serveTCP(t, echo))...)
	h.serve(packets, udp, ends(a)...)
	for range 2*perConnection + 3 {
		if got, err := exchange(dialUDP(t, packets), "x"); got != "ax" || err != nil {
			t.Fatalf("a flow: %q, %v", got, err)
		}
	}
	if n := h.statsOf(packets).ActiveFlows; n != 2*perConnection {
		t.Errorf("%d flows are open", n)
	}
	h.serve(packets, udp) // all end
	h.serve(packets, udp, ends(a)...)
	first, second := dialTCP(t, vip), dialTCP(t, vip)
	for _, c := range []*net.TCPConn{first, second} {
		if err := exchangeTCP(c, "x"); err != nil {
			t.Fatal(err)
		}
	}
	checkReset := func() {
		t.Helper()
		if _, err := ask(vip); !isReset(err) { // by connect(2) or by read(2)
			t.Errorf("a client too many: %v, want a reset", err)
		}
	}
	for range 20 {
		checkReset()
	}
	if n := book.warnings(); n != 1 {
		t.Errorf("%d warnings, want one", n)
	}
	if err := exchangeTCP(second, "x"); err != nil {
		t.Errorf("one of those let in: %v", err)
	}
	first.Close()
	waitFor(t, "room", func() bool { return h.statsOf(vip).Active == 1 })
	if err := echoOnce(vip); err != nil {
		t.Errorf("when there is room: %v", err)
	}
}

// TestNoDescriptorToAccept checks that clients are reset while this process has
// no descriptor even to accept them, and served when it has.
func TestNoDescriptorToAccept(t *testing.T) { overEngine(t, "loop", testNoDescriptorToAccept) }

func testNoDescriptorToAccept(t *testing.T, start starter) {
	var book logBook
	h := start(t, Limits{}, book.keep)
	vip := freePort(t, "127.96.0.5")
	a, _ := named(t, "a")
	h.serve(vip, tcp, ends(a)...)
	limit := limitDescriptors(t)
	limit(1) // for the client
	_, err := ask(vip)
	for errors.Is(err, syscall.EMFILE) { // somebody else had it for a moment
		_, err = ask(vip)
	}
	limit(100)
	if !isReset(err) {
		t.Errorf("without descriptors: %v, want a reset", err)
	}
	waitFor(t, "a warning", func() bool { return book.warnings() == 1 })
	if got, err := ask(vip); got != "a" || err != nil {
		t.Errorf("with descriptors again: %q, %v", got, err)
	}
}

// TestManyListeners opens and closes many Services at once.
func TestManyListeners(t *testing.T) { overEngine(t, "loop", testManyListeners) }

func testManyListeners(t *testing.T, start starter) {
	h := start(t, Limits{})
	a := serveTCP(t, echo)
	const n = 300
	var vips []netip.AddrPort
	for i := range n {
		vips = append(vips, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 97, 0, byte(i)}), uint16(20000+i)))
	}
	for round := range 2 {
		for _, vip := range vips {
			h.serve(vip, tcp, ends(a)...)
		}
		for _, vip := range vips {
			if err := echoOnce(vip); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		for _, vip := range vips {
			h.remove(vip)
		}
		if _, err := ask(vips[0]); !isRefused(err) {
			t.Fatalf("round %d: after the end: %v, want a refusal", round, err)
		}
	}
}

// TestNoAnswerOfAnother checks that a client whose flow takes the place, and the
// socket, of another one never gets the answer to that.
func TestNoAnswerOfAnother(t *testing.T) { overEngine(t, "loop", testNoAnswerOfAnother) }

func testNoAnswerOfAnother(t *testing.T, start starter) {
	h := start(t, Limits{MaxFlows: 2})
	vip := freePort(t, "127.96.0.5")
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	defer served.Wait()
	defer server.Close()
	served.Go(func() { // answers each datagram after the next one
		var before *net.UDPAddr
		var text string
		buf := make([]byte, 100)
		for {
			n, from, err := server.ReadFromUDP(buf)
			if err != nil {
				return
			}
			if before != nil {
				server.WriteToUDP([]byte(text), before)
			}
			before, text = from, string(buf[:n])
		}
	})
	h.serve(vip, udp, ends(netip.MustParseAddrPort(server.LocalAddr().String()))...)
	for i := range soak(t, 300) {
		c := dialUDP(t, vip)
		text := fmt.Sprint("question ", i)
		io.WriteString(c, text)
		buf := make([]byte, 100)
		c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if n, err := c.Read(buf); err == nil && string(buf[:n]) != text {
			t.Fatalf("asked %q, got the answer to %q", text, buf[:n])
		}
	}
}

// TestErrorIsTakenElsewhere checks that a reset stays one when a splice(2) was
// told of it, and kept that to itself because it had written something.
func TestErrorIsTakenElsewhere(t *testing.T) { overEngine(t, "loop", testErrorIsTakenElsewhere) }

func testErrorIsTakenElsewhere(t *testing.T, start starter) {
	for _, byClient := range []bool{true, false} {
		h := start(t, Limits{})
		vip := freePort(t, "127.96.0.5")
		accepted := make(chan *net.TCPConn)
		finish := make(chan struct{})
		h.serve(vip, tcp, ends(serveTCP(t, func(c *net.TCPConn) {
			io.CopyN(c, c, 1)
			accepted <- c
			<-finish
		}))...)
		client := dialTCP(t, vip)
		if err := exchangeTCP(client, "x"); err != nil {
			t.Fatal(err)
		}
		resets, other := client, <-accepted
		if !byClient {
			resets, other = other, resets
		}
		for _, l := range h.proxy.engine.(*loops).all {
			l.do(func() {
				l.conns.each(func(c *conn) {
					reset(resets)
					fd := c.side(!byClient).fd
					waitFor(t, "the reset", func() bool { return l.opts.tcpState(fd) == tcpClose })
					l.opts.takeError(fd)
				})
			})
		}
		if _, err := other.Read(make([]byte, 1)); !isReset(err) {
			t.Errorf("by the client %v: read %v, want a reset", byClient, err)
		}
		close(finish)
	}
}

// TestBulkTakesAPipe checks that much is moved by splice(2), and that nothing is
// kept for that when it is over.
func TestBulkTakesAPipe(t *testing.T) { overEngine(t, "loop", testBulkTakesAPipe) }

func testBulkTakesAPipe(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	const size = 32 << 20
	h.serve(vip, tcp, ends(serveTCP(t, func(c *net.TCPConn) { c.Write(make([]byte, size)) }))...)
	c := dialTCP(t, vip)
	pipes := &h.proxy.engine.(*loops).pipes
	waitFor(t, "a pipe", func() bool { return pipes.Load() > 0 })
	if n, err := io.Copy(io.Discard, c); n != size || err != nil {
		t.Errorf("read %d bytes, then %v", n, err)
	}
}

// TestNothingToShedWith checks that a loop does not spin when others have taken
// even the descriptor that is kept to reset clients with.
func TestNothingToShedWith(t *testing.T) { overEngine(t, "loop", testNothingToShedWith) }

func testNothingToShedWith(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	a, _ := named(t, "a")
	h.serve(vip, tcp, ends(a)...)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	client := os.NewFile(uintptr(fd), "client")
	defer client.Close()
	h.proxy.engine.(*loops).spare.close()
	limit := limitDescriptors(t)
	limit(0)
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Addr: vip.Addr().As4(), Port: int(vip.Port())}); err != nil {
		t.Fatal(err)
	}
	before := cpuTime(t)
	time.Sleep(300 * time.Millisecond) // the time in which it would spin
	if took := cpuTime(t) - before; took > 100*time.Millisecond {
		t.Errorf("300 ms without a descriptor took %v of the processor", took)
	}
	limit(1000)
	if b, err := io.ReadAll(client); string(b) != "a" || err != nil {
		t.Errorf("read %q, %v; want it to be served", b, err)
	}
}

// TestFlowsForgetLargeDatagrams checks that flows do not hold on to what has been
// answered, nor for the next flow, and that a loop keeps few of those.
func TestFlowsForgetLargeDatagrams(t *testing.T) {
	overEngine(t, "loop", testFlowsForgetLargeDatagrams)
}

func testFlowsForgetLargeDatagrams(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	a, _ := serveUDP(t, "a")
	h.serve(vip, udp, ends(a)...)
	large := strings.Repeat("x", 60000)
	const flows = maxLarge + 4
	for range flows {
		if got, err := exchange(dialUDP(t, vip), large); len(got) != len(large)+1 || err != nil {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
	check := func() {
		for _, l := range h.proxy.engine.(*loops).all {
			l.do(func() {
				for id := range int32(len(l.flows.slabs) * slabSize) {
					if n := cap(l.flows.at(id).last); n > keptDatagram {
						t.Errorf("a flow keeps %d bytes", n)
					}
				}
				if len(l.large) > maxLarge {
					t.Errorf("a loop keeps %d large datagrams", len(l.large))
				}
			})
		}
	}
	check()
	mute, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	h.serve(vip, udp, ends(netip.MustParseAddrPort(mute.LocalAddr().String()))...)
	for i := range uint64(flows) {
		dialUDP(t, vip).Write([]byte(large))
		waitFor(t, "a flow without an answer", func() bool { return h.statsOf(vip).Flows == flows+i+1 })
	}
	h.serve(vip, udp) // all end
	check()
}

// A watchedSocket is Sockets of which the first is watched by every loop already:
// the kernel watches none twice.
type watchedSocket struct{ loops []*loop }

func (s *watchedSocket) Socket(domain, kind int) (int, error) {
	fd, err := unix.Socket(domain, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	for _, l := range s.loops {
		err = errors.Join(err, unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLET, Pad: roleWake}))
	}
	s.loops = nil
	return fd, err
}

// TestUnwatchedListener checks that a listener that the kernel cannot watch for a
// time serves after that. A front is reported meanwhile.
func TestUnwatchedListener(t *testing.T) { overEngine(t, "loop", testUnwatchedListener) }

func testUnwatchedListener(t *testing.T, start starter) {
	s := new(watchedSocket)
	h := start(t, Limits{}, func(setup *setup) {
		setup.listen = func(key registry.FrontendKey) []ListenAddr {
			return []ListenAddr{{AddrPort: key.AddrPort(), Sockets: s}}
		}
	})
	vip, packets := freePort(t, "127.96.0.5"), freePort(t, "127.96.0.6")
	a, _ := named(t, "a")
	s.loops = h.proxy.engine.(*loops).all
	h.serve(vip, tcp, ends(a)...)
	if got, err := ask(vip); got != "a" || err != nil {
		t.Errorf("a connection: %q, %v", got, err)
	}
	b, _ := serveUDP(t, "b")
	s.loops = h.proxy.engine.(*loops).all
	h.serve(packets, udp, ends(b)...)
	if list := h.awaitReports(2); !errors.Is(list[0].Err, syscall.EEXIST) || list[0].Address.AddrPort != packets || list[1].Err != nil {
		t.Errorf("reports %+v; want that %s cannot be watched, and a good one", list, packets)
	}
	if got, err := exchange(dialUDP(t, packets), "x"); got != "bx" || err != nil {
		t.Errorf("a datagram: %q, %v", got, err)
	}
}
