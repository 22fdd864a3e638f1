package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/netutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"usher/internal/api"
	"usher/registry"
)

// healthChecks answer at the healthCheckNodePort of each Service that has one:
// a load balancer asks there whether this node has endpoints for it. What they
// say is kube-proxy's to the letter.
type healthChecks struct {
	store     *registry.Store
	node      string
	addresses func() []netip.Addr // where to listen
	healthy   func() bool         // whether the proxy is
	event     func(svc *corev1.Service, reason, message string)
	log       *slog.Logger

	// These belong to the goroutine of run.
	at      []netip.Addr                          // the present addresses
	checks  map[types.NamespacedName]*healthCheck // wanted
	failing map[types.NamespacedName]bool         // of those, the ones that cannot listen
	wait    time.Duration                         // before they are tried again
	due     time.Time
}

// healthConnections bounds the connections of one server at one address: those
// who ask are few, and ask briefly.
const healthConnections = 64

// A healthCheck is that of one Service.
type healthCheck struct {
	port    int32
	server  *http.Server // nil while it cannot listen
	serving sync.WaitGroup
	told    string // the last failure that was reported
}

func newHealthChecks(d *daemon) *healthChecks {
	return &healthChecks{
		store: d.store, node: d.Config.NodeName, log: d.Log,
		addresses: func() []netip.Addr { return d.local.Load().NodePorts },
		healthy:   func() bool { return d.ready() == nil },
		event: func(svc *corev1.Service, reason, message string) {
			d.events.Event(api.Reference(svc), corev1.EventTypeWarning, reason, message)
		},
		checks: make(map[types.NamespacedName]*healthCheck), failing: make(map[types.NamespacedName]bool),
	}
}

// run opens and closes servers as Services come and go, until ctx is done.
func (h *healthChecks) run(ctx context.Context) error {
	defer func() {
		for _, c := range h.checks {
			c.close()
		}
	}()
	select {
	case <-h.store.Synced():
	case <-ctx.Done():
		return nil
	}
	for ctx.Err() == nil {
		snapshot, names := h.store.Snapshot(), h.wanted()
		for svc := range snapshot.Services("") {
			names[registry.ServiceName(svc)] = true
		}
		h.look(names)
		w := h.store.WatchFrom(snapshot)
		for h.follow(ctx, w) {
		}
	}
	return nil
}

// wanted returns the Services that have a server, or should have.
func (h *healthChecks) wanted() map[types.NamespacedName]bool {
	names := make(map[types.NamespacedName]bool)
	for name := range h.checks {
		names[name] = true
	}
	return names
}

// follow looks at the Services that change next, or again at those that fail
// when that is due. It returns false when w has expired, or ctx is done.
func (h *healthChecks) follow(ctx context.Context, w *registry.Watch) bool {
	wait, cancel := ctx, context.CancelFunc(func() {})
	if len(h.failing) > 0 {
		wait, cancel = context.WithDeadline(ctx, h.due)
	}
	commits, err := w.Next(wait)
	cancel()
	names := make(map[types.NamespacedName]bool)
	switch {
	case err == nil:
		for _, c := range commits {
			for _, change := range c.Objects {
				if svc, ok := cmpOr(change.New, change.Old).(*corev1.Service); ok {
					names[registry.ServiceName(svc)] = true
				}
			}
		}
	case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		names = maps.Clone(h.failing)
		h.postpone()
	default:
		return false
	}
	h.look(names)
	return true
}

// postpone sets when those that fail are tried next.
func (h *healthChecks) postpone() {
	h.wait = min(max(2*h.wait, minRetry), maxRetry)
	h.due = time.Now().Add(h.wait)
}

func cmpOr(now, old registry.Object) registry.Object {
	if now != nil {
		return now
	}
	return old
}

// look brings the servers of some Services into line with what is wanted.
func (h *healthChecks) look(names map[types.NamespacedName]bool) {
	snapshot, addresses := h.store.Snapshot(), h.addresses()
	moved := !slices.Equal(h.at, addresses)
	if moved {
		h.at = addresses
		maps.Copy(names, h.wanted())
	}
	// What is closed may be the port of another.
	for name := range names {
		c := h.checks[name]
		if c != nil && (moved || c.port != registry.HealthCheckPort(snapshot.Service(name.Namespace, name.Name))) {
			c.close()
			delete(h.checks, name)
			delete(h.failing, name)
		}
	}
	for name := range names {
		svc := snapshot.Service(name.Namespace, name.Name)
		if port := registry.HealthCheckPort(svc); h.checks[name] == nil && port != 0 {
			h.checks[name] = &healthCheck{port: port}
		}
		if c := h.checks[name]; c != nil && c.server == nil {
			h.open(c, svc)
		}
	}
	if len(h.failing) == 0 {
		h.wait = 0
	} else if h.wait == 0 {
		h.postpone()
	}
}

// open starts a server at all of its addresses, or none.
func (h *healthChecks) open(c *healthCheck, svc *corev1.Service) {
	name := registry.ServiceName(svc)
	server := &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { h.answer(w, name) }),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
	}
	server.SetKeepAlivesEnabled(false)
	var listeners []net.Listener
	for _, addr := range h.at {
		l, err := net.Listen("tcp", netip.AddrPortFrom(addr, uint16(c.port)).String())
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
			h.fail(c, svc, err)
			return
		}
		listeners = append(listeners, netutil.LimitListener(l, healthConnections))
	}
	c.server, c.told = server, ""
	delete(h.failing, name)
	for _, l := range listeners {
		c.serving.Go(func() { server.Serve(l) })
	}
}

// fail reports why a server cannot listen, once.
func (h *healthChecks) fail(c *healthCheck, svc *corev1.Service, err error) {
	h.failing[registry.ServiceName(svc)] = true
	if c.told == err.Error() {
		return
	}
	c.told = err.Error()
	message := fmt.Sprintf("node %s failed to start healthcheck %q on port %d: %v", h.node, registry.ServiceName(svc), c.port, err)
	h.log.Warn(message)
	h.event(svc, "FailedToStartServiceHealthcheck", message)
}

func (c *healthCheck) close() {
	if c.server != nil {
		c.server.Close()
		c.serving.Wait()
	}
}

// answer says how many ready endpoints a Service has on this node.
func (h *healthChecks) answer(w http.ResponseWriter, name types.NamespacedName) {
	count, healthy := h.store.Snapshot().LocalEndpoints(name.Namespace, name.Name, h.node), h.healthy()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(count))
	if count == 0 || !healthy {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintf(w, `{
	"service": {
		"namespace": %q,
		"name": %q
	},
	"localEndpoints": %d,
	"serviceProxyHealthy": %v
}`, name.Namespace, name.Name, count, healthy)
}
