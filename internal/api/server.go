package api

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/version"

	"usher/registry"
)

// Options are what a Server serves.
type Options struct {
	Store  *registry.Store
	Writer *Writer // if nil, writes are answered with 503

	// Status describes the daemon. If nil, there is no status resource.
	Status func() Status

	// Connections lists what is open on this node. If nil, there is no such
	// resource.
	Connections func(context.Context, ConnectionQuery) (ConnectionList, error)

	// Reports takes what programs connect without the proxy. If nil, nobody does.
	Reports Reports

	// ShowIn shows the Services in a network namespace whose sockets are lent over
	// lender, until ctx is done or they are not lent any more. If nil, nobody can
	// ask for that.
	ShowIn func(ctx context.Context, view PrivateView, lender *net.UnixConn) error

	// Logs writes what the process of a Pod on this node has written, and with
	// Follow goes on. If nil, nothing is kept.
	Logs func(ctx context.Context, w io.Writer, pod *corev1.Pod, o corev1.PodLogOptions) error

	// Ejections lists the backends that are tried last. If nil, there is no such
	// resource.
	Ejections func() []Ejection

	// Explain answers a Question, or says what is wrong with it. If nil, there
	// is no such resource.
	Explain func(Question) (Explanation, error)

	// Ready has the checks of /readyz. If nil, a synced Store is enough.
	Ready []Check

	// Tokens are what a client of the control port must show: to write, and to
	// read from another host. Without one for a role nobody has it.
	Tokens map[Role]string

	// Certify returns the TLS configuration of the control port, which is known
	// by these names and addresses. If nil, there is no TLS.
	Certify func(hosts []string) *tls.Config

	// TLSOnly refuses plain HTTP and gRPC on the control port, which programs of
	// this machine may otherwise speak, and reads without a token.
	TLSOnly bool

	// ClusterDomain ends the names under which Services know this API, and
	// Hosts are more names and addresses that it has on the control port.
	ClusterDomain string
	Hosts         []string

	// Views returns where else a Frontend can be reached on this node: its
	// addresses in the column LOCAL. If nil, nowhere.
	Views func(registry.FrontendKey) []netip.AddrPort

	Version version.Info

	Metrics    http.Handler          // serves /metrics; if nil, nothing does
	Registerer prometheus.Registerer // has the Server's own metrics; may be nil
	Log        *slog.Logger          // if nil, nothing is logged
}

// A Server answers the API's requests: on what ListenUnix and ListenControl
// opened, once Serve is called, and through Handler.
type Server struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics

	stopping context.Context // done when Serve shuts down: watches end
	stop     context.CancelFunc

	limits    limits
	kept      kept
	documents documents

	serving sync.RWMutex // read-locked by each request, so that Serve can wait for them

	mu      sync.Mutex // guards the following
	local   *listener  // the unix socket; nil without
	control *listener  // the control port; nil without
}

// New returns a Server that does not listen yet.
func New(o Options) *Server {
	s := &Server{
		opts: o, log: o.Log, metrics: newMetrics(o.Registerer), limits: defaultLimits(),
		documents: newDocuments(o.Version.GitVersion),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	return s
}

// Handler returns the whole API without any question about who asks: what the
// unix socket serves.
func (s *Server) Handler() http.Handler { return s.handler(newDoor(admitLocal)) }

// handler returns the API for those who come in by d.
func (s *Server) handler(d *door) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, d) })
}

// serve answers one request that came in by d.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, d *door) {
	s.serving.RLock()
	defer s.serving.RUnlock()
	start := time.Now()
	rec := &recorder{ResponseWriter: w}
	verb, resource := "other", "other"
	who, err := d.admit(r)
	attr := attributesOf(r)
	defer func() {
		if p := recover(); p != nil {
			s.recovered(rec, r, p)
		}
		s.metrics.observe(verb, resource, rec.code, time.Since(start))
		s.audit(who, r, attr, rec)
		s.log.Debug("request", "method", r.Method, "path", r.URL.Path, "code", rec.code, "took", time.Since(start))
	}()
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-cache, private")
	if err == nil {
		err = who.authorize(attr, r.Header)
	}
	if err == nil {
		var c call
		r = r.WithContext(context.WithValue(r.Context(), callerKey{}, who))
		if c, err = s.route(r); c.verb != "" {
			verb, resource = c.verb, c.resource
		}
		if err == nil {
			err = d.serve(c, rec, r)
		}
	}
	if err != nil {
		if code := answerError(rec, err); code >= http.StatusInternalServerError && r.Context().Err() == nil {
			s.log.Warn("request failed", "method", r.Method, "path", r.URL.Path, "code", code, "err", err)
		}
	}
}

// recovered answers for a request that panicked.
func (s *Server) recovered(rec *recorder, r *http.Request, p any) {
	if p == http.ErrAbortHandler {
		panic(p)
	}
	s.log.Error("request panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	if rec.code == 0 {
		answerError(rec, fmt.Errorf("this request caused a panic: %v", p))
	}
}

