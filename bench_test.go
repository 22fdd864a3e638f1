package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"usher/internal/client"
	"usher/registry"
)

// The benchmarks run the binary that `make build` made, as a user does.
const builtBinary = "bin/usher"

// A running is a daemon that a benchmark started.
type running struct {
	cmd    *exec.Cmd
	socket string
}

// startBuilt starts the daemon on a state directory. It does not wait until
// the daemon is ready. The benchmark ends it.
func startBuilt(b *testing.B, dir string) *running {
	b.Helper()
	return startUnder(b, dir)
}

// startUnder is as startBuilt, by a command that runs the rest of its line.
func startUnder(b *testing.B, dir string, command ...string) *running {
	b.Helper()
	path, err := filepath.Abs(builtBinary)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		b.Skipf("%s is not there: make build makes it", builtBinary)
	}
	if !isolated() {
		b.Skip("no namespaces here: the daemon would take the ports of this machine's")
	}
	r := &running{socket: filepath.Join(dir, "api.sock")}
	line := append(command, path, "serve", "--data-dir", dir, "--socket", r.socket)
	r.cmd = exec.Command(line[0], line[1:]...)
	r.cmd.Env = append(os.Environ(), "USHER_LOG_LEVEL=error")
	r.cmd.Stderr = os.Stderr
	if err := r.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(r.kill)
	return r
}

// kill ends the daemon as kill -9 does. Its etcd ends with it.
func (r *running) kill() {
	r.cmd.Process.Kill()
	r.cmd.Wait()
}

// stop ends the daemon in order.
func (r *running) stop(b *testing.B) {
	b.Helper()
	r.cmd.Process.Signal(os.Interrupt)
	if err := r.cmd.Wait(); err != nil {
		b.Fatalf("the daemon ended with %v", err)
	}
}

// awaitReady asks /readyz until it says yes.
func (r *running) awaitReady(b *testing.B) {
	b.Helper()
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", r.socket)
		},
	}}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		resp, err := c.Get("http://localhost/readyz")
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
	b.Fatal("the daemon does not become ready")
}

// api returns a client of the daemon.
func (r *running) api(b *testing.B) *client.Client {
	b.Helper()
	c, err := client.New("unix:"+r.socket, "")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}

// residentMB returns the resident memory of the daemon and its children.
func (r *running) residentMB(b *testing.B) float64 {
	b.Helper()
	pids := []string{strconv.Itoa(r.cmd.Process.Pid)}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%s/task/*/children", pids[0]))
	if err != nil {
		b.Fatal(err)
	}
	for _, file := range files {
		children, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		pids = append(pids, strings.Fields(string(children))...)
	}
	total := 0
	for _, pid := range pids {
		status, err := os.ReadFile("/proc/" + pid + "/status")
		if err != nil {
			b.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(status), "VmRSS:")
		kb, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil {
			b.Fatal(err)
		}
		total += kb
	}
	return float64(total) / 1024
}

// median returns the middle of durations in milliseconds.
func median(list []time.Duration) float64 { return percentile(list, 50) }

// percentile returns what so many in a hundred durations are below, in
// milliseconds.
func percentile(list []time.Duration, of int) float64 {
	slices.Sort(list)
	return float64(list[len(list)*of/100].Microseconds()) / 1000
}

func newBenchService(i int) *corev1.Service {
	svc := registry.Services.New().(*corev1.Service)
	svc.Namespace, svc.Name = "default", fmt.Sprint("bench-", i)
	svc.Spec.Ports = []corev1.ServicePort{{Port: 80}}
	return svc
}

// BenchmarkColdStart starts a daemon on an empty state directory and waits
// until it is ready. It reports the memory of the idle daemon and its etcd too.
func BenchmarkColdStart(b *testing.B) {
	var took []time.Duration
	resident := 0.0
	for b.Loop() {
		start := time.Now()
		r := startBuilt(b, b.TempDir())
		r.awaitReady(b)
		took = append(took, time.Since(start))
		b.StopTimer()
		resident = max(resident, r.residentMB(b))
		r.stop(b)
		b.StartTimer()
	}
	b.ReportMetric(median(took), "p50-ms")
	b.ReportMetric(resident, "max-MB-RSS")
}

// BenchmarkRestart starts a daemon after kill -9 of the one before, on a
// registry with a hundred Services, and waits until it has taken a write.
func BenchmarkRestart(b *testing.B) {
	dir := b.TempDir()
	r := startBuilt(b, dir)
	r.awaitReady(b)
	c := r.api(b)
	for i := range 100 {
		if _, err := c.Create(b.Context(), newBenchService(i)); err != nil {
			b.Fatal(err)
		}
	}
	var took []time.Duration
	for i := 100; b.Loop(); i++ {
		b.StopTimer()
		r.kill()
		b.StartTimer()
		start := time.Now()
		r = startBuilt(b, dir)
		r.awaitReady(b)
		if _, err := r.api(b).Create(b.Context(), newBenchService(i)); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	b.ReportMetric(median(took), "p50-ms")
}

// BenchmarkCreate creates Services through the API: each answer comes when
// this node serves the Service.
func BenchmarkCreate(b *testing.B) {
	r := startBuilt(b, b.TempDir())
	r.awaitReady(b)
	c := r.api(b)
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		if _, err := c.Create(b.Context(), newBenchService(i)); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	b.ReportMetric(median(took), "p50-ms")
	b.ReportMetric(r.residentMB(b), "MB-RSS")
}
