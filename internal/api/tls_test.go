package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	grpcstatus "google.golang.org/grpc/status"

	"usher/internal/pki"
)

// certify gives s a certification authority, and returns what trusts it.
func certify(t *testing.T, s *Server) *x509.CertPool {
	t.Helper()
	dir := t.TempDir()
	authority, err := pki.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.opts.Certify = authority.ServerConfig
	ca, err := os.ReadFile(filepath.Join(dir, pki.CertFile))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return roots
}

// tlsClient returns a client that trusts roots and speaks HTTP/2, or 1.1 alone.
func tlsClient(t *testing.T, roots *x509.CertPool, http2 bool) *http.Client {
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: http2}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: testTimeout}
}

func tlsHealthClient(t *testing.T, addr string, roots *x509.CertPool) healthpb.HealthClient {
	t.Helper()
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(roots, "")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return healthpb.NewHealthClient(cc)
}

// checkHealth asks by gRPC.
func checkHealth(t *testing.T, c healthpb.HealthClient) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	got, err := c.Check(ctx, new(healthpb.HealthCheckRequest))
	if err == nil && got.Status != healthpb.HealthCheckResponse_SERVING {
		err = fmt.Errorf("health is %v", got.Status)
	}
	return err
}

// One port has everything, with TLS and without.
func TestControlTLS(t *testing.T) {
	s, _ := newTestServer(t, 9, at(5, service("finance", "pay", "10.96.1.1")))
	roots := certify(t, s)
	_, control, _ := start(t, s)
	for proto, client := range map[string]*http.Client{"HTTP/1.1": tlsClient(t, roots, false), "HTTP/2.0": tlsClient(t, roots, true)} {
		for _, host := range []string{control, strings.Replace(control, "127.0.0.1", "localhost", 1)} {
			resp, err := client.Get("https://" + host + "/api/v1/services")
			if err != nil {
				t.Fatal(err)
			}
			if got := readReply(t, resp); resp.Proto != proto || got.code != 200 || !strings.Contains(got.body, "10.96.1.1") {
				t.Errorf("%s: %s %d %s", proto, resp.Proto, got.code, got.body)
			}
		}
	}
	if got := fetch(t, tcpClient(t), "http://"+control+"/api/v1/services"); got.code != 200 {
		t.Errorf("plain: %d %s", got.code, got.body)
	}
	for name, client := range map[string]healthpb.HealthClient{"TLS": tlsHealthClient(t, control, roots), "plain": healthClient(t, control)} {
		if err := checkHealth(t, client); err != nil {
			t.Errorf("gRPC, %s: %v", name, err)
		}
	}
	if _, err := tlsClient(t, x509.NewCertPool(), true).Get("https://" + control + "/livez"); err == nil {
		t.Error("a client that trusts nobody was answered")
	}
	old := tlsClient(t, roots, false)
	old.Transport.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS11
	if _, err := old.Get("https://" + control + "/livez"); err == nil {
		t.Error("TLS 1.1 was spoken")
	}
}

