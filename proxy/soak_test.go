package proxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// soak returns how often to repeat: few times, or USHER_SOAK times as many.
func soak(t testing.TB, few int) int {
	t.Helper()
	factor := 1
	if s := os.Getenv("USHER_SOAK"); s != "" {
		var err error
		if factor, err = strconv.Atoi(s); err != nil || factor < 1 {
			t.Fatalf("USHER_SOAK=%q: want a number", s)
		}
	}
	return few * factor
}

// A talk is one connection's script: what a side sends, in chunks with pauses,
// before it ends its half.
type talk struct {
	seed   uint64
	chunks []int
	pauses []time.Duration
}

func newTalk(r *rand.Rand) talk {
	k := talk{seed: r.Uint64()}
	for range r.IntN(12) {
		n := r.IntN(3000)
		switch r.IntN(8) {
		case 0:
			n = r.IntN(1 << 20)
		case 1:
			n = 1
		}
		k.chunks = append(k.chunks, n)
		pause := time.Duration(0)
		if r.IntN(3) == 0 {
			pause = time.Duration(r.IntN(3000)) * time.Microsecond
		}
		k.pauses = append(k.pauses, pause)
	}
	return k
}

// send sends the talk and ends the half. It returns the hash of what was sent.
func (k talk) send(c *net.TCPConn) ([]byte, error) {
	r := rand.NewChaCha8([32]byte{0: byte(k.seed), 1: byte(k.seed >> 8), 2: byte(k.seed >> 16)})
	h := sha256.New()
	for i, n := range k.chunks {
		time.Sleep(k.pauses[i]) // the schedule is what is tested
		b := make([]byte, n)
		r.Read(b)
		h.Write(b)
		if _, err := c.Write(b); err != nil {
			return nil, err
		}
	}
	return h.Sum(nil), c.CloseWrite()
}

func receiveHash(c *net.TCPConn) ([]byte, error) {
	h := sha256.New()
	_, err := io.Copy(h, c)
	return h.Sum(nil), err
}

// TestRandomHalfCloses runs many connections at once, each side of which sends
// at its own pace and ends its half when it is done.
func TestRandomHalfCloses(t *testing.T) { eachEngine(t, testRandomHalfCloses) }

func testRandomHalfCloses(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	type outcome struct{ sent, got []byte }
	var mu sync.Mutex
	atBackend := make(map[uint64]outcome)
	h.serve(vip, tcp, ends(serveTCP(t, func(c *net.TCPConn) {
		var id [8]byte
		if _, err := io.ReadFull(c, id[:]); err != nil {
			t.Error(err)
			return
		}
		n := binary.BigEndian.Uint64(id[:])
		got, sent, err := converse(c, newTalk(rand.New(rand.NewPCG(n, 2))))
		if err != nil {
			t.Errorf("connection %d at the backend: %v", n, err)
		}
		mu.Lock()
		atBackend[n] = outcome{sent, got}
		mu.Unlock()
		// The client waits for the end to know that this is written down.
	}))...)
	total := soak(t, 200)
	atClient := make([]outcome, total)
	inParallel(64, total, func(i int) {
		c := dialTCP(t, vip)
		binary.Write(c, binary.BigEndian, uint64(i))
		got, sent, err := converse(c, newTalk(rand.New(rand.NewPCG(uint64(i), 1))))
		if err != nil {
			t.Errorf("connection %d at the client: %v", i, err)
		}
		atClient[i] = outcome{sent, got}
	})
	waitFor(t, "the backend to be done", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(atBackend) == total
	})
	for i, c := range atClient {
		b := atBackend[uint64(i)]
		if !bytes.Equal(c.sent, b.got) || !bytes.Equal(b.sent, c.got) {
			t.Errorf("connection %d: what was sent is not what came", i)
		}
	}
}

// converse sends k and receives at the same time.
func converse(c *net.TCPConn, k talk) (got, sent []byte, err error) {
	var wg sync.WaitGroup
	var errSend, errGot error
	wg.Go(func() { sent, errSend = k.send(c) })
	got, errGot = receiveHash(c)
	wg.Wait()
	return got, sent, errors.Join(errSend, errGot)
}

// inParallel calls f for each of n numbers, some at a time.
func inParallel(workers, n int, f func(int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				f(i)
			}
		})
	}
	wg.Wait()
}

// TestAborts checks that no end that was cut off is ever seen as an orderly
// one: whichever side resets, and whatever the other is doing then.
func TestAborts(t *testing.T) { eachEngine(t, testAborts) }

