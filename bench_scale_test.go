package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"usher/internal/client"
	"usher/registry"
)

// endpointsEach is how many endpoints each Service of BenchmarkScale has.
const endpointsEach = 10

// BenchmarkScale fills a registry and asks what that costs: how long a change
// of one endpoint takes, from its write until a connection has seen it; how
// long the daemon takes to start; and how much memory it has more than an idle
// one. Services are open in one View: in both they would take more descriptors
// than many systems give to a process.
func BenchmarkScale(b *testing.B) {
	for _, n := range []int{1_000, 10_000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) { benchmarkScale(b, n) })
	}
}

func benchmarkScale(b *testing.B, n int) {
	b.Setenv("USHER_VIEWS", "anyip")
	dir := b.TempDir()
	r := startBuilt(b, dir)
	r.awaitReady(b)
	idle := r.daemonBytes(b)

	fill(b, r, n, func(i int) registry.Object { return newBenchService(i) })
	r, _ = restarted(b, r, dir)
	bare := r.daemonBytes(b)

	fill(b, r, n, func(i int) registry.Object { return newBenchSlice(i, fmt.Sprintf("127.%d.%d", 1+i/250, i%250)) })
	var starts []time.Duration
	for range 5 {
		var took time.Duration
		r, took = restarted(b, r, dir)
		starts = append(starts, took)
	}
	full := r.daemonBytes(b)
	took := changes(b, r)
	b.ReportMetric(median(took), "p50-ms")
	b.ReportMetric(percentile(took, 99), "p99-ms")
	b.ReportMetric(median(starts), "start-ms")
	b.ReportMetric((bare-idle)/float64(n), "B/Service")
	b.ReportMetric((full-bare)/float64(n*endpointsEach), "B/endpoint")
}

// restarted is the daemon after kill -9 and a new start, and how long that
// took until it was ready.
func restarted(b *testing.B, r *running, dir string) (*running, time.Duration) {
	b.Helper()
	r.kill()
	start := time.Now()
	r = startBuilt(b, dir)
	r.awaitReady(b)
	return r, time.Since(start)
}

// fill creates objects, some at a time.
func fill(b *testing.B, r *running, n int, object func(i int) registry.Object) {
	b.Helper()
	c := r.api(b)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if _, err := c.Create(b.Context(), object(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

// newBenchSlice has endpoints for a Service of newBenchService. Nobody is at
// their address.
func newBenchSlice(i int, address string) *discoveryv1.EndpointSlice {
	s := registry.EndpointSlices.New().(*discoveryv1.EndpointSlice)
	s.Namespace, s.Name = "default", fmt.Sprint("bench-", i)
	s.Labels = map[string]string{discoveryv1.LabelServiceName: s.Name}
	s.AddressType = discoveryv1.AddressTypeIPv4
	for e := range endpointsEach {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{address + "." + strconv.Itoa(e)}})
	}
	s.Ports = []discoveryv1.EndpointPort{{Port: new(int32(8080))}}
	return s
}

// changes moves a Service from one of two backends to the other, connects until
// it is there, and returns how long each change took.
func changes(b *testing.B, r *running) []time.Duration {
	c := r.api(b)
	backends := [2]*net.TCPAddr{namedBackend(b, 'a'), namedBackend(b, 'b')}
	svc := registry.Services.New().(*corev1.Service)
	svc.Namespace, svc.Name = "default", "changing"
	svc.Spec.Ports = []corev1.ServicePort{{Port: 80}}
	created, err := c.Create(b.Context(), svc)
	if err != nil {
		b.Fatal(err)
	}
	vip := created.(*corev1.Service).Spec.ClusterIP + ":80"
	slice := newBenchSlice(0, "127.0.0")
	slice.Name, slice.Labels[discoveryv1.LabelServiceName] = svc.Name, svc.Name
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		to := backends[i%2]
		slice.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{to.IP.String()}}}
		slice.Ports[0].Port = new(int32(to.Port))
		start := time.Now()
		if err := put(b, c, slice); err != nil {
			b.Fatal(err)
		}
		for got := byte(0); got != "ab"[i%2]; got = firstByte(b, vip) {
		}
		took = append(took, time.Since(start))
	}
	return took
}

// put creates an EndpointSlice, or updates it when it is there.
func put(b *testing.B, c *client.Client, slice *discoveryv1.EndpointSlice) error {
	b.Helper()
	write := c.Update
	if slice.ResourceVersion == "" {
		write = c.Create
	}
	written, err := write(b.Context(), slice)
	if err == nil {
		slice.ResourceVersion = written.GetResourceVersion()
	}
	return err
}

// namedBackend says its name to who connects.
func namedBackend(tb testing.TB, name byte) *net.TCPAddr {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte{name})
			c.Close()
		}
	}()
	tb.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().(*net.TCPAddr)
}

// firstByte is what the backend behind an address says, or 0 for one that
// refuses.
func firstByte(b *testing.B, address string) byte {
	b.Helper()
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return 0
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(patience))
	var buf [1]byte
	if _, err := io.ReadFull(c, buf[:]); err != nil {
		b.Fatal(err)
	}
	return buf[0]
}

// settle is how long a daemon that is ready is left alone before its memory is
// measured.
const settle = 3 * time.Second

// daemonBytes returns the resident memory of the daemon alone, at rest.
func (r *running) daemonBytes(b *testing.B) float64 {
	b.Helper()
	time.Sleep(settle)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	kb, err := strconv.Atoi(string(m[1]))
	if err != nil {
		b.Fatal(err)
	}
	return float64(kb) * 1024
}
