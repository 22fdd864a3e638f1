package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	grpcstatus "google.golang.org/grpc/status"
)

// start serves s on a unix socket and a control port until the test ends or
// stop is called, which waits for Serve and returns its error.
func start(t testing.TB, s *Server) (socket, control string, stop func() error) {
	t.Helper()
	socket = filepath.Join(shortTempDir(t), "usher.sock")
	if err := s.ListenUnix(socket); err != nil {
		t.Fatal(err)
	}
	if err := s.ListenControl("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	stopped := false
	stop = func() error {
		cancel()
		if stopped {
			return nil
		}
		stopped = true
		select {
		case err := <-served:
			return err
		case <-time.After(testTimeout):
			return errors.New("Serve does not return")
		}
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return socket, s.control.Addr().String(), stop
}

// shortTempDir is t.TempDir with a path that fits a socket's address.
func shortTempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// unixClient returns an HTTP client whose requests all go to socket.
func unixClient(t testing.TB, socket string) *http.Client {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: testTimeout}
}

func tcpClient(t *testing.T) *http.Client {
	tr := new(http.Transport)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: testTimeout}
}

func fetch(t *testing.T, client *http.Client, url string) reply {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	return readReply(t, resp)
}

func dial(t *testing.T, network, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(testTimeout))
	return c
}

func healthClient(t *testing.T, addr string) healthpb.HealthClient {
	t.Helper()
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return healthpb.NewHealthClient(cc)
}

// One port answers HTTP and gRPC, and a client that says nothing keeps
// neither from it.
func TestControlPort(t *testing.T) {
	s, _ := newTestServer(t, 9, at(5, service("finance", "pay", "10.96.1.1")))
	var missing atomic.Pointer[error]
	s.opts.Ready = []Check{{"etcd", func() error {
		if err := missing.Load(); err != nil {
			return *err
		}
		return nil
	}}}
	socket, control, _ := start(t, s)
	for range 8 {
		dial(t, "tcp", control)
	}
	client := tcpClient(t)
	if got := fetch(t, client, "http://"+control+"/api/v1/services"); got.code != 200 || !strings.Contains(got.body, "10.96.1.1") {
		t.Errorf("HTTP: %d %s", got.code, got.body)
	}
	if got := fetch(t, unixClient(t, socket), "http://any.name/api/v1/services"); got.code != 200 {
		t.Errorf("unix: %d %s", got.code, got.body)
	}
	r, _ := http.NewRequest("PATCH", "http://"+control+"/api/v1/services", nil)
	r.Host = "evil.example"
	resp, err := tcpClient(t).Do(r) // on a connection that begins so
	if err != nil {
		t.Fatal(err)
	}
	if got := readReply(t, resp); got.code != http.StatusForbidden {
		t.Errorf("evil PATCH: %d %s", got.code, got.body)
	}

	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	health := healthClient(t, control)
	updates, err := health.Watch(ctx, new(healthpb.HealthCheckRequest))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []healthpb.HealthCheckResponse_ServingStatus{healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING} {
		if got, err := updates.Recv(); err != nil || got.Status != want { // unasked
			t.Errorf("health is said to be %v, %v, want %v", got, err, want)
		}
		if got, err := health.Check(ctx, new(healthpb.HealthCheckRequest)); err != nil || got.Status != want {
			t.Errorf("health is %v, %v, want %v", got, err, want)
		}
		missing.Store(new(errors.New("no etcd")))
	}
	missing.Store(new(error(nil)))
	if got, err := health.Check(ctx, new(healthpb.HealthCheckRequest)); err != nil || got.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health is %v, %v at once after a change", got, err)
	}
	missing.Store(new(errors.New("no etcd")))
	if got := fetch(t, client, "http://"+control+"/readyz"); got.code != 500 || got.body != "[+]ping ok\n[-]etcd failed: no etcd\nreadyz check failed\n" {
		t.Errorf("readyz: %d %q", got.code, got.body)
	}
	if _, err := health.Check(ctx, &healthpb.HealthCheckRequest{Service: "x"}); grpcstatus.Code(err) != codes.NotFound {
		t.Errorf("health of an unknown service: %v", err)
	}
}

