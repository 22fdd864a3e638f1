package api

import (
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestGuard(t *testing.T) {
	s, _ := newTestServer(t, 9, at(5, service("finance", "pay", "10.96.1.1")))
	s.opts.Hosts = []string{"10.96.0.1"}
	h := guarded(s, newGuard(s.hosts(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 7080}), s.opts.Tokens, true))
	const url, token = "/api/v1/namespaces/finance/services", "Bearer secret"
	tests := []struct {
		name    string
		method  string
		headers []string
		code    int // 415: it got through the guard, and the body has no type that is known
		reason  metav1.StatusReason
	}{
		{"plain", "GET", nil, 200, ""},
		{"address", "GET", []string{"Host", "127.0.0.1:7080"}, 200, ""},
		{"no port", "GET", []string{"Host", "127.0.0.1"}, 200, ""},
		{"name", "GET", []string{"Host", "localhost:7080"}, 200, ""},
		{"upper case", "GET", []string{"Host", "LocalHost:7080"}, 200, ""},
		{"IPv6", "GET", []string{"Host", "[::1]:7080"}, 200, ""},
		{"IPv6, no port", "GET", []string{"Host", "[::1]"}, 200, ""},
		{"listen address", "GET", []string{"Host", "192.0.2.7:7080"}, 200, ""},
		{"configured", "GET", []string{"Host", "10.96.0.1:443"}, 200, ""},
		{"service", "GET", []string{"Host", "kubernetes"}, 200, ""},
		{"service.namespace", "GET", []string{"Host", "kubernetes.default"}, 200, ""},
		{"service.namespace.svc", "GET", []string{"Host", "kubernetes.default.svc:443"}, 200, ""},
		{"full name", "GET", []string{"Host", "kubernetes.default.svc.cluster.local"}, 200, ""},
		{"full name, rooted", "GET", []string{"Host", "kubernetes.default.svc.cluster.local."}, 200, ""},
		{"other domain", "GET", []string{"Host", "kubernetes.default.svc.evil.example"}, 403, "Forbidden"},
		{"rebinding", "GET", []string{"Host", "evil.example:7080"}, 403, "Forbidden"},
		{"suffix", "GET", []string{"Host", "localhost.evil.example"}, 403, "Forbidden"},
		{"prefix", "GET", []string{"Host", "evil-localhost"}, 403, "Forbidden"},
		{"another address", "GET", []string{"Host", "192.0.2.8:7080"}, 403, "Forbidden"},
		{"rebinding with token", "POST", []string{"Host", "evil.example", "Authorization", token}, 403, "Forbidden"},

		{"same origin", "GET", []string{"Host", "localhost:7080", "Origin", "http://localhost:7080"}, 200, ""},
		{"foreign origin", "GET", []string{"Host", "localhost:7080", "Origin", "http://evil.example"}, 403, "Forbidden"},
		{"other port", "GET", []string{"Host", "localhost:7080", "Origin", "http://localhost:3000"}, 403, "Forbidden"},
		{"null origin", "GET", []string{"Host", "localhost:7080", "Origin", "null"}, 403, "Forbidden"},
		{"foreign origin, write", "POST", []string{"Host", "localhost:7080", "Origin", "http://evil.example", "Authorization", token}, 403, "Forbidden"},
		{"cross site, write", "POST", []string{"Host", "localhost:7080", "Sec-Fetch-Site", "cross-site", "Authorization", token}, 403, "Forbidden"},
		{"same origin, write", "POST", []string{"Host", "localhost:7080", "Origin", "http://localhost:7080", "Sec-Fetch-Site", "same-origin", "Authorization", token}, 415, "UnsupportedMediaType"},

		{"write", "POST", []string{"Authorization", token}, 415, "UnsupportedMediaType"},
		{"write, no token", "POST", nil, 401, "Unauthorized"},
		{"write, wrong token", "POST", []string{"Authorization", "Bearer secreT"}, 401, "Unauthorized"},
		{"write, longer token", "POST", []string{"Authorization", "Bearer secret1"}, 401, "Unauthorized"},
		{"write, empty token", "POST", []string{"Authorization", "Bearer "}, 401, "Unauthorized"},
		{"write, basic", "POST", []string{"Authorization", "Basic c2VjcmV0"}, 401, "Unauthorized"},
		{"delete, no token", "DELETE", nil, 401, "Unauthorized"},
		{"put, no token", "PUT", nil, 401, "Unauthorized"},
		{"patch, no token", "PATCH", nil, 401, "Unauthorized"},
		{"preflight", "OPTIONS", []string{"Access-Control-Request-Method", "POST"}, 401, "Unauthorized"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			headers := append([]string{"Host", "127.0.0.1:7080", "Content-Type", "text/plain"}, tt.headers...)
			got := ask(t, fromPeer("127.0.0.1:5000", false, h), tt.method, url, "{}", headers...)
			if got.code != tt.code || got.status.Reason != tt.reason {
				t.Errorf("%d %s, want %d %s", got.code, got.body, tt.code, tt.reason)
			}
			for name := range got.header {
				if len(name) > 15 && name[:15] == "Access-Control-" {
					t.Errorf("a CORS header: %s", name)
				}
			}
			if got.code == http.StatusUnauthorized && got.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("WWW-Authenticate: %q", got.header.Get("WWW-Authenticate"))
			}
			if got.header.Get("X-Content-Type-Options") != "nosniff" {
				t.Error("no nosniff")
			}
		})
	}
}

