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
// page of this machine can reach, and other hosts where it listens for them.
type guard struct {
	hosts       []string // by which the port may be asked for, in lower case
	credentials []credential
	plaintext   bool // this machine's programs need no TLS, and no token to read
	csrf        *http.CrossOriginProtection
}

// A credential is a token, of which a hash is enough.
type credential struct {
	role Role
	hash [sha256.Size]byte
}

func newGuard(hosts []string, tokens map[Role]string, plaintext bool) *guard {
	g := &guard{hosts: hosts, plaintext: plaintext, csrf: http.NewCrossOriginProtection()}
	for _, role := range Roles {
		if token := tokens[role]; token != "" {
			g.credentials = append(g.credentials, credential{role, sha256.Sum256([]byte(token))})
		}
	}
	return g
}

// admit says who sent a request, or why it is not answered.
func (g *guard) admit(r *http.Request) (caller, error) {
	for _, check := range []func(*http.Request) error{g.checkPlain, g.checkHost, g.checkOrigin} {
		if err := check(r); err != nil {
			return anonymous, err
		}
	}
	return g.authenticate(r)
}

// checkPlain refuses what could have been read on its way, a token with it.
func (g *guard) checkPlain(r *http.Request) error {
	switch {
	case r.TLS != nil:
		return nil
	case !g.plaintext:
		return apierrors.NewBadRequest("this server speaks no plain HTTP: use https")
	case !isLoopback(r.RemoteAddr):
		return apierrors.NewBadRequest("this server speaks plain HTTP to its own machine alone: use https, and a token")
	}
	return nil
}

// isLoopback reports whether a peer is a program of this machine.
func isLoopback(remote string) bool {
	peer, err := netip.ParseAddrPort(remote)
	return err == nil && peer.Addr().Unmap().IsLoopback()
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

// authenticate says who sent a request. A token that is not known is refused
// even where none is needed, as in Kubernetes: who shows one means to be somebody.
func (g *guard) authenticate(r *http.Request) (caller, error) {
	kind, token, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if token = strings.TrimSpace(token); strings.EqualFold(kind, "Bearer") && token != "" {
		if role := g.roleOf(token); role != "" {
			return user("usher:"+string(role), role), nil
		}
		return anonymous, apierrors.NewUnauthorized("Unauthorized")
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		if g.plaintext && isLoopback(r.RemoteAddr) || slices.Contains(openPaths, r.URL.Path) {
			return anonymous, nil
		}
	}
	return anonymous, apierrors.NewUnauthorized("Unauthorized")
}

// roleOf returns the role of a token, or "". How long it takes says nothing
// about the tokens that there are: hashes are compared, of equal length whatever
// was sent, and all of them.
func (g *guard) roleOf(token string) Role {
	hash := sha256.Sum256([]byte(token))
	var found Role
	for _, c := range g.credentials {
		if subtle.ConstantTimeCompare(hash[:], c.hash[:]) == 1 {
			found = c.role
		}
	}
	return found
}

func forbidden(err error) error {
	return apierrors.NewForbidden(schema.GroupResource{}, "", err)
}