// Neither HTTP nor gRPC: the connection is closed.
func TestControlPortGarbage(t *testing.T) {
	s, _ := newTestServer(t, 9)
	s.limits.header = 200 * time.Millisecond // what may be the beginning of a method is waited for
	_, control, _ := start(t, s)
	for _, garbage := range []string{"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1", "hello\r\n", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "\x00"} {
		c := dial(t, "tcp", control)
		fmt.Fprint(c, garbage)
		if n, err := io.Copy(io.Discard, c); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q is answered with %d bytes, %v", garbage, n, err)
		}
	}
	if got := fetch(t, tcpClient(t), "http://"+control+"/livez"); got.code != 200 {
		t.Errorf("afterwards: %d", got.code)
	}
}

func TestHeaderLimit(t *testing.T) {
	s, _ := newTestServer(t, 9)
	_, control, _ := start(t, s)
	c := dial(t, "tcp", control)
	fmt.Fprintf(c, "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: %s", strings.Repeat("x", 2*maxHeaderBytes))
	if line, _ := bufio.NewReader(c).ReadString('\n'); !strings.Contains(line, "431") {
		t.Errorf("%q, want 431", line)
	}
}

// Shutdown is quick though a watch is open, and clients of all sorts say
// nothing; a request in progress is answered.
func TestShutdown(t *testing.T) {
	s, _ := newTestServer(t, 9)
	entered, proceed := make(chan struct{}), make(chan struct{})
	s.opts.Metrics = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-proceed
		io.WriteString(w, "done")
	})
	socket, control, stop := start(t, s)
	silentTCP, silentUnix := dial(t, "tcp", control), dial(t, "unix", socket)
	undecided := dial(t, "tcp", control)
	fmt.Fprint(undecided, "GE") // not enough for cmux
	idle := tcpClient(t)
	fetch(t, idle, "http://"+control+"/livez")

	var watches []*http.Response
	for client, url := range map[*http.Client]string{unixClient(t, socket): "http://usher", tcpClient(t): "http://" + control} {
		resp, err := client.Get(url + "/api/v1/services?watch=1")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		watches = append(watches, resp)
	}
	answered := make(chan string, 1)
	go func() {
		resp, err := unixClient(t, socket).Get("http://usher/metrics")
		if err != nil {
			answered <- err.Error()
			return
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		answered <- string(body)
	}()
	<-entered
	stopped := make(chan error, 1)
	begin := time.Now()
	go func() { stopped <- stop() }()
	for i, w := range watches {
		if body, err := io.ReadAll(w.Body); err != nil || len(body) != 0 {
			t.Errorf("watch %d ends with %q, %v, want a clean end", i, body, err)
		}
	}
	for _, c := range []net.Conn{silentTCP, silentUnix} {
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read %d bytes, %v from a server that shuts down", n, err)
		}
	}
	close(proceed)
	if got := <-answered; got != "done" {
		t.Errorf("the request in progress got %q", got)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if took := time.Since(begin); took > s.limits.grace {
		t.Errorf("shutdown took %v", took)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	if _, err := net.Dial("tcp", control); err == nil {
		t.Error("the control port is still open")
	}
}

// A request that goes on and on is cut off.
func TestShutdownGrace(t *testing.T) {
	s, _ := newTestServer(t, 9)
	s.limits.grace = 100 * time.Millisecond
	entered := make(chan struct{})
	s.opts.Metrics = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})
	socket, _, stop := start(t, s)
	client := unixClient(t, socket)
	failed := make(chan error, 1)
	go func() {
		resp, err := client.Get("http://usher/metrics")
		if err == nil {
			resp.Body.Close()
		}
		failed <- err
	}()
	<-entered
	if err := stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if err := <-failed; err == nil {
		t.Error("the request was answered")
	}
}

func TestListenControlTaken(t *testing.T) {
	s, _ := newTestServer(t, 9)
	_, control, _ := start(t, s)
	other, _ := newTestServer(t, 9)
	if err := other.ListenControl(control); err == nil || !strings.Contains(err.Error(), "listen on "+control) {
		t.Errorf("got %v", err)
	}
}

func TestAddresses(t *testing.T) {
	s, _ := newTestServer(t, 9)
	socket, control, _ := start(t, s)
	got := strings.Join(s.Addresses(), " ")
	if want := "unix:" + socket + " http://" + control; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if addr := netip.MustParseAddrPort(control); !addr.Addr().IsLoopback() {
		t.Errorf("control port on %s", addr)
	}
}
