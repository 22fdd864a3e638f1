package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestStreamsDuringChanges moves streams both ways, in chunks of any size, with
// pauses, each half ended in its own time, while the endpoints change: every
// byte must arrive in its place. USHER_SOAK=100 moves 4 GiB.
func TestStreamsDuringChanges(t *testing.T) { eachEngine(t, testStreamsDuringChanges) }

func testStreamsDuringChanges(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	const streams = 64
	size := soak(t, (4<<30)/streams/2/100)
	var backends []netip.AddrPort
	for range 4 {
		backends = append(backends, serveTCP(t, func(c *net.TCPConn) {
			c.SetDeadline(time.Time{}) // as long as it takes
			var id [8]byte
			if _, err := io.ReadFull(c, id[:]); err == io.EOF {
				return // it was dialled beside another one, which has answered
			}
			if err := exchangeStreams(c, size, binary.BigEndian.Uint64(id[:]), 1, 0); err != nil {
				t.Errorf("at the backend: %v", err)
			}
		}))
	}
	h.serve(vip, tcp, ends(backends...)...)
	stop := make(chan struct{})
	var churn sync.WaitGroup
	churn.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond): // the pace of the changes
			}
			h.serve(vip, tcp, ends(backends[i%3:]...)...)
		}
	})
	inParallel(streams, streams, func(i int) {
		c := dialTCP(t, vip)
		c.SetDeadline(time.Time{})
		binary.Write(c, binary.BigEndian, uint64(i))
		if err := exchangeStreams(c, size, uint64(i), 0, 1); err != nil {
			t.Errorf("stream %d at the client: %v", i, err)
		}
	})
	close(stop)
	churn.Wait()
}

// exchangeStreams sends one stream of a connection and receives another. Their
// bytes follow from the connection and the direction.
func exchangeStreams(c *net.TCPConn, size int, id, sends, receives uint64) error {
	var wg sync.WaitGroup
	var sent error
	wg.Go(func() { sent = sendStream(c, size, id, sends) })
	received := receiveStream(c, size, id, receives)
	wg.Wait()
	return errors.Join(sent, received)
}

func streamOf(id, direction uint64) *rand.ChaCha8 {
	return rand.NewChaCha8([32]byte{0: byte(id), 1: byte(id >> 8), 2: byte(direction)})
}

func sendStream(c *net.TCPConn, size int, id, direction uint64) error {
	bytes, schedule := streamOf(id, direction), rand.New(rand.NewPCG(id, direction))
	buf := make([]byte, 256<<10)
	for size > 0 {
		n := min(size, 1+schedule.IntN(len(buf)))
		if schedule.IntN(16) == 0 {
			time.Sleep(time.Duration(schedule.IntN(2000)) * time.Microsecond) // the schedule is what is tested
		}
		bytes.Read(buf[:n])
		if _, err := c.Write(buf[:n]); err != nil {
			return err
		}
		size -= n
	}
	return c.CloseWrite()
}

func receiveStream(c *net.TCPConn, size int, id, direction uint64) error {
	want := streamOf(id, direction)
	buf, same := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := 0; ; {
		n, err := c.Read(buf)
		want.Read(same[:n])
		if !bytes.Equal(buf[:n], same[:n]) {
			return fmt.Errorf("another byte than was sent after byte %d", at)
		}
		at += n
		switch {
		case err == io.EOF && at == size:
			return nil
		case err != nil:
			return fmt.Errorf("after %d bytes of %d: %w", at, size, err)
		}
	}
}

// TestNothingIsLeft ends connections at every stage and checks that descriptors,
// goroutines and memory are back where they were. USHER_SOAK=100 makes 100,000
// connections.
func TestNothingIsLeft(t *testing.T) { eachEngine(t, testNothingIsLeft) }

func testNothingIsLeft(t *testing.T, start starter) {
	h := start(t, Limits{})
	const bulk = 300_000
	backend := serveTCP(t, func(c *net.TCPConn) {
		var request [1]byte
		if _, err := io.ReadFull(c, request[:]); err == nil {
			c.Write(make([]byte, bulk))
		}
	})
	var vips []netip.AddrPort
	for i := range 4 { // as many ports for clients
		vips = append(vips, freePort(t, fmt.Sprint("127.96.0.", 5+i)))
		h.serve(vips[i], tcp, ends(backend)...)
	}
	stages := []func(c *net.TCPConn) error{
		func(c *net.TCPConn) error { return nil },
		func(c *net.TCPConn) error { _, err := c.Write([]byte("x")); return err },
		func(c *net.TCPConn) error {
			c.SetWriteDeadline(time.Now().Add(time.Millisecond))
			c.Write(make([]byte, 1<<20))
			return nil
		},
		func(c *net.TCPConn) error {
			c.Write([]byte("x"))
			_, err := io.ReadFull(c, make([]byte, bulk/2))
			return err
		},
	}
	connect := func(i int) {
		c, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(vips[i/5%len(vips)]))
		if err != nil {
			t.Error(err)
			return
		}
		c.SetDeadline(time.Now().Add(patience))
		if stage := i % 5; stage < len(stages) {
			err = stages[stage](c)
			c.SetLinger(0)
		} else {
			c.Write([]byte("x"))
			_, err = io.ReadFull(c, make([]byte, bulk))
		}
		if err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
		c.Close()
	}
	ended := func() bool {
		active := int64(0)
		for s := range h.proxy.Stats() {
			active += s.Active
		}
		return active == 0
	}
	const warmUp = 200
	inParallel(32, warmUp, connect)
	waitFor(t, "the end of the first connections", ended)
	before := usage(t)
	total := soak(t, 1000)
	inParallel(32, total, connect)
	waitFor(t, "the end of all connections", ended)
	const spare = 32 // pipes that are kept, threads
	waitFor(t, "descriptors and goroutines to be given back", func() bool {
		now := usage(t)
		return now.files <= before.files+spare && now.goroutines <= before.goroutines+spare
	})
	if now := usage(t); now.heap > before.heap+16<<20 {
		t.Errorf("%d bytes in use after %d connections, %d before", now.heap, total, before.heap)
	}
}

type resources struct {
	files, goroutines int
	heap              uint64
}

func usage(t *testing.T) resources {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return resources{openFiles(t), runtime.NumGoroutine(), m.HeapAlloc}
}
