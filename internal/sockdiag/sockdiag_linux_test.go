package sockdiag

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what has to happen.
const patience = 60 * time.Second

// TestOffsets checks where things are against the kernel's own structs.
func TestOffsets(t *testing.T) {
	var info unix.TCPInfo
	for _, tt := range []struct {
		name      string
		got, want uintptr
	}{
		{"rtt", infoRTT, unsafe.Offsetof(info.Rtt)},
		{"total_retrans", infoRetrans, unsafe.Offsetof(info.Total_retrans)},
		{"bytes_acked", infoAcked, unsafe.Offsetof(info.Bytes_acked)},
		{"bytes_received", infoReceived, unsafe.Offsetof(info.Bytes_received)},
		{"segs_in", infoSegments, unsafe.Offsetof(info.Segs_in)},
		{"bytes_sent", infoSent, unsafe.Offsetof(info.Bytes_sent)},
		{"bytes_retrans", infoResent, unsafe.Offsetof(info.Bytes_retrans)},
	} {
		if tt.got != tt.want {
			t.Errorf("%s is at %d, not %d", tt.name, tt.want, tt.got)
		}
	}
}

// TestSent checks that neither a SYN nor a FIN nor what was not acknowledged is
// taken for bytes that have come.
func TestSent(t *testing.T) {
	for _, tt := range []struct {
		s           Socket
		sent, given uint64
	}{
		{Socket{acked: 7, sent: 5}, 5, 5},
		{Socket{acked: 7, sent: 8, resent: 3}, 5, 5},
		{Socket{acked: 4, sent: 10}, 3, 10},
		{Socket{acked: 1}, 0, 0},
		{Socket{}, 0, 0},
		{Socket{acked: 4, sent: 1, resent: 2}, 0, 0},
	} {
		if sent, given := tt.s.Sent(), tt.s.Given(); sent != tt.sent || given != tt.given {
			t.Errorf("%+v: %d and %d", tt, sent, given)
		}
	}
}

