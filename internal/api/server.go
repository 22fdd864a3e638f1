package api

import (
	"context"
	"fmt"
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

	// Ejections lists the backends that are tried last. If nil, there is no such
	// resource.
	Ejections func() []Ejection

	// Explain answers a Question, or says what is wrong with it. If nil, there
	// is no such resource.
	Explain func(Question) (Explanation, error)

	// Ready has the checks of /readyz. If nil, a synced Store is enough.
	Ready []Check

	// Token is what a client of the control port must show to write, and a
	// client on another host to read. If empty, nobody may.
	Token string

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
	watches chan struct{} // has an element for each open watch

	stopping context.Context // done when Serve shuts down: watches end
	stop     context.CancelFunc

	limits limits

	serving sync.RWMutex // read-locked by each request, so that Serve can wait for them

	mu      sync.Mutex // guards the following
	local   *listener  // the unix socket; nil without
	control *listener  // the control port; nil without
}

// New returns a Server that does not listen yet.
func New(o Options) *Server {
	s := &Server{
		opts: o, log: o.Log, metrics: newMetrics(o.Registerer),
		watches: make(chan struct{}, maxWatches), limits: defaultLimits(),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	return s
}

// Handler returns the whole API without any question about who asks: what the
// unix socket serves.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// serve answers one request.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.serving.RLock()
	defer s.serving.RUnlock()
	start := time.Now()
	rec := &recorder{ResponseWriter: w}
	verb, resource := "other", "other"
	defer func() {
		if p := recover(); p != nil {
			s.recovered(rec, r, p)
		}
		s.metrics.observe(verb, resource, rec.code, time.Since(start))
		s.log.Debug("request", "method", r.Method, "path", r.URL.Path, "code", rec.code, "took", time.Since(start))
	}()
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-cache, private")
	call, err := s.route(r)
	if call.verb != "" {
		verb, resource = call.verb, call.resource
	}
	if err == nil {
		err = call.serve(rec, r)
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
	if rest, ok := cutGroup(segments); ok {
		return s.routeOwn(r, rest)
	}
	t, ok := parseTarget(segments)
	if !ok {
		return call{}, errNoResource()
	}
	return s.routeTarget(r, t)
}

// fixed returns what serves one of the paths that are only read, or nil.
func (s *Server) fixed(segments []string) func(http.ResponseWriter, *http.Request) error {
	switch segments[0] {
	case "api", "apis":
		if doc := s.discovery(segments); doc != nil {
			return func(w http.ResponseWriter, r *http.Request) error { return answer(w, encoding{}, http.StatusOK, doc) }
		}
		return nil
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
	case "create", "update", "delete", "deletecollection":
		c.serve = func(w http.ResponseWriter, r *http.Request) error { return s.write(w, r, t, verb, enc) }
	case "patch":
		return c, errNoPatch(t)
	default:
		return c, errNoMethod()
	}
	c.serve = deprecating(t.kind, c.serve)
	return c, nil
}

// Addresses returns where the Server listens, as clients name it:
// "unix:/path" and "http://host:port".
func (s *Server) Addresses() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	if s.local != nil {
		list = append(list, "unix:"+s.local.Addr().String())
	}
	if s.control != nil {
		list = append(list, "http://"+s.control.Addr().String())
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