// A Server without a token is read only.
func TestGuardWithoutToken(t *testing.T) {
	s, _ := newTestServer(t, 9)
	h := guarded(s, newGuard([]string{"localhost"}, map[Role]string{RoleView: ""}, true))
	for _, header := range []string{"", "Bearer", "Bearer "} {
		got := ask(t, fromPeer("127.0.0.1:5000", false, h), "POST", "/api/v1/namespaces", "{}", "Host", "localhost", "Authorization", header)
		if got.code != http.StatusUnauthorized {
			t.Errorf("%q: %d %s", header, got.code, got.body)
		}
	}
}

// Reads are free for this machine alone, and nothing is for another one without
// TLS.
func TestGuardOtherHost(t *testing.T) {
	s, _ := newTestServer(t, 9)
	const here, other = "127.0.0.1:5000", "192.0.2.1:5000"
	const services, status = "/api/v1/services", "/apis/usher.internal/v1/status"
	tests := []struct {
		peer, path, token string
		tls               bool
		want, wantTLSOnly int
	}{
		{here, services, "", false, 200, 400},
		{"[::1]:5000", services, "", false, 200, 400},
		{"[::ffff:127.0.0.1]:5000", services, "", false, 200, 400},
		{here, services, "Basic Z2xpbXBzZTo=", false, 200, 400},
		{here, services, "Bearer wrong", false, 401, 400},
		{here, services, "Bearer glimpse", false, 200, 400},
		{here, services, "bearer  secret ", false, 200, 400},
		{here, services, "", true, 200, 401},
		{here, services, "Bearer wrong", true, 401, 401},
		{here, "/readyz", "Bearer wrong", true, 401, 401},
		{here, "/readyz", "", true, 200, 200},

		{other, services, "", false, 400, 400},
		{other, services, "Bearer secret", false, 400, 400},
		{other, "/readyz", "", false, 400, 400},
		{other, services, "", true, 401, 401},
		{other, services, "Bearer wrong", true, 401, 401},
		{other, services, "Bearer glimpse", true, 200, 200},
		{other, services, "Bearer secret", true, 200, 200},
		{other, status, "", true, 401, 401},
		{other, "/metrics", "", true, 401, 401},
		{other, "/readyz", "", true, 200, 200},
		{other, "/version", "", true, 200, 200},
	}
	for _, tt := range tests {
		for plaintext, want := range map[bool]int{true: tt.want, false: tt.wantTLSOnly} {
			h := guarded(s, newGuard([]string{"laptop"}, s.opts.Tokens, plaintext))
			got := ask(t, fromPeer(tt.peer, tt.tls, h), "GET", tt.path, "", "Host", "laptop", "Authorization", tt.token)
			if got.code != want {
				t.Errorf("%s from %s with %q, TLS %v, plaintext %v: %d %s, want %d", tt.path, tt.peer, tt.token, tt.tls, plaintext, got.code, got.body, want)
			}
			if got.code == http.StatusBadRequest && (got.status.Reason != metav1.StatusReasonBadRequest || !strings.Contains(got.status.Message, "use https")) {
				t.Errorf("%s from %s is refused by %s", tt.path, tt.peer, got.body)
			}
		}
	}
}

// guarded returns the API behind g.
func guarded(s *Server, g *guard) http.Handler { return s.handler(newDoor(g.admit)) }

// fromPeer is h for requests of a client at addr, over TLS or plain.
func fromPeer(addr string, secure bool, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = addr
		if secure {
			r.TLS = new(tls.ConnectionState)
		}
		h.ServeHTTP(w, r)
	})
}