// Requests and calls of gRPC share a connection, and the streams of both last
// longer than an answer may take.
func TestStreamsOverHTTP2(t *testing.T) {
	s, _ := newTestServer(t, 9)
	var broken atomic.Bool
	s.opts.Ready = []Check{{"etcd", func() error {
		if broken.Load() {
			return errors.New("no etcd")
		}
		return nil
	}}}
	// A watch that is silent for longer than a client may leave it unread is not
	// cut off for it.
	s.limits.write, s.limits.stall, s.limits.bookmark = 100*time.Millisecond, 100*time.Millisecond, 400*time.Millisecond
	roots := certify(t, s)
	_, control, stop := start(t, s)
	resp, err := tlsClient(t, roots, true).Get("https://" + control + "/api/v1/services?watch=1&resourceVersion=9&allowWatchBookmarks=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 {
		t.Fatalf("the protocol is %s", resp.Proto)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	updates, err := tlsHealthClient(t, control, roots).Watch(ctx, new(healthpb.HealthCheckRequest))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := updates.Recv(); err != nil || got.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health is %v, %v", got, err)
	}
	w := &stream{t, resp, json.NewDecoder(resp.Body)}
	for range 3 {
		w.expect("BOOKMARK @9")
	}
	broken.Store(true)
	if got, err := updates.Recv(); err != nil || got.Status != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health is %v, %v", got, err)
	}
	stopped := make(chan error, 1)
	begin := time.Now()
	go func() { stopped <- stop() }()
	if got, err := updates.Recv(); err == nil {
		t.Errorf("health is still told: %v", got)
	}
	// net/http may close a connection of HTTP/2 that has nothing more to do
	// before the last frame is out. Its client then reports that it ended, or
	// that this was announced: http2GoAwayError is not exported.
	if rest, err := io.ReadAll(resp.Body); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) &&
		!strings.HasPrefix(err.Error(), "http2: server sent GOAWAY and closed the connection; ") {
		t.Errorf("the watch ends with %q, %v", rest, err)
	}
	if err := <-stopped; err != nil || time.Since(begin) > s.limits.grace {
		t.Errorf("shutdown took %v: %v", time.Since(begin), err)
	}
}

// With TLSOnly nothing is said without TLS, and little without a token.
func TestTLSOnly(t *testing.T) {
	s, _ := newTestServer(t, 9)
	s.opts.TLSOnly = true
	roots := certify(t, s)
	_, control, _ := start(t, s)
	got := fetch(t, tcpClient(t), "http://"+control+"/api/v1/services")
	if got.code != 400 || got.status.Message != "this server speaks no plain HTTP: use https" {
		t.Errorf("plain: %d %s", got.code, got.body)
	}
	if err := checkHealth(t, healthClient(t, control)); grpcstatus.Code(err) != codes.Unauthenticated {
		t.Errorf("plain gRPC: %v", err)
	}
	client := tlsClient(t, roots, true)
	for path, want := range map[string]int{"/api/v1/services": 401, "/metrics": 401, "/readyz": 200, "/version": 200} {
		if got := fetch(t, client, "https://"+control+path); got.code != want {
			t.Errorf("%s without a token: %d %s, want %d", path, got.code, got.body, want)
		}
	}
	if err := checkHealth(t, tlsHealthClient(t, control, roots)); err != nil {
		t.Errorf("gRPC: %v", err)
	}
	r, _ := http.NewRequest("GET", "https://"+control+"/api/v1/services", nil)
	r.Header.Set("Authorization", "Bearer glimpse")
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if got := readReply(t, resp); got.code != 200 {
		t.Errorf("with a token: %d %s", got.code, got.body)
	}
	if got := strings.Join(s.Addresses()[1:], " "); got != "https://"+control {
		t.Errorf("addresses %s", got)
	}
}

// TestShutdownWithTLS checks that a request to the control port is answered at
// shutdown though the other of its servers has nothing to wait for.
func TestShutdownWithTLS(t *testing.T) {
	for _, proto := range []string{"plain", "HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			s, _ := newTestServer(t, 9)
			entered := make(chan struct{})
			s.opts.Metrics = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(entered)
				<-s.control.closed
				select {
				case <-r.Context().Done(): // it has been cut off
				case <-time.After(300 * time.Millisecond):
				}
				io.WriteString(w, "done")
			})
			roots := certify(t, s)
			_, control, stop := start(t, s)
			client, url := tcpClient(t), "http://"+control
			if proto != "plain" {
				client, url = tlsClient(t, roots, proto == "HTTP/2.0"), "https://"+control
			}
			stopped := make(chan error, 1)
			go func() {
				<-entered
				stopped <- stop()
			}()
			resp, err := client.Get(url + "/metrics")
			if err != nil {
				t.Error(err)
			} else if got := readReply(t, resp); got.body != "done" {
				t.Errorf("%d %q", got.code, got.body)
			}
			if err := <-stopped; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
}
