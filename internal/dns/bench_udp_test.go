package dns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// roleAsker makes this test binary the clients of BenchmarkUDP.
const roleAsker = "USHER_DNS_BENCH_ASK"

// BenchmarkUDP asks a Server on one core for the address of a Service, from
// another process: the figure is what a core answers in a second of its time,
// with the kernel's part of it, however busy the machine is with other things.
func BenchmarkUDP(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	server := start(b, New(Options{Store: numbered(b, 1000), ServiceCIDR: ranges()}), loopback())
	began, before := time.Now(), cpuTime(b)
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleAsker+"="+server.String()+" "+strconv.Itoa(b.N))
	cmd.Stderr = os.Stderr
	b.ResetTimer()
	if err := cmd.Run(); err != nil {
		b.Fatal(err)
	}
	spent := cpuTime(b) - before
	b.ReportMetric(float64(b.N)/spent.Seconds(), "queries/CPU-s")
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "queries/s")
}

// cpuTime is what this process used, in user mode and in the kernel.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// askers are the clients: some sockets, each with some queries under way. It
// returns an exit code.
func askers(arg string) int {
	const sockets, window = 4, 32
	var address string
	var n int
	if _, err := fmt.Sscan(arg, &address, &n); err != nil {
		panic(err)
	}
	var clients sync.WaitGroup
	lost := make([]error, sockets)
	for i := range sockets {
		clients.Go(func() {
			c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
			if err == nil {
				err = askMany(c, i, n/sockets+1, window)
				c.Close()
			}
			lost[i] = err
		})
	}
	clients.Wait()
	for _, err := range lost {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}

// askMany asks for the addresses of numbered Services, and checks that each
// query has its answer.
func askMany(c *net.UDPConn, seed, n, window int) error {
	queries := make([][]byte, 250)
	for i := range queries {
		name := fmt.Sprintf("svc-%d.finance.svc.cluster.local.", (seed*250+i)%1000)
		wire, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
		if err != nil {
			return err
		}
		queries[i] = wire
	}
	answer := make([]byte, 512)
	for sent, got := 0, 0; got < n; {
		for ; sent < n && sent-got < window; sent++ {
			wire := queries[sent%len(queries)]
			wire[0], wire[1] = byte(sent>>8), byte(sent)
			if _, err := c.Write(wire); err != nil {
				return err
			}
		}
		c.SetReadDeadline(time.Now().Add(30 * time.Second))
		size, err := c.Read(answer)
		if err != nil {
			return fmt.Errorf("%d of %d queries answered: %w", got, n, err)
		}
		// The address is at the end; 127.96.200.0 is that of the first.
		id := int(answer[0])<<8 | int(answer[1])
		service := (seed*250 + queryOf(id, sent)%len(queries)) % 1000
		want := [4]byte{127, 96, byte(200 + service/250), byte(service % 250)}
		if size < 16 || answer[3]&0xf != 0 || [4]byte(answer[size-4:size]) != want {
			return fmt.Errorf("query %d has the answer % x, want %v at its end", id, answer[:size], want)
		}
		got++
	}
	return nil
}

// queryOf returns the number of the query that had an ID, the last of them
// before sent.
func queryOf(id, sent int) int {
	n := sent - 1
	return n - (n-id)&0xffff
}