// A call is a request that has found what serves it. Its verb and resource
// are words out of a small set, fit for metrics.
type call struct {
	verb, resource string
	serve          func(w http.ResponseWriter, r *http.Request) error
}

// route finds what serves a request.
func (s *Server) route(r *http.Request) (call, error) {
	segments, ok := pathSegments(r.URL.EscapedPath())
	if !ok {
		return call{}, errNoResource()
	}
	if serve := s.fixed(segments); serve != nil {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			return call{}, errNoMethod()
		}
		return call{"get", segments[0], serve}, nil
	}
	if v := cutReview(segments); v != nil {
		return s.routeReview(r, v)
	}
	if rest, ok := cutGroup(segments); ok {
		return s.routeOwn(r, rest)
	}
	t, ok := parseTarget(segments)
	if !ok {
		return call{}, errNoResource()
	}
	if instead := notServed[t.kind.Resource+"/"+t.subresource]; instead != "" {
		return call{}, errNotServed(t, instead)
	}
	return s.routeTarget(r, t)
}

// fixed returns what serves one of the paths that are only read, or nil.
func (s *Server) fixed(segments []string) func(http.ResponseWriter, *http.Request) error {
	switch segments[0] {
	case "api", "apis":
		return s.discovery(segments)
	case "openapi":
		return s.openapi(segments)
	case "livez", "healthz", "readyz":
		return s.probe(segments)
	}
	if len(segments) > 1 {
		return nil
	}
	switch segments[0] {
	case "version":
		return func(w http.ResponseWriter, r *http.Request) error {
			return answer(w, encoding{}, http.StatusOK, s.opts.Version)
		}
	case "proxyMode": // as kube-proxy answers
		return func(w http.ResponseWriter, r *http.Request) error { return plain(w, http.StatusOK, "userspace") }
	case "metrics":
		if s.opts.Metrics != nil {
			return func(w http.ResponseWriter, r *http.Request) error { s.opts.Metrics.ServeHTTP(w, r); return nil }
		}
	}
	return nil
}

// routeTarget finds what serves a request for objects of the registry.
func (s *Server) routeTarget(r *http.Request, t target) (call, error) {
	verb := t.verb(r.Method)
	c := call{verb: verb, resource: t.kind.Resource}
	if t.subresource == "log" {
		if isTrue(r.URL.Query()["follow"]) {
			c.verb = "watch" // it lasts as long as one
		}
		c.serve = func(w http.ResponseWriter, r *http.Request) error { return s.podLog(w, r, t) }
		return c, onlyRead(r)
	}
	enc, err := negotiate(strings.Join(r.Header.Values("Accept"), ","))
	if err != nil {
		return c, err
	}
	switch verb {
	case "get":
		c.serve = func(w http.ResponseWriter, r *http.Request) error { return s.get(w, r, t, enc) }
	case "list":
		sel, opts, err := parseOptions(t, r.URL.Query())
		if err != nil {
			return c, err
		}
		c.serve = func(w http.ResponseWriter, r *http.Request) error { return s.list(w, r, sel, opts, enc) }
		if opts.Watch && r.Method == http.MethodGet {
			c.verb = "watch"
			c.serve = func(w http.ResponseWriter, r *http.Request) error { return s.watch(w, r, sel, opts, enc) }
		}
	case "create", "update", "patch", "delete", "deletecollection":
		c.serve = func(w http.ResponseWriter, r *http.Request) error { return s.write(w, r, t, verb, enc) }
	default:
		return c, errNoMethod()
	}
	c.serve = deprecating(t.kind, c.serve)
	return c, nil
}

// Addresses returns where the Server listens, as clients name it:
// "unix:/path", "https://host:port" and "http://host:port".
func (s *Server) Addresses() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	if s.local != nil {
		list = append(list, "unix:"+s.local.Addr().String())
	}
	if s.control != nil {
		if s.opts.Certify != nil {
			list = append(list, "https://"+s.control.Addr().String())
		}
		if !s.opts.TLSOnly {
			list = append(list, "http://"+s.control.Addr().String())
		}
	}
	return list
}

// hosts are the names and addresses by which the control port may be asked
// for. Any other Host is a page of a foreign site that got its name to resolve
// to this machine (DNS rebinding).
func (s *Server) hosts(listen net.Addr) []string {
	hosts := []string{"127.0.0.1", "localhost", "::1", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	if domain := s.opts.ClusterDomain; domain != "" {
		hosts = append(hosts, "kubernetes.default.svc."+strings.ToLower(domain))
	}
	if addr, err := netip.ParseAddrPort(listen.String()); err == nil && !addr.Addr().IsUnspecified() {
		hosts = append(hosts, addr.Addr().Unmap().String())
	}
	return slices.Concat(hosts, s.opts.Hosts)
}
