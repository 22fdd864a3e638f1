package agent

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
)

// userAgent is how the kubelet of the Kubernetes whose types usher speaks names
// itself.
const userAgent = "kube-probe/1.37"

// anyCertificate takes every certificate, as the kubelet does: the question is
// whether the process answers.
var anyCertificate = &tls.Config{InsecureSkipVerify: true}

// askTCP connects.
func askTCP(at endpoint) func(context.Context, time.Duration) (string, error) {
	return func(ctx context.Context, timeout time.Duration) (string, error) {
		conn, err := (&net.Dialer{Timeout: timeout}).DialContext(ctx, "tcp", at.String())
		if err != nil {
			return "", err
		}
		conn.Close()
		return "", nil
	}
}

// askHTTP sends a GET. Redirects to the same host are followed; one to another
// host is an answer, and worth a warning.
func askHTTP(get *corev1.HTTPGetAction, at endpoint) func(context.Context, time.Duration) (string, error) {
	transport := &http.Transport{TLSClientConfig: anyCertificate.Clone(), ForceAttemptHTTP2: true, DisableKeepAlives: true, DisableCompression: true}
	if get.Protocol != nil && *get.Protocol == corev1.HTTPProtocolHTTP2 {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	return func(ctx context.Context, timeout time.Duration) (string, error) {
		defer transport.CloseIdleConnections() // HTTP/2 keeps them all the same
		req, err := probeRequest(ctx, get, at)
		if err != nil {
			return "", err
		}
		client := &http.Client{Timeout: timeout, Transport: transport, CheckRedirect: followOnHost}
		resp, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxProbeOutput))
		switch {
		case err != nil:
			return "", err
		case resp.StatusCode < http.StatusOK || resp.StatusCode >= http.StatusBadRequest:
			// Without the body: it may say what is not for everybody.
			return "", fmt.Errorf("HTTP probe failed with statuscode: %d", resp.StatusCode)
		case resp.StatusCode >= http.StatusMultipleChoices:
			return fmt.Sprintf("Probe terminated redirects, Response body: %s", body), nil
		}
		return "", nil
	}
}

func probeRequest(ctx context.Context, get *corev1.HTTPGetAction, at endpoint) (*http.Request, error) {
	u, err := url.Parse(get.Path)
	if err != nil {
		u = &url.URL{Path: get.Path}
	}
	u.Scheme, u.Host = strings.ToLower(cmp.Or(string(get.Scheme), "http")), at.String()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, h := range get.HTTPHeaders {
		req.Header.Add(h.Name, h.Value)
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header.Set("User-Agent", userAgent)
	}
	if _, ok := req.Header["Accept"]; !ok {
		req.Header.Set("Accept", "*/*")
	} else if req.Header.Get("Accept") == "" {
		req.Header.Del("Accept")
	}
	req.Host = req.Header.Get("Host")
	return req, nil
}

func followOnHost(req *http.Request, via []*http.Request) error {
	if req.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	return nil
}

// askGRPC asks a health service (grpc.health.v1). A connection that is refused
// is a failure at once; the kubelet would try until the timeout.
func askGRPC(action *corev1.GRPCAction, at endpoint) func(context.Context, time.Duration) (string, error) {
	transport := insecure.NewCredentials()
	if action.Mode != nil && *action.Mode == corev1.GRPCProbeModeTLS {
		transport = credentials.NewTLS(anyCertificate)
	}
	service := ""
	if action.Service != nil {
		service = *action.Service
	}
	return func(ctx context.Context, timeout time.Duration) (string, error) {
		conn, err := grpc.NewClient("passthrough:///"+at.String(),
			grpc.WithUserAgent(userAgent), grpc.WithTransportCredentials(transport), grpc.WithNoProxy(),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxProbeOutput)))
		if err != nil {
			return "", err
		}
		defer conn.Close()
		resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
		connected := conn.GetState() == connectivity.Ready
		switch code := status.Code(err); {
		case err == nil && resp.GetStatus() != healthpb.HealthCheckResponse_SERVING:
			return "", fmt.Errorf("service unhealthy (responded with %q)", resp.GetStatus().String())
		case err == nil:
			return "", nil
		case code == codes.Unimplemented:
			return "", fmt.Errorf("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): %s", status.Convert(err).Message())
		case code == codes.DeadlineExceeded && connected:
			return "", fmt.Errorf("timeout: health rpc did not complete within %v", timeout)
		case code == codes.DeadlineExceeded:
			return "", fmt.Errorf("timeout: failed to connect service %q within %v: %v", at, timeout, context.DeadlineExceeded)
		case code == codes.Unavailable && !connected:
			return "", fmt.Errorf("error: failed to connect service at %q: %s", at, status.Convert(err).Message())
		}
		return "", fmt.Errorf("error: health rpc probe failed: %w", err)
	}
}

// runProbe runs a command beside the process, with what that has in its
// environment. What the command has started ends with it.
func (r *replica) runProbe(ctx context.Context, command []string, timeout time.Duration) error {
	out := &beginning{limit: maxProbeOutput}
	both := &lockedWriter{w: out}
	p, err := startProcess(command, r.workload.Dir, r.environ, both, both, r.watchdog, r.network)
	if err != nil {
		return err
	}
	select {
	case <-p.dead:
	case <-ctx.Done():
		p.signal(syscall.SIGKILL)
		<-p.dead
	}
	<-p.drained
	code, _ := p.status()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("command timed out: %q timed out after %s", strings.Join(command, " "), timeout)
	case code == 0:
		return nil
	case out.Len() == 0:
		return fmt.Errorf("exit code %d", code)
	}
	return errors.New(out.String())
}

// A beginning keeps the first bytes of what is written, up to its limit.
type beginning struct {
	bytes.Buffer
	limit int
}

func (b *beginning) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), b.limit-b.Len())])
	return len(p), nil
}
