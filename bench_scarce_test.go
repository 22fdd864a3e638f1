package main

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

const (
	scarceFiles   = 256
	scarceClients = 2000
	scarceTime    = 10 * time.Second
)

// BenchmarkScarce lets two thousand clients come to a daemon that may have 256
// descriptors. Those that are let in talk on; the others come again every
// second. It reports how many are in, how long it took to tell the others, what
// that cost, and how long those in, the API and the DNS took to answer.
func BenchmarkScarce(b *testing.B) {
	b.Setenv("USHER_VIEWS", "anyip")
	r := startUnder(b, b.TempDir(), "sh", "-c", `ulimit -n `+strconv.Itoa(scarceFiles)+` && exec "$0" "$@"`)
	r.awaitReady(b)
	vip, c := serveEcho(b, r), r.api(b)
	for b.Loop() {
		var s scarce
		ctx, cancel := context.WithTimeout(b.Context(), scarceTime)
		var wg sync.WaitGroup
		for i := range scarceClients {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Second / scarceClients) // each has its time in a second
				s.client(ctx, vip)
			})
		}
		wg.Go(func() { s.probe(ctx, &s.api, func() error { _, err := c.Status(ctx); return err }) })
		wg.Go(func() { s.probe(ctx, &s.dns, func() error { return resolveBench(ctx) }) })
		before, start := processorTime(b, r.cmd.Process.Pid), time.Now()
		wg.Wait()
		cpu := processorTime(b, r.cmd.Process.Pid) - before
		cancel()
		if len(s.failures) > 0 {
			b.Errorf("%d failures, the first: %v", len(s.failures), s.failures[0])
		}
		b.ReportMetric(float64(s.admitted), "let-in")
		b.ReportMetric(percentile(s.resets, 99), "reset-p99-ms")
		b.ReportMetric(percentile(s.talks, 99), "talk-p99-ms")
		b.ReportMetric(percentile(s.api, 99), "api-p99-ms")
		b.ReportMetric(percentile(s.dns, 99), "dns-p99-ms")
		b.ReportMetric(100*float64(cpu)/float64(time.Since(start)), "CPU-%")
	}
}

// A scarce is what clients have seen.
type scarce struct {
	mu       sync.Mutex // guards the following
	admitted int
	failures []error
	resets   []time.Duration
	talks    []time.Duration
	api      []time.Duration
	dns      []time.Duration
}

func (s *scarce) note(list *[]time.Duration, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*list = append(*list, took)
}

func (s *scarce) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, err)
}

// client connects again and again until it is let in, and talks from then on.
func (s *scarce) client(ctx context.Context, vip string) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		start := time.Now()
		c, err := net.DialTimeout("tcp4", vip, patience)
		if err == nil {
			err = talk(c)
		}
		switch {
		case err == nil && ctx.Err() == nil:
			s.mu.Lock()
			s.admitted++
			s.mu.Unlock()
			s.stay(ctx, c)
			return
		case errors.Is(err, syscall.ECONNRESET):
			s.note(&s.resets, time.Since(start))
		case ctx.Err() == nil:
			s.fail(err)
		}
		if c != nil {
			c.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// stay talks ten times a second.
func (s *scarce) stay(ctx context.Context, c net.Conn) {
	defer c.Close()
	s.probe(ctx, &s.talks, func() error { return talk(c) })
}

func (s *scarce) probe(ctx context.Context, list *[]time.Duration, ask func() error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		start := time.Now()
		if err := ask(); err == nil {
			s.note(list, time.Since(start))
		} else if ctx.Err() == nil {
			s.fail(err)
		}
	}
}

// talk says a byte and waits for it to come back.
func talk(c net.Conn) error {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1))
	return err
}

// serveEcho makes a Service whose backend sends back what it gets, and returns
// its address.
func serveEcho(b *testing.B, r *running) string {
	b.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for buf := make([]byte, 1); ; {
					if _, err := c.Read(buf); err != nil {
						return
					}
					c.Write(buf)
				}
			}()
		}
	}()
	c := r.api(b)
	slice := newBenchSlice(0, "127.0.0")
	slice.Endpoints = slice.Endpoints[1:2]
	slice.Ports[0].Port = new(int32(l.Addr().(*net.TCPAddr).Port))
	var vip string
	for _, obj := range []registry.Object{slice, newBenchService(0)} {
		created, err := c.Create(b.Context(), obj)
		if err != nil {
			b.Fatal(err)
		}
		if svc, ok := created.(*corev1.Service); ok {
			vip = svc.Spec.ClusterIP + ":80"
		}
	}
	return vip
}

// resolveBench asks the daemon for the Service of serveEcho.
func resolveBench(ctx context.Context) error {
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, "10.96.0.10:53")
	}}
	_, err := resolver.LookupHost(ctx, "bench-0.default.svc.cluster.local.")
	return err
}

// processorTime returns what a process has used, its children not counted.
func processorTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	ticks := 0
	for _, f := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.Atoi(f)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
