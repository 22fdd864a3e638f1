package api

import (
	"net"
	"net/http"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestGuard(t *testing.T) {
	s, _ := newTestServer(t, 9, at(5, service("finance", "pay", "10.96.1.1")))
	s.opts.Hosts = []string{"10.96.0.1"}
	h := newGuard(s.hosts(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 7080}), "secret", s.Handler())
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
			got := ask(t, fromPeer("127.0.0.1:5000", h), tt.method, url, "{}", headers...)
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
	h := newGuard([]string{"localhost"}, "", s.Handler())
	for _, header := range []string{"", "Bearer", "Bearer "} {
		got := ask(t, fromPeer("127.0.0.1:5000", h), "POST", "/api/v1/namespaces", "{}", "Host", "localhost", "Authorization", header)
		if got.code != http.StatusUnauthorized {
			t.Errorf("%q: %d %s", header, got.code, got.body)
		}
	}
}

// Reads are free for this machine alone.
func TestGuardOtherHost(t *testing.T) {
	s, _ := newTestServer(t, 9)
	h := newGuard([]string{"laptop"}, "secret", s.Handler())
	tests := []struct {
		peer, path, token string
		want              int
	}{
		{"127.0.0.1:5000", "/api/v1/services", "", 200},
		{"[::1]:5000", "/api/v1/services", "", 200},
		{"[::ffff:127.0.0.1]:5000", "/api/v1/services", "", 200},
		{"192.0.2.1:5000", "/api/v1/services", "", 401},
		{"192.0.2.1:5000", "/api/v1/services", "Bearer secret", 200},
		{"192.0.2.1:5000", "/readyz", "", 200},
		{"192.0.2.1:5000", "/version", "", 200},
		{"192.0.2.1:5000", "/apis/usher.internal/v1/status", "", 401},
	}
	for _, tt := range tests {
		got := ask(t, fromPeer(tt.peer, h), "GET", tt.path, "", "Host", "laptop", "Authorization", tt.token)
		if got.code != tt.want {
			t.Errorf("%s from %s with %q: %d, want %d", tt.path, tt.peer, tt.token, got.code, tt.want)
		}
	}
}

func fromPeer(addr string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = addr
		h.ServeHTTP(w, r)
	})
}
