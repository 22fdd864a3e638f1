package proxy

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// statsOf returns the counters of vip.
func (h *harness) statsOf(vip netip.AddrPort) Stats {
	for s := range h.proxy.Stats() {
		if s.Frontend.AddrPort() == vip {
			return s
		}
	}
	return Stats{}
}

// awaitEnd waits until vip has no connections.
func (h *harness) awaitEnd(vip netip.AddrPort) {
	h.t.Helper()
	waitFor(h.t, "the connection to end", func() bool { return h.statsOf(vip).Active == 0 })
}

// readSlowly reads everything, with a pause whenever a further step bytes are there.
func readSlowly(c *net.TCPConn, step int64, pause time.Duration) (total int64, err error) {
	for {
		n, err := io.CopyN(io.Discard, c, step)
		total += n
		if err != nil {
			return total, err
		}
		time.Sleep(pause) // the reader is slow: that is the case
	}
}

// TestEndWaitsForSlowReaders checks that a stream that ended in order is
// delivered to a reader that pauses for longer than a dead connection may.
func TestEndWaitsForSlowReaders(t *testing.T) { eachEngine(t, testEndWaitsForSlowReaders) }

func testEndWaitsForSlowReaders(t *testing.T, start starter) {
	h := start(t, Limits{})
	const size = 40 << 20
	t.Run("a client", func(t *testing.T) {
		vip := freePort(t, "127.96.0.5")
		h.serve(vip, tcp, ends(serveTCP(t, func(c *net.TCPConn) {
			io.ReadAll(c)
			c.Write(make([]byte, size))
		}))...)
		c := dialTCP(t, vip)
		c.CloseWrite()
		if n, err := readSlowly(c, size*3/4, 2500*time.Millisecond); n != size || err != io.EOF {
			t.Errorf("read %d of %d bytes, then %v", n, size, err)
		}
	})
	t.Run("a backend", func(t *testing.T) {
		vip := freePort(t, "127.96.0.5")
		got := make(chan string, 1)
		h.serve(vip, tcp, ends(serveTCP(t, func(c *net.TCPConn) {
			c.CloseWrite()
			n, err := readSlowly(c, size*3/4, 2500*time.Millisecond)
			got <- fmt.Sprint(n, err)
		}))...)
		c := dialTCP(t, vip)
		io.ReadAll(c)
		c.Write(make([]byte, size))
		c.Close()
		if got, want := <-got, fmt.Sprint(size, io.EOF); got != want {
			t.Errorf("the backend read %s, want %s", got, want)
		}
	})
}

// TestResetDuringUpload checks that a reset is one for the client too when it
// is the blocked upload that learns of it.
func TestResetDuringUpload(t *testing.T) { eachEngine(t, testResetDuringUpload) }

func testResetDuringUpload(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	full := make(chan struct{})
	h.serve(vip, tcp, ends(serveTCP(t, func(c *net.TCPConn) {
		c.SetReadBuffer(32 << 10)
		io.ReadFull(c, make([]byte, 1000))
		io.WriteString(c, "partial")
		<-full
		c.SetLinger(0)
	}))...)
	for round := range 60 {
		c := dialTCP(t, vip)
		c.Write(make([]byte, 1000)) // however late the rest may be
		c.SetWriteDeadline(time.Now().Add(30 * time.Millisecond))
		for { // until everything between here and the backend is full
			if _, err := c.Write(make([]byte, 1<<20)); err != nil {
				break
			}
		}
		full <- struct{}{}
		if b, err := io.ReadAll(c); string(b) != "partial" || !isReset(err) {
			t.Fatalf("round %d: read %q, then %v; want a reset", round, b, err)
		}
		c.Close()
	}
}

// TestEndBeforeReset checks that a stream that ended in order before its
// connection was reset, as an early answer to an upload does, ends in order.
func TestEndBeforeReset(t *testing.T) { eachEngine(t, testEndBeforeReset) }

