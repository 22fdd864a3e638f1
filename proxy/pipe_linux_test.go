package proxy

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openFiles returns how many descriptors this process has.
func openFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestDescriptors checks that an idle connection has its two sockets alone,
// however much it has moved.
func TestDescriptors(t *testing.T) { eachEngine(t, testDescriptors) }

func testDescriptors(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	const bulk = 1 << 20
	h.serve(vip, tcp, ends(serveTCP(t, func(c *net.TCPConn) {
		c.SetDeadline(time.Time{}) // no connection ends before the test
		c.Write(make([]byte, bulk))
		for b := make([]byte, 1); ; { // io.Copy would splice
			if _, err := c.Read(b); err != nil {
				return
			}
			c.Write(b)
		}
	}))...)
	const n, spare = 100, 30
	before := openFiles(t)
	for range n {
		c := dialTCP(t, vip)
		io.WriteString(c, "x")
		io.ReadFull(c, make([]byte, bulk+1))
	}
	waitFor(t, "idle connections to have two descriptors each", func() bool {
		runtime.GC()                               // Go keeps kernel pipes for the next who needs one
		return openFiles(t)-before-2*n < 2*n+spare // the test has 2n itself
	})
}

// TestBytesAreSpliced checks that the kernel moves the bytes: read(2) of this
// process returns what client and server read, and no more.
func TestBytesAreSpliced(t *testing.T) { eachEngine(t, testBytesAreSpliced) }

func testBytesAreSpliced(t *testing.T, start starter) {
	h := start(t, Limits{})
	vip := freePort(t, "127.96.0.5")
	const size = 32 << 20
	h.serve(vip, tcp, ends(serveTCP(t, func(c *net.TCPConn) { c.Write(make([]byte, size)) }))...)
	before := bytesRead(t)
	if n, err := io.Copy(io.Discard, dialTCP(t, vip)); n != size || err != nil {
		t.Fatal(n, err)
	}
	if read := bytesRead(t) - before; read < size || read > size*5/4 {
		t.Errorf("%d bytes were read to receive %d", read, size)
	}
}

// bytesRead returns how many bytes this process has got from read(2).
func bytesRead(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skipf("SKIP: no accounting here: %v", err)
	}
	_, rest, _ := strings.Cut(string(data), "rchar: ")
	text, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestWasReset checks that an end and a reset are told from each other even when
// another call has been told of the reset.
func TestWasReset(t *testing.T) {
	tests := []struct {
		name string
		end  func(*net.TCPConn)
		want bool
	}{
		{"end", func(c *net.TCPConn) { c.Close() }, false},
		{"half close", func(c *net.TCPConn) { c.CloseWrite() }, false},
		{"reset", reset, true},
		{"reset after the end", func(c *net.TCPConn) { c.CloseWrite(); reset(c) }, false},
	}
	for _, tt := range tests {
		for _, text := range []string{"", "some bytes"} {
			t.Run(fmt.Sprintf("%s after %q", tt.name, text), func(t *testing.T) {
				dialled := make(chan struct{})
				c := dialTCP(t, serveTCP(t, func(c *net.TCPConn) {
					<-dialled
					io.WriteString(c, text)
					tt.end(c)
				}))
				close(dialled)
				d := direction{src: c}
				waitFor(t, "the end", func() bool {
					info, err := tcpInfo(c)
					if err != nil {
						t.Fatal(err)
					}
					return info.State != tcpEstablished
				})
				raw, err := c.SyscallConn()
				if err != nil {
					t.Fatal(err)
				}
				raw.Control(func(fd uintptr) { unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR) })
				for b := make([]byte, 4); ; {
					n, err := c.Read(b)
					d.moved.Add(uint64(n))
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				if got := d.wasReset(); got != tt.want {
					t.Errorf("wasReset reports %v, want %v", got, tt.want)
				}
			})
		}
	}
}
