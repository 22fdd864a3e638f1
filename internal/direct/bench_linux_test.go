//go:build amd64 || arm64

package direct

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() { clients["latency"] = latencyMain }

// latencyMain does something with an address N times and prints how long that
// took at the median, in ns: latency connect|exchange|exchange-to N ADDRESS.
func latencyMain(args []string) {
	runtime.LockOSThread()
	n, _ := strconv.Atoi(args[1])
	to := netip.MustParseAddrPort(args[2])
	once := func() time.Duration { return connectTime(to) }
	if args[0] != "connect" {
		once = exchanger(to, args[0] == "exchange")
	}
	took := make([]time.Duration, n)
	for i := range took {
		took[i] = once()
	}
	slices.Sort(took)
	fmt.Println(took[n/2].Nanoseconds())
}

// connectTime returns how long connect(2) takes.
func connectTime(to netip.AddrPort) time.Duration {
	sa := sockaddrBytes(unix.AF_INET, to)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	defer unix.Close(fd)
	// Closed with a reset, so that nothing is left in TIME_WAIT.
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	start := time.Now()
	// Raw: what Go's scheduler makes of a call that takes long is not usher's.
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa[0])), uintptr(len(sa)))
	took := time.Since(start)
	if errno != 0 {
		panic(errno)
	}
	return took
}

// exchanger returns what sends a datagram and waits for the answer.
func exchanger(to netip.AddrPort, connected bool) func() time.Duration {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	peer := sockaddr(unix.AF_INET, to)
	if connected {
		if err := unix.Connect(fd, peer); err != nil {
			panic(err)
		}
		peer = nil
	}
	way := func(word string) bool { return word == "connect" && connected }
	return func() time.Duration {
		start := time.Now()
		if err := sendAs(fd, way, peer, "hello"); err != nil {
			panic(err)
		}
		if _, _, err := receiveAs(fd, way); err != nil {
			panic(err)
		}
		return time.Since(start)
	}
}

// BenchmarkLatency measures in rounds what a call takes without usher, to a
// Service, and under usher to elsewhere.
func BenchmarkLatency(b *testing.B) {
	tcp, drain := queue(b)
	udp := udpBackend(b, "a", "127.0.0.1:0")
	w := newWorld(b, service("web", "10.96.0.7", 80, "TCP", tcp)+service("echo", "10.96.0.8", 80, "UDP", udp))
	for _, bb := range []struct{ what, vip, backend string }{
		{"connect", "10.96.0.7:80", tcp}, {"exchange", "10.96.0.8:80", udp}, {"exchange-to", "10.96.0.8:80", udp},
	} {
		b.Run(bb.what, func(b *testing.B) {
			var plainly, service, elsewhere []float64
			for b.Loop() {
				plainly = append(plainly, micros(b, output(b, plain("latency", bb.what, "2000", bb.backend))))
				drain()
				service = append(service, micros(b, output(b, w.client("latency", bb.what, "2000", bb.vip))))
				drain()
				elsewhere = append(elsewhere, micros(b, output(b, w.client("latency", bb.what, "2000", bb.backend))))
				drain()
			}
			b.ReportMetric(median(plainly), "us/plain")
			b.ReportMetric(median(service), "us/service")
			b.ReportMetric(median(elsewhere), "us/elsewhere")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// queue returns an address at which connections wait until drain is called: a
// server that is woken by each would take its turn before the client.
func queue(b *testing.B) (address string, drain func()) {
	b.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: localhost.As4()}), unix.Listen(fd, 4096)); err != nil {
		b.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		b.Fatal(err)
	}
	_, ip := addrPortOf(sa)
	return ip.String(), func() {
		for {
			c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			unix.Close(c)
		}
	}
}

// micros returns what a client has printed, in us.
func micros(b *testing.B, answer string) float64 {
	ns, err := strconv.ParseFloat(strings.TrimSpace(answer), 64)
	if err != nil {
		b.Fatal(answer)
	}
	return ns / 1000
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