func testEndBeforeReset(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	const size = 12 << 20
	sent, full := make(chan struct{}), make(chan struct{})
	h.serve(vip, tcp, ends(serveTCP(t, func(c *net.TCPConn) {
		c.Write(make([]byte, size))
		c.CloseWrite()
		waitFor(t, "the data to be sent", func() bool { return unsent(c) == 0 })
		close(sent)
		<-full
		c.SetLinger(0)
	}))...)
	c := dialTCP(t, vip)
	c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
	var wg sync.WaitGroup
	wg.Go(func() {
		for { // until everything between here and the backend is full
			if _, err := c.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	})
	got := readUntil(t, c, sent)
	wg.Wait()
	full <- struct{}{}
	if n, err := io.Copy(io.Discard, c); got+n != size || err != nil {
		t.Errorf("read %d bytes, then %d and %v; want %d and an end", got, n, err, size)
	}
}

// readUntil reads until done is closed, and no more of what is there by then
// than it must: how much the sockets hold is the kernel's to choose.
func readUntil(t *testing.T, c *net.TCPConn, done <-chan struct{}) (total int64) {
	t.Helper()
	for {
		select {
		case <-done:
			return total
		case <-time.After(time.Millisecond):
		}
		n, err := io.CopyN(io.Discard, c, 128<<10)
		total += n
		if err == io.EOF {
			return total
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestResetAfterSlowReaders checks that what was received before a reset is
// delivered as long as the reader moves.
func TestResetAfterSlowReaders(t *testing.T) { eachEngine(t, testResetAfterSlowReaders) }

func testResetAfterSlowReaders(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	const size = 4 << 20
	h.serve(vip, tcp, ends(serveTCP(t, func(c *net.TCPConn) {
		c.Write(make([]byte, size))
		waitFor(t, "the data to be sent", func() bool { return unsent(c) == 0 })
		c.SetLinger(0)
	}))...)
	c := dialTCP(t, vip)
	c.SetReadBuffer(64 << 10)
	if n, err := readSlowly(c, 50<<10, 100*time.Millisecond); n != size || !isReset(err) {
		t.Errorf("read %d of %d bytes, then %v; want all and then a reset", n, size, err)
	}
}

// TestHalfIdleLimit checks the limit of a connection with one direction ended.
func TestHalfIdleLimit(t *testing.T) { eachEngine(t, testHalfIdleLimit) }

func testHalfIdleLimit(t *testing.T, start starter) {
	h := start(t, Limits{HalfIdle: 300 * time.Millisecond})
	t.Run("nothing to write", func(t *testing.T) {
		vip := freePort(t, "127.96.0.5")
		ended := make(chan struct{})
		h.serve(vip, tcp, ends(serveTCP(t, func(*net.TCPConn) { <-ended }))...)
		c := dialTCP(t, vip)
		defer close(ended)
		c.CloseWrite()
		if _, err := c.Read(make([]byte, 1)); !isReset(err) {
			t.Errorf("read %v, want a reset", err)
		}
	})
	t.Run("nobody reads", func(t *testing.T) {
		vip := freePort(t, "127.96.0.5")
		h.serve(vip, tcp, ends(serveTCP(t, func(c *net.TCPConn) {
			io.ReadAll(c)
			for {
				if _, err := c.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}))...)
		dialTCP(t, vip).CloseWrite()
		waitFor(t, "the connection", func() bool { return h.statsOf(vip).Connections == 1 })
		h.awaitEnd(vip)
	})
}

// TestOneWayIsNotIdle checks that bytes in one direction keep both open.
func TestOneWayIsNotIdle(t *testing.T) { eachEngine(t, testOneWayIsNotIdle) }

func testOneWayIsNotIdle(t *testing.T, start starter) {
	h := start(t, Limits{Idle: 500 * time.Millisecond, HalfIdle: 500 * time.Millisecond})
	const n = 30
	for name, server := range map[string]func(*net.TCPConn){
		"both open":         func(*net.TCPConn) {},
		"one of them ended": func(c *net.TCPConn) { io.ReadAll(c) },
	} {
		t.Run(name, func(t *testing.T) {
			vip := freePort(t, "127.96.0.5")
			h.serve(vip, tcp, ends(serveTCP(t, func(c *net.TCPConn) {
				server(c)
				for range n {
					io.WriteString(c, "x")
					time.Sleep(100 * time.Millisecond) // traffic within the limit
				}
			}))...)
			c := dialTCP(t, vip)
			if strings.HasPrefix(name, "one") {
				c.CloseWrite()
			}
			if b, err := io.ReadAll(c); len(b) != n || err != nil {
				t.Errorf("read %d of %d bytes, then %v", len(b), n, err)
			}
		})
	}
}

// TestAbortOfEndingConnections checks that the Proxy ends at once though
// connections are just ending.
func TestAbortOfEndingConnections(t *testing.T) { eachEngine(t, testAbortOfEndingConnections) }

func testAbortOfEndingConnections(t *testing.T, start starter) {
	ended := make(chan struct{})
	backend := serveTCP(t, func(*net.TCPConn) { <-ended })
	defer close(ended)
	for range 30 {
		h := start(t, Limits{})
		vip := freePort(t, "127.96.0.5")
		h.serve(vip, tcp, ends(backend)...)
		var clients []*net.TCPConn
		for range 100 {
			clients = append(clients, dialTCP(t, vip))
		}
		waitFor(t, "the connections", func() bool { return h.statsOf(vip).Active == int64(len(clients)) })
		var wg sync.WaitGroup
		wg.Go(func() {
			for _, c := range clients {
				c.CloseWrite()
			}
		})
		begin := time.Now()
		h.stop()
		wg.Wait()
		if took := time.Since(begin); took > 2*time.Second {
			t.Fatalf("the end took %v", took)
		}
	}
}