func testAborts(t *testing.T, start starter) {
	h := start(t, Limits{})
	// What the side that is not reset does meanwhile.
	doings := map[string]func(c *net.TCPConn) error{
		"late to receive": func(c *net.TCPConn) error {
			time.Sleep(50 * time.Millisecond)
			_, err := io.Copy(io.Discard, c)
			return err
		},
		"receiving": func(c *net.TCPConn) error {
			_, err := io.Copy(io.Discard, c)
			return err
		},
		"sending": func(c *net.TCPConn) error {
			// The kernel tells of the reset once: the write or the read.
			var wg sync.WaitGroup
			var errWrite error
			wg.Go(func() {
				for errWrite == nil {
					_, errWrite = c.Write(make([]byte, 64<<10))
				}
			})
			_, err := io.Copy(io.Discard, c)
			wg.Wait()
			return errors.Join(err, errWrite)
		},
	}
	// What the side that resets has done before.
	before := map[string]func(c *net.TCPConn){
		"at once":          func(c *net.TCPConn) {},
		"after some bytes": func(c *net.TCPConn) { c.Write(make([]byte, 10_000)) },
		"amid a stream": func(c *net.TCPConn) {
			c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
			for err := error(nil); err == nil; {
				_, err = c.Write(make([]byte, 64<<10))
			}
		},
	}
	for doing, do := range doings {
		for when, prepare := range before {
			for _, byClient := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, %s, by the client %v", doing, when, byClient), func(t *testing.T) {
					abortMany(t, h, byClient, prepare, do)
				})
			}
		}
	}
}

// abortMany opens connections of which one side is reset, and checks what the
// other sees.
func abortMany(t *testing.T, h *harness, byClient bool, prepare func(*net.TCPConn), do func(*net.TCPConn) error) {
	vip := freePort(t, "127.96.0.5")
	total := soak(t, 8)
	results := make(chan error, total)
	cut := func(c *net.TCPConn) {
		prepare(c)
		c.SetLinger(0)
		c.Close()
	}
	greet := func(c *net.TCPConn) { c.Write([]byte("hi")) } // both ends are connected
	h.serve(vip, tcp, ends(serveTCP(t, func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 2))
		greet(c)
		if byClient {
			results <- do(c)
		} else {
			cut(c)
		}
	}))...)
	inParallel(4, total, func(int) {
		c := dialTCP(t, vip)
		greet(c)
		io.ReadFull(c, make([]byte, 2))
		if byClient {
			cut(c)
		} else {
			results <- do(c)
		}
	})
	for range total {
		select {
		case err := <-results:
			if !isReset(err) {
				t.Errorf("the end of a connection that was cut off: %v, want a reset", err)
			}
		case <-time.After(patience):
			t.Fatal("the end of a connection that was cut off is not seen")
		}
	}
}

// TestChurn changes the endpoints all the time and checks that no connection
// is lost: neither those that last, nor new ones.
func TestChurn(t *testing.T) { eachEngine(t, testChurn) }

func testChurn(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	var backends []netip.AddrPort
	for range 6 {
		backends = append(backends, serveTCP(t, func(c *net.TCPConn) {
			c.SetDeadline(time.Time{}) // as long as it takes
			echo(c)
		}))
	}
	h.serve(vip, tcp, ends(backends...)...)
	lasting := make([]*net.TCPConn, min(soak(t, 20), 500))
	for i := range lasting {
		lasting[i] = dialTCP(t, vip)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var connected atomic.Int64
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := echoOnce(vip); err != nil {
					t.Error("a new connection:", err)
					return
				}
				connected.Add(1)
			}
		})
	}
	r := rand.New(rand.NewPCG(1, 2))
	changes := soak(t, 300)
	for range changes {
		r.Shuffle(len(backends), func(i, j int) { backends[i], backends[j] = backends[j], backends[i] })
		h.serve(vip, tcp, ends(backends[:1+r.IntN(len(backends))]...)...)
	}
	close(stop)
	wg.Wait()
	for i, c := range lasting {
		if err := exchangeTCP(c, "still there"); err != nil {
			t.Errorf("lasting connection %d: %v", i, err)
		}
	}
	t.Logf("%d connections during %d changes", connected.Load(), changes)
}

func echoOnce(vip netip.AddrPort) error {
	c, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(vip))
	if err != nil {
		return err
	}
	defer c.Close()
	return exchangeTCP(c, "hello")
}

func exchangeTCP(c *net.TCPConn, text string) error {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != text {
		return fmt.Errorf("echoed %q", got)
	}
	return nil
}
