package api

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"usher/internal/peer"
)

// A Role says what a user of the API may do.
type Role string

const (
	RoleAdmin Role = "admin" // everything
	RoleView  Role = "view"  // get, list and watch
)

// Roles are those that there are tokens for.
var Roles = []Role{RoleAdmin, RoleView}

// allows reports whether the role may do a.
func (r Role) allows(a attributes) bool {
	switch r {
	case RoleAdmin:
		return true
	case RoleView:
		return a.reads() || a.asksAboutSelf()
	}
	return false
}

// A caller is who sent a request.
type caller struct {
	name   string
	groups []string
	role   Role
}

// authorize says why c may not do a, if it may not. Nobody may act as somebody
// else, which Kubernetes permits to some: who asks for it and is not heeded would
// think that it works.
func (c caller) authorize(a attributes, h http.Header) error {
	for name := range h {
		if strings.HasPrefix(name, "Impersonate-") {
			return attributes{verb: "impersonate", resource: "users", name: h.Get("Impersonate-User")}.forbid(c)
		}
	}
	if !c.role.allows(a) {
		return a.forbid(c)
	}
	return nil
}

// anonymous is who may read without a token.
var anonymous = caller{name: "system:anonymous", groups: []string{"system:unauthenticated"}, role: RoleView}

// user returns the caller of that name.
func user(name string, role Role) caller {
	return caller{name: name, groups: []string{"usher:" + string(role), "system:authenticated"}, role: role}
}

// A door is a way into the API. What one lets in at once is bounded for each,
// so that nobody at the control port is in the way of the unix socket.
type door struct {
	admit    func(*http.Request) (caller, error) // the error is the answer
	requests chan struct{}                       // has an element for each request in progress, watches apart
	watches  chan struct{}                       // has an element for each open watch
}

func newDoor(admit func(*http.Request) (caller, error)) *door {
	return &door{admit: admit, requests: make(chan struct{}, maxRequests), watches: make(chan struct{}, maxWatches)}
}

// serve answers a request that has found what serves it.
func (d *door) serve(c call, w http.ResponseWriter, r *http.Request) error {
	slots, busy := d.requests, "too many requests, please try again later"
	if c.verb == "watch" || c.verb == "connect" { // which last
		slots, busy = d.watches, "too many watches are open, please try again later"
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	default:
		return apierrors.NewTooManyRequests(busy, 1)
	}
	return c.serve(w, r)
}

type callerKey struct{}

// callerOf returns who sent a request that came through a door.
func callerOf(ctx context.Context) caller { return ctx.Value(callerKey{}).(caller) }

type peerKey struct{}

// withPeer is http.Server.ConnContext for a unix socket: it notes who is at the
// other end.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if known, ok := c.(*conn); ok {
		c = known.Conn
	}
	if uc, ok := c.(*net.UnixConn); ok {
		if uid, err := peer.UID(uc); err == nil {
			return context.WithValue(ctx, peerKey{}, "uid:"+strconv.FormatUint(uint64(uid), 10))
		}
	}
	return ctx
}

// admitLocal lets in whoever the socket let in, as an administrator.
func admitLocal(r *http.Request) (caller, error) {
	name, ok := r.Context().Value(peerKey{}).(string)
	if !ok {
		name = "usher:admin" // where sockets do not know their peers
	}
	return user(name, RoleAdmin), nil
}
