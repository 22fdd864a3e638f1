//go:build amd64 || arm64

package direct

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() { clients["holds"], clients["sockets"] = holdsMain, socketsMain }

// holdsMain connects for a line of its input, and closes the connection at the
// next: holds block|nonblock ADDRESS.
func holdsMain(args []string) {
	to := netip.MustParseAddrPort(args[1])
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		kind := unix.SOCK_STREAM | unix.SOCK_CLOEXEC
		if args[0] == "nonblock" {
			kind |= unix.SOCK_NONBLOCK
		}
		fd, err := unix.Socket(unix.AF_INET, kind, 0)
		if err != nil {
			panic(err)
		}
		err = unix.Connect(fd, sockaddr(unix.AF_INET, to))
		if err == unix.EINPROGRESS && poll(fd, unix.POLLOUT, 5000) == unix.POLLOUT {
			err = nil
		}
		fmt.Println(name(err))
		lines.Scan()
		unix.Close(fd)
	}
}

// ends serves TCP, and tells of each connection that has ended: io.EOF in order.
func ends(t testing.TB) (address string, ended <-chan error) {
	end := make(chan error, 1)
	return serve(t, "127.0.0.1:0", func(c net.Conn) {
		_, err := c.Read(make([]byte, 1))
		end <- err
		c.Close()
	}), end
}

// TestClose checks that the end of a connection reaches the backend when the
// program closes it, although the program and usher go on: neither keeps a
// duplicate of the socket.
func TestClose(t *testing.T) {
	address, ended := ends(t)
	w := newWorld(t, service("web", "10.96.0.7", 80, "TCP", address)+service("half", "10.96.0.8", 80, "TCP", dead(t), address))
	for _, way := range []string{"block", "nonblock"} {
		for _, vip := range []string{"10.96.0.7:80", "10.96.0.8:80"} {
			say, hear := interactive(t, w.client("holds", way, vip))
			for range 20 {
				say("open")
				if got := hear(); got != "0" {
					t.Fatalf("%s %s: %s", way, vip, got)
				}
				say("close")
				select {
				case err := <-ended:
					if err != io.EOF {
						t.Errorf("%s %s: %v", way, vip, err)
					}
				case <-time.After(patience):
					t.Fatalf("%s %s: the backend does not see that the connection was closed", way, vip)
				}
			}
		}
	}
}

// BenchmarkClose measures how long it takes from the line by which a program is
// told to close a connection until its backend has seen the end.
func BenchmarkClose(b *testing.B) {
	address, ended := ends(b)
	w := newWorld(b, service("web", "10.96.0.7", 80, "TCP", address))
	for _, bb := range []struct {
		what string
		cmd  *exec.Cmd
	}{{"plain", plain("holds", "block", address)}, {"service", w.client("holds", "block", "10.96.0.7:80")}} {
		b.Run(bb.what, func(b *testing.B) {
			say, hear := interactive(b, bb.cmd)
			var took []float64
			for b.Loop() {
				say("open")
				hear()
				start := time.Now()
				say("close")
				<-ended
				took = append(took, float64(time.Since(start).Nanoseconds())/1000)
			}
			b.ReportMetric(median(took), "us/median")
			b.ReportMetric(slices.Max(took), "us/most")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// socketsMain makes UDP sockets in many threads at once, each with a port of its
// own, and prints of how many the descriptor is that of another one by then, or
// was given twice: sockets THREADS EACH.
func socketsMain(args []string) {
	threads, _ := strconv.Atoi(args[0])
	each, _ := strconv.Atoi(args[1])
	var mu sync.Mutex
	ports := map[int]int{} // by descriptor
	wrong := 0
	var wg sync.WaitGroup
	for range threads {
		wg.Go(func() {
			for range each {
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
				if err == nil {
					err = unix.Bind(fd, &unix.SockaddrInet4{Addr: localhost.As4()})
				}
				if err != nil {
					panic(err)
				}
				mu.Lock()
				if _, ok := ports[fd]; ok || fd < lowestUDP {
					wrong++
				}
				ports[fd] = portOf(fd)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for fd, port := range ports {
		if portOf(fd) != port {
			wrong++
		}
	}
	fmt.Println(len(ports), wrong)
}

func portOf(fd int) int {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return -1
	}
	return sa.(*unix.SockaddrInet4).Port
}

// TestManySockets checks that no descriptor is given to two sockets that are
// made at the same time: one would close the other.
func TestManySockets(t *testing.T) {
	w := newWorld(t, "")
	for range soak(t, 8) {
		if got, want := strings.TrimSpace(output(t, w.client("sockets", "16", "14"))), "224 0"; got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}

// TestSocketsInterrupted checks that a program gets its UDP sockets although
// signals come to usher all the time: one that comes while a descriptor is
// handed over must not make that descriptor 0.
func TestSocketsInterrupted(t *testing.T) {
	w := newWorld(t, "")
	for range soak(t, 8) {
		if got, want := underSignals(t, w.client("sockets", "1", "224")), "224 0"; got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}

// underSignals returns the first line of a program whose usher gets signals, of
// which Go makes nothing, in all its threads.
func underSignals(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	_, hear := interactive(t, cmd)
	pid, done := cmd.Process.Pid, make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(done)
	wg.Go(func() {
		for {
			threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
			for _, thread := range threads {
				tid, _ := strconv.Atoi(thread.Name())
				_ = unix.Tgkill(pid, tid, unix.SIGURG)
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	return hear()
}