// watcher returns a Watcher, where the kernel has that.
func watcher(t *testing.T, buffer int) *Watcher {
	t.Helper()
	w, err := watch(buffer)
	if err != nil {
		t.Skipf("SKIP: %v", err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// A link is a TCP connection over loopback.
type link struct{ client, server *net.TCPConn }

func newLink(t *testing.T, l net.Listener) link {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return link{c.(*net.TCPConn), s.(*net.TCPConn)}
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Skipf("SKIP: %v", err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func cookieOf(t *testing.T, c *net.TCPConn) (cookie uint64) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) { cookie, err = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE) })
	if err != nil {
		t.Fatal(err)
	}
	return cookie
}

func addressOf(a net.Addr) netip.AddrPort {
	p := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// exchange sends 5 bytes there and 7 back.
func (l link) exchange(t *testing.T) {
	t.Helper()
	for _, way := range []struct {
		from, to *net.TCPConn
		n        int
	}{{l.client, l.server, 5}, {l.server, l.client, 7}} {
		if _, err := way.from.Write(make([]byte, way.n)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(way.to, make([]byte, way.n)); err != nil {
			t.Fatal(err)
		}
	}
}

// await waits for word of the end of a socket, among what was found.
func await(t *testing.T, w *Watcher, found map[uint64]Socket, cookie uint64) Socket {
	t.Helper()
	// Nothing may come any more: then Close ends Next.
	timer := time.AfterFunc(patience, func() { w.Close() })
	defer timer.Stop()
	for {
		if s, ok := found[cookie]; ok {
			return s
		}
		if _, err := w.Next(func(s *Socket) { found[s.Cookie] = *s }); err != nil {
			t.Fatalf("the end did not come: %v", err)
		}
	}
}

// TestEnds checks that who is told of the end of a socket knows how many bytes
// went both ways, however it has ended.
func TestEnds(t *testing.T) {
	for _, tt := range []struct {
		name, network, address string
		end                    func(link)
		received               uint64 // by the client, a FIN that came in time too
		reset                  bool
	}{
		{"the client first, and the server much later", "tcp4", "127.0.0.1:0", func(l link) { l.client.Close(); _, _ = io.ReadAll(l.server) }, 7, false},
		{"the server first", "tcp4", "127.0.0.1:0", func(l link) { l.server.Close(); _, _ = io.ReadAll(l.client); l.client.Close() }, 8, false},
		{"over IPv6", "tcp6", "[::1]:0", func(l link) { l.server.Close(); _, _ = io.ReadAll(l.client); l.client.Close() }, 8, false},
		{"the client resets", "tcp4", "127.0.0.1:0", func(l link) { _ = l.client.SetLinger(0); l.client.Close() }, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := watcher(t, wantedBuffer)
			l := newLink(t, listen(t, tt.network, tt.address))
			client, server := cookieOf(t, l.client), cookieOf(t, l.server)
			local, remote := addressOf(l.client.LocalAddr()), addressOf(l.client.RemoteAddr())
			l.exchange(t)
			tt.end(l)
			found := make(map[uint64]Socket)
			c := await(t, w, found, client)
			if !c.Counted || c.Sent() != map[bool]uint64{false: 5}[tt.reset] || c.Received() != tt.received || c.State != Closed {
				t.Errorf("the client's: sent %d, received %d, %+v", c.Sent(), c.Received(), c)
			}
			if !tt.reset && (c.Local != local || c.Remote != remote || c.RTT <= 0 || !c.Answered()) {
				t.Errorf("the client's from %s to %s: %+v", local, remote, c)
			}
			l.server.Close()
			s := await(t, w, found, server)
			if s.Given() != 7 || s.Received() < 5 || s.Received() > 6 || s.Local != remote || s.Remote != local {
				t.Errorf("the server's: sent %d, received %d, %+v", s.Given(), s.Received(), s)
			}
		})
	}
}

// TestRefused checks that a connection that nobody answered can be told.
func TestRefused(t *testing.T) {
	w := watcher(t, wantedBuffer)
	l := listen(t, "tcp4", "127.0.0.1:0")
	to := addressOf(l.Addr())
	l.Close()
	if _, err := net.Dial("tcp", to.String()); err == nil {
		t.Fatal("somebody answered")
	}
	timer := time.AfterFunc(patience, func() { w.Close() })
	defer timer.Stop()
	for seen := false; !seen; {
		_, err := w.Next(func(s *Socket) {
			if s.Remote == to {
				if seen = true; s.Answered() || s.Segments == 0 {
					t.Errorf("%+v", *s)
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestOverrun checks that who was not told of some ends is told of that, and
// finds who is left in a dump.
func TestOverrun(t *testing.T) {
	w := watcher(t, 1)
	listener := listen(t, "tcp4", "127.0.0.1:0")
	stays := newLink(t, listener)
	stays.exchange(t)
	cookie := cookieOf(t, stays.client)
	var gone []uint64
	for lost := false; !lost; {
		for range 50 {
			l := newLink(t, listener)
			gone = append(gone, cookieOf(t, l.client))
			l.client.Close()
			l.server.Close()
		}
		var err error
		if lost, err = w.Next(func(*Socket) {}); err != nil {
			t.Fatal(err)
		}
	}
	found := make(map[uint64]Socket)
	if err := Dump(func(s *Socket) { found[s.Cookie] = *s }); err != nil {
		t.Fatal(err)
	}
	s := found[cookie]
	if s.State != Established || s.Sent() != 5 || s.Received() != 7 || s.RTT <= 0 {
		t.Errorf("the one that stays: %+v", s)
	}
	for _, c := range gone {
		if s, ok := found[c]; ok && s.State == Established {
			t.Errorf("one that has gone is there: %+v", s)
		}
	}
}

// TestDumpStates checks that a dump says which directions have ended.
func TestDumpStates(t *testing.T) {
	l := newLink(t, listen(t, "tcp4", "127.0.0.1:0"))
	l.exchange(t)
	if err := l.server.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(l.client)
	cookie, seen := cookieOf(t, l.client), false
	if err := Dump(func(s *Socket) {
		if s.Cookie == cookie {
			if seen = true; s.State != CloseWait || !s.State.PeerEnded() || s.Received() != 8 {
				t.Errorf("%+v", *s)
			}
		}
	}); err != nil || !seen {
		t.Errorf("seen: %v, %v", seen, err)
	}
}

// TestClosed checks that a Watcher that is closed waits no longer.
func TestClosed(t *testing.T) {
	w := watcher(t, wantedBuffer)
	w.Close()
	if _, err := w.Next(func(*Socket) {}); err == nil {
		t.Error("no error")
	}
}

// TestFind looks for connections among addresses that have none, more than fit
// into one message.
func TestFind(t *testing.T) {
	for _, tt := range []struct{ name, network, address, dialled string }{
		{"IPv4", "tcp4", "127.0.0.1:0", ""},
		{"IPv6", "tcp6", "[::1]:0", ""},
		{"IPv4 by a socket of IPv6", "tcp", "[::]:0", "[::ffff:127.0.0.1]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := listen(t, tt.network, tt.address)
			at := addressOf(l.Addr())
			if tt.dialled != "" {
				at = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), at.Port())
			}
			c, err := net.Dial("tcp", at.String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			client := Pair{addressOf(c.LocalAddr()), at}
			server := client.Reversed()
			pairs := []Pair{{}, {at, at}} // of the second there is only who listens
			for port := range uint16(3 * manyAtOnce) {
				pairs = append(pairs, Pair{at, netip.AddrPortFrom(at.Addr(), port)})
			}
			pairs = append(pairs, client, server, server)
			found := make(map[Pair]int)
			err = Find(pairs, func(s *Socket) {
				found[s.Pair]++
				if s.State != Established || !s.Counted {
					t.Errorf("%+v", *s)
				}
			})
			if err != nil || len(found) != 2 || found[client] != 1 || found[server] != 1 {
				t.Errorf("%v, %v; want %v and %v", found, err, client, server)
			}
		})
	}
}

// FuzzSockets feeds datagrams to the parser.
func FuzzSockets(f *testing.F) {
	diag := make([]byte, headerLen+diagLen+attrLen+infoLastKnown)
	binary.NativeEndian.PutUint32(diag, uint32(len(diag)))
	binary.NativeEndian.PutUint16(diag[4:], typeByFamily)
	diag[headerLen] = familyIPv4
	attr := diag[headerLen+diagLen:]
	binary.NativeEndian.PutUint16(attr, attrLen+infoLastKnown)
	binary.NativeEndian.PutUint16(attr[2:], attrInfo)
	f.Add(diag)
	f.Add(diag[:headerLen+diagLen+9])
	f.Add([]byte{16, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{20, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		_, _ = sockets(b, new(Socket), func(s *Socket) {
			n++
			if !s.Local.IsValid() || s.Sent() > s.Given() {
				t.Errorf("%+v", *s)
			}
		})
		if n > len(b)/(headerLen+diagLen) {
			t.Errorf("%d sockets in %d bytes", n, len(b))
		}
	})
}
