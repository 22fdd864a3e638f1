package proxy

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A logBook keeps what is logged.
type logBook struct {
	mu  sync.Mutex // guards the following
	buf bytes.Buffer
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBook) warnings() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.buf.String(), "level=WARN")
}

func (b *logBook) keep(s *setup) { s.log = slog.NewTextHandler(b, nil) }

// TestDescriptorLimit checks that a client for which there are no descriptors
// waits, and that flows make room.
func TestDescriptorLimit(t *testing.T) { overEngine(t, "portable", testDescriptorLimit) }

func testDescriptorLimit(t *testing.T, start starter) {
	var book logBook
	h := start(t, Limits{MaxDescriptors: 2 + 2*perConnection}, book.keep)
	vip, packets := freePort(t, "127.96.0.5"), freePort(t, "127.96.0.6")
	a, _ := serveUDP(t, "a")
	h.serve(vip, tcp, ends(serveTCP(t, echo))...)
	h.serve(packets, udp, ends(a)...)
	for range 2 * perConnection { // one flow more each, as many as there may be
		if got, err := exchange(dialUDP(t, packets), "x"); got != "ax" || err != nil {
			t.Fatalf("a flow: %q, %v", got, err)
		}
	}
	if got, err := exchange(dialUDP(t, packets), "x"); got != "ax" || err != nil || h.statsOf(packets).ActiveFlows != 4 {
		t.Errorf("one flow too many: %q, %v, and %d are open", got, err, h.statsOf(packets).ActiveFlows)
	}
	h.serve(packets, udp) // all end
	h.serve(packets, udp, ends(a)...)

	ping := func(c *net.TCPConn) error {
		io.WriteString(c, "x")
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	clients := []*net.TCPConn{dialTCP(t, vip), dialTCP(t, vip), dialTCP(t, vip)}
	for _, c := range clients[:2] {
		if err := ping(c); err != nil {
			t.Fatal(err)
		}
	}
	clients[2].SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if err := ping(clients[2]); !os.IsTimeout(err) {
		t.Fatalf("a client too many: %v, want it to wait", err)
	}
	packet := dialUDP(t, packets)
	packet.Write([]byte("x"))
	waitFor(t, "a datagram to be dropped", func() bool { return h.statsOf(packets).Dropped == 1 })
	if n := book.warnings(); n != 1 {
		t.Errorf("%d warnings, want one", n)
	}
	clients[0].Close()
	clients[2].SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(clients[2], make([]byte, 1)); err != nil {
		t.Errorf("when there is room: %v", err)
	}
}

// TestOutOfDescriptors checks that clients wait while this process has no
// descriptors, to accept them as well as to dial.
func TestOutOfDescriptors(t *testing.T) { overEngine(t, "portable", testOutOfDescriptors) }

func testOutOfDescriptors(t *testing.T, start starter) {
	var book logBook
	h := start(t, Limits{}, book.keep)
	vip := freePort(t, "127.96.0.5")
	a, _ := named(t, "a")
	h.serve(vip, tcp, ends(a)...)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	client := os.NewFile(uintptr(fd), "client")
	defer client.Close()
	timeout := syscall.NsecToTimeval(int64(patience))
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &timeout); err != nil {
		t.Fatal(err)
	}
	limit := limitDescriptors(t)
	limit(0)
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Addr: vip.Addr().As4(), Port: int(vip.Port())}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a warning", func() bool { return book.warnings() == 1 })
	limit(1) // enough to accept the client, and not to dial
	waitFor(t, "the client to be accepted", func() bool { return h.statsOf(vip).Connections == 1 })
	waitFor(t, "a dial to fail", func() bool { return h.statsOf(vip).DialErrors > 0 })
	limit(1000)
	if b, err := io.ReadAll(client); string(b) != "a" || err != nil {
		t.Errorf("read %q, %v; want it to be served", b, err)
	}
	if n := book.warnings(); n != 1 {
		t.Errorf("%d warnings, want one", n)
	}
}

// limitDescriptors returns what lets this process have but n more, until the
// end of the test. The limit is one of numbers, below which n are free.
func limitDescriptors(t *testing.T) func(n int) {
	t.Helper()
	collect := debug.SetGCPercent(-1) // it closes the kernel pipes that Go keeps for others
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	set := func(n int) {
		limit := before
		limit.Cur = uint64(n)
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		set(int(before.Cur))
		debug.SetGCPercent(collect)
	})
	return func(n int) {
		set(0) // accept(2) takes one for a moment, though nobody connects
		number := 0
		for ; n > 0; number++ {
			if err := syscall.Fstat(number, new(syscall.Stat_t)); err == syscall.EBADF {
				n--
			}
		}
		set(number)
	}
}

// TestLoopIsLoggedOnce checks that a loop does not fill the log.
func TestLoopIsLoggedOnce(t *testing.T) { eachEngine(t, testLoopIsLoggedOnce) }

func testLoopIsLoggedOnce(t *testing.T, start starter) {
	var book logBook
	h := start(t, Limits{}, book.keep)
	vip := freePort(t, "127.96.0.5")
	h.serve(vip, tcp, ends(vip)...)
	for range 10 {
		if _, err := ask(vip); !isReset(err) {
			t.Errorf("read %v, want a reset", err)
		}
	}
	if n := book.warnings(); n != 1 || !strings.Contains(book.buf.String(), errLoop.Error()) {
		t.Errorf("%d warnings for 10 connections, want one of the loop: %s", n, book.buf.String())
	}
}
