package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/balancer"
	"usher/registry"
)

// ejections returns what is ejected of vip.
func (h *harness) ejections(vip netip.AddrPort) []Ejection {
	var list []Ejection
	for e := range h.proxy.Ejections() {
		if e.Frontend.AddrPort() == vip {
			list = append(list, e)
		}
	}
	return list
}

// ejected returns the addresses of the ejected Backends of vip.
func (h *harness) ejected(vip netip.AddrPort) []netip.AddrPort {
	var list []netip.AddrPort
	for _, e := range h.ejections(vip) {
		list = append(list, e.Backend.Address)
	}
	return list
}

// TestEjectRefusing has seven of eight Backends refuse. Nobody notices, and the
// one that is left has everything.
func TestEjectRefusing(t *testing.T) { eachEngine(t, testEjectRefusing) }

func testEjectRefusing(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	a, _ := named(t, "a")
	dead := ends()
	for i := range 7 { // a free port alone may be the same again
		dead = append(dead, ends(freePort(t, fmt.Sprintf("127.0.1.%d", i+1)))...)
	}
	h.serve(vip, tcp, append(dead, ends(a)...)...)
	begin := time.Now()
	if got := sequence(t, 60, func() (string, error) { return ask(vip) }); got != strings.Repeat("a", 60) {
		t.Errorf("read %q", got)
	}
	list := h.ejections(vip)
	if len(list) != 7 {
		t.Fatalf("%d backends are ejected, want 7", len(list))
	}
	for _, e := range list {
		if e.Backend.Address == a || !isRefused(e.Err) || e.Since.Before(begin.Add(-time.Second)) || e.Since.After(time.Now().Add(time.Second)) ||
			!e.Until.After(e.Since) || e.Frontend.AddrPort() != vip {
			t.Errorf("ejected: %+v", e)
		}
	}
	before := h.statsOf(vip).DialErrors
	sequence(t, 20, func() (string, error) { return ask(vip) })
	if n := h.statsOf(vip).DialErrors - before; n >= 20 {
		t.Errorf("%d dials failed for 20 connections, want what tries the ejected again, and no more", n)
	}
}

// TestEjectedServerStartsAgain starts the server of an ejected Backend: it has
// its turns again, and did not disturb those of the others.
func TestEjectedServerStartsAgain(t *testing.T) { eachEngine(t, testEjectedServerStartsAgain) }

func testEjectedServerStartsAgain(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	a, _ := named(t, "a")
	b, _ := named(t, "b")
	c := freePort(t, "127.0.0.1")
	h.serve(vip, tcp, ends(a, b, c)...)
	waitFor(t, "the ejection", func() bool {
		ask(vip)
		return slices.Equal(h.ejected(vip), []netip.AddrPort{c})
	})
	if got := sequence(t, 6, func() (string, error) { return ask(vip) }); got != "ababab" && got != "bababa" {
		t.Errorf("the others answer %s, want in turn", got)
	}
	l, err := net.Listen("tcp4", c.String())
	if err != nil {
		t.Skip("SKIP: somebody took the port")
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, "c")
			conn.Close()
		}
	}()
	waitFor(t, "the server to be found", func() bool {
		answer, err := ask(vip)
		return err == nil && answer == "c"
	})
	waitFor(t, "it to be taken back", func() bool { return len(h.ejected(vip)) == 0 })
	got := sequence(t, 9, func() (string, error) { return ask(vip) })
	for _, name := range []string{"a", "b", "c"} {
		if strings.Count(got, name) != 3 {
			t.Errorf("then they answer %s, want each in turn", got)
		}
	}
}

// TestEjectSilent has one of two Backends say nothing: it costs the hedge delay
// three times.
func TestEjectSilent(t *testing.T) { eachEngine(t, testEjectSilent) }

func testEjectSilent(t *testing.T, start starter) {
	const hedge = 300 * time.Millisecond
	h := start(t, Limits{Hedge: hedge})
	vip := freePort(t, "127.96.0.5")
	a, _ := named(t, "a")
	dark := silent(t)
	h.serve(vip, tcp, ends(a, dark)...)
	hits := 0
	for i := 0; len(h.ejected(vip)) == 0; i++ {
		begin := time.Now()
		if got, err := ask(vip); got != "a" || err != nil {
			t.Fatalf("read %q, %v", got, err)
		}
		if time.Since(begin) >= hedge {
			hits++
		}
		if i > 20 {
			t.Fatal("the silent backend is not ejected")
		}
	}
	if hits < 3 {
		t.Errorf("ejected after %d slow connections, want 3", hits)
	}
	e := h.ejections(vip)[0]
	if timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](e.Err); e.Backend.Address != dark || !ok || !timeout.Timeout() {
		t.Errorf("ejected: %+v", e)
	}
}

// TestLocalFaultsEjectNobody tells each engine of dials that failed for a
// reason of this host's own.
func TestLocalFaultsEjectNobody(t *testing.T) {
	for errno, ejects := range map[syscall.Errno]bool{
		syscall.EMFILE: false, syscall.ENFILE: false, syscall.ENOBUFS: false, syscall.ENOMEM: false, syscall.EADDRNOTAVAIL: false,
		syscall.ECONNREFUSED: true, syscall.EHOSTUNREACH: true, syscall.ETIMEDOUT: true,
	} {
		f := &registry.Frontend{}
		for i := range byte(2) {
			f.Backends = append(f.Backends, registry.Backend{Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, i}), 80)})
		}
		var p balancer.Picker
		p.Update(f)
		d := dialer{clock: func() int64 { return 0 }}
		choice := p.Pick(netip.Addr{}, 0)
		for range 3 {
			d.failed(t.Context(), dialed{picked: picked{choice, 0}, err: fmt.Errorf("dial: %w", errno)})
		}
		if got := len(p.Ejections()) > 0; got != ejects {
			t.Errorf("%v ejects: %v, want %v", errno, got, ejects)
		}
	}
	var p balancer.Picker
	p.Update(&registry.Frontend{Backends: make([]registry.Backend, 1)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := dialer{clock: func() int64 { return 0 }}
	d.failed(ctx, dialed{picked: picked{p.Pick(netip.Addr{}, 0), 0}, err: ctx.Err()})
}

// TestUDPEjection has a Backend refuse datagrams.
func TestUDPEjection(t *testing.T) { eachEngine(t, testUDPEjection) }

func testUDPEjection(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	a, _ := serveUDP(t, "a")
	dead := freePort(t, "127.0.0.1")
	h.serve(vip, udp, ends(a, dead)...)
	waitFor(t, "the ejection", func() bool {
		c := dialUDP(t, vip)
		defer c.Close()
		if got, err := exchange(c, ""); got != "a" || err != nil {
			t.Fatalf("read %q, %v", got, err)
		}
		return slices.Equal(h.ejected(vip), []netip.AddrPort{dead})
	})
}
