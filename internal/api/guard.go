package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// A guard stands before the control port, which every program and every web
// page of this machine can reach.
type guard struct {
	hosts []string // by which the port may be asked for, in lower case
	token string
	csrf  *http.CrossOriginProtection
	next  http.Handler
}

func newGuard(hosts []string, token string, next http.Handler) *guard {
	return &guard{hosts: hosts, token: token, csrf: http.NewCrossOriginProtection(), next: next}
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	for _, check := range []func(*http.Request) error{g.checkHost, g.checkOrigin, g.checkToken} {
		if err := check(r); err != nil {
			answerError(w, err)
			return
		}
	}
	g.next.ServeHTTP(w, r)
}

// checkHost refuses a Host that is none of this server's. The port of it may
// be any: a tunnel has its own.
func (g *guard) checkHost(r *http.Request) error {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if slices.Contains(g.hosts, host) || isLocalAddress(r, host) {
		return nil
	}
	return forbidden(fmt.Errorf("host %q is not a name of this server", r.Host))
}

// isLocalAddress reports whether host is the address that the client
// connected to: the only one to go by where the server listens on all.
func isLocalAddress(r *http.Request, host string) bool {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.AddrPort().Addr().Unmap() == addr.Unmap()
}

// checkOrigin refuses requests that another site's page makes a browser send.
// There are no CORS headers either, which would let such a page read answers.
func (g *guard) checkOrigin(r *http.Request) error {
	if origin := r.Header.Get("Origin"); origin != "" {
		o, err := url.Parse(origin)
		if err != nil || o.Host == "" || o.Host != r.Host {
			return forbidden(fmt.Errorf("origin %q is not this server", origin))
		}
	}
	if err := g.csrf.Check(r); err != nil {
		return forbidden(err)
	}
	return nil
}

// openPaths may be read from anywhere, as in Kubernetes
// (system:public-info-viewer).
var openPaths = []string{"/healthz", "/livez", "/readyz", "/version"}

// checkToken asks for the token where a request writes, or comes from another
// host.
func (g *guard) checkToken(r *http.Request) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err == nil && peer.Addr().Unmap().IsLoopback() || slices.Contains(openPaths, r.URL.Path) {
			return nil
		}
	}
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	// Hashes are compared: of equal length whatever was sent.
	a, b := sha256.Sum256([]byte(strings.TrimSpace(given))), sha256.Sum256([]byte(g.token))
	if ok && g.token != "" && subtle.ConstantTimeCompare(a[:], b[:]) == 1 {
		return nil
	}
	return apierrors.NewUnauthorized("Unauthorized")
}

func forbidden(err error) error {
	return apierrors.NewForbidden(schema.GroupResource{}, "", err)
}
