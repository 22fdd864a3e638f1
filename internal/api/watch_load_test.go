package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"usher/registry"
)

// dialWatch opens a watch of all Services from revision 9 on and returns its
// connection, of which nothing but the status has been read. Its receive
// buffer is small, so that a client that stops reading is soon noticed.
func dialWatch(t *testing.T, control string) (net.Conn, *http.Response) {
	t.Helper()
	var conn net.Conn
	tr := &http.Transport{Dial: func(network, addr string) (net.Conn, error) {
		c, err := net.Dial(network, addr)
		if err != nil {
			return nil, err
		}
		conn = c
		return c, c.(*net.TCPConn).SetReadBuffer(16 << 10)
	}}
	resp, err := tr.RoundTrip(newRequest(t, "http://"+control+"/api/v1/services?watch=1&resourceVersion=9"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("watch: %s", resp.Status)
	}
	return conn, resp
}

func newRequest(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// readInOrder reads a watch until it has seen the revisions from 10 to last,
// each of them once and in order.
func readInOrder(resp *http.Response, last int64) error {
	dec := json.NewDecoder(resp.Body)
	for want := int64(10); want <= last; want++ {
		var e event
		if err := dec.Decode(&e); err != nil {
			return fmt.Errorf("before %d: %w", want, err)
		}
		if e.Object.ResourceVersion != strconv.FormatInt(want, 10) {
			return fmt.Errorf("%s, want %d", e, want)
		}
	}
	return nil
}

// readAll has each of the watches read in order, all at once.
func readAll(t *testing.T, watches []*http.Response, last int64) (wait func()) {
	t.Helper()
	var reading sync.WaitGroup
	for i, resp := range watches {
		reading.Go(func() {
			if err := readInOrder(resp, last); err != nil {
				t.Errorf("watch %d: %v", i, err)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		reading.Wait()
	}()
	return func() {
		t.Helper()
		select {
		case <-done:
		case <-time.After(testTimeout):
			for _, resp := range watches {
				resp.Body.Close()
			}
			<-done
			t.Fatal("watches have not seen all in time")
		}
	}
}

// As many clients as a monitoring system and its dashboards have see every
// change, each once and in order.
func TestManyWatches(t *testing.T) {
	const watches, changes = 50, 1000
	s, store := newTestServer(t, 9)
	_, control, _ := start(t, s)
	var open []*http.Response
	for range watches {
		_, resp := dialWatch(t, control)
		open = append(open, resp)
	}
	wait := readAll(t, open, 9+changes)
	for revision := int64(10); revision <= 9+changes; revision++ {
		put(store, revision, service("x", fmt.Sprint("s", revision%7), "10.96.1.1"))
	}
	wait()
}

// Clients that have stopped reading hold nobody up while they are waited for,
// and cost no more memory the more happens. TestSlowReader has their end.
func TestStalledWatches(t *testing.T) {
	const stalled, reading, changes, size = 8, 5, 400, 64 << 10 // 26 MB for each of them
	s, store := newTestServer(t, 9)
	s.limits.stall = time.Hour
	_, control, _ := start(t, s)
	var idle []net.Conn
	for range stalled {
		conn, _ := dialWatch(t, control)
		idle = append(idle, conn)
	}
	var open []*http.Response
	for range reading {
		_, resp := dialWatch(t, control)
		open = append(open, resp)
	}
	wait := readAll(t, open, 9+changes)
	svc := service("x", "a", "10.96.1.1")
	svc.Annotations = map[string]string{"big": strings.Repeat("x", size)}
	for revision := int64(10); revision <= 9+changes; revision++ {
		put(store, revision, svc.DeepCopyObject().(registry.Object))
	}
	wait()
	if got := openWatches(t, s); got != stalled+reading {
		t.Fatalf("%d watches are open, want %d: a stalled one has ended", got, stalled+reading)
	}
	with := heapInUse()
	for _, conn := range idle {
		conn.Close()
	}
	for deadline := time.Now().Add(testTimeout); openWatches(t, s) > reading; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d watches are open, want only the %d that read", openWatches(t, s), reading)
		}
	}
	if each := (with - heapInUse()) / stalled; each > 1<<20 {
		t.Errorf("a stalled watch holds %d KB", each>>10)
	}
}

// openWatches returns how many watches s counts.
func openWatches(t *testing.T, s *Server) int {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(s.metrics.watches)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return int(families[0].GetMetric()[0].GetGauge().GetValue())
}

// heapInUse returns the bytes of the live heap.
func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A pausedWriter holds up what follows its first flush until pause is closed.
type pausedWriter struct {
	http.ResponseWriter
	pause chan struct{}
}

func (p *pausedWriter) FlushError() error {
	err := http.NewResponseController(p.ResponseWriter).Flush()
	<-p.pause
	return err
}

func (p *pausedWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func TestWatchLimit(t *testing.T) {
	s, _ := newTestServer(t, 9)
	d := newDoor(admitLocal)
	for range maxWatches {
		d.watches <- struct{}{}
	}
	got := ask(t, s.handler(d), "GET", "/api/v1/services?watch=1", "")
	if got.code != http.StatusTooManyRequests || got.status.Reason != "TooManyRequests" || got.header.Get("Retry-After") != "1" {
		t.Errorf("%d %s", got.code, got.body)
	}
	if got := ask(t, s.handler(d), "GET", "/api/v1/services", ""); got.code != http.StatusOK {
		t.Errorf("a list beside them: %d %s", got.code, got.body)
	}
	openWatch(t, s.handler(newDoor(admitLocal)), "/api/v1/services?watch=1&timeoutSeconds=1").end()
	<-d.watches
	w := openWatch(t, s.handler(d), "/api/v1/services?watch=1&timeoutSeconds=1")
	w.end()
	if got := len(d.watches); got != maxWatches-1 {
		t.Errorf("%d watches are open, want %d: the last one has ended", got, maxWatches-1)
	}
}

// A watch goes on when other requests would have been cut off.
func TestLongWatch(t *testing.T) {
	s, _ := newTestServer(t, 9)
	s.limits.read, s.limits.write, s.limits.header, s.limits.bookmark = 200*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond, 50*time.Millisecond
	_, control, _ := start(t, s)
	resp, err := tcpClient(t).Get("http://" + control + "/api/v1/services?watch=1&resourceVersion=9&allowWatchBookmarks=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	w := &stream{t, resp, json.NewDecoder(resp.Body)}
	for range 20 {
		w.expect("BOOKMARK @9")
	}
}

// A client that does not read is cut off, and holds nobody up.
func TestSlowReader(t *testing.T) {
	s, store := newTestServer(t, 9)
	s.limits.stall = 200 * time.Millisecond
	srv := httptest.NewUnstartedServer(s.Handler())
	ended := make(chan struct{}, 1)
	srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			ended <- struct{}{}
		}
	}
	srv.Start()
	defer srv.Close()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /api/v1/services?watch=1&resourceVersion=9 HTTP/1.1\r\nHost: x\r\n\r\n")
	if line, err := bufio.NewReaderSize(c, 16).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Fatalf("%q, %v", line, err)
	}
	svc := service("x", "a", "10.96.1.1")
	svc.Annotations = map[string]string{"big": strings.Repeat("x", 64<<10)}
	for revision := int64(10); revision < 400; revision++ { // 25 MB, far more than the buffers of a socket
		put(store, revision, svc.DeepCopy())
	}
	select {
	case <-ended:
	case <-time.After(testTimeout):
		t.Error("the watch goes on")
	}
}
