package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"usher/proxy"
	"usher/registry"
)

// healthTimeout is how long a change may wait to be served before the proxy is
// unhealthy: twice kube-proxy's sync period.
const healthTimeout = 60 * time.Second

// toBeDeletedTaint marks a Node that is about to be deleted (cluster
// autoscaler). Load balancers are to send it nothing new.
const toBeDeletedTaint = "ToBeDeletedByClusterAutoscaler"

// A healthz answers /healthz and /livez as kube-proxy does on its port 10256.
type healthz struct {
	listener net.Listener
	progress func() proxy.Progress
	eligible func() bool // this node is to get traffic
	metrics  *kubeProxy
	log      *slog.Logger
}

// A proxyHealth is the answer.
type proxyHealth struct {
	LastUpdated  time.Time                            `json:"lastUpdated"`
	CurrentTime  time.Time                            `json:"currentTime"`
	NodeEligible *bool                                `json:"nodeEligible,omitempty"` // of /healthz alone
	Healthy      bool                                 `json:"healthy"`
	Status       map[corev1.IPFamily]proxyFamilyState `json:"status"`
}

type proxyFamilyState struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

// openHealthz opens the port, if there is to be one.
func (d *daemon) openHealthz() error {
	if d.Config.Healthz == "" {
		return nil
	}
	l, err := net.Listen("tcp", d.Config.Healthz)
	if err != nil {
		return err
	}
	d.healthz = &healthz{listener: l, progress: d.proxy.Progress, eligible: d.nodeEligible, metrics: d.kubeProxy, log: d.Log}
	return nil
}

// nodeEligible reports whether this node's Node says that it is to stay.
func (d *daemon) nodeEligible() bool {
	node, ok := d.store.Snapshot().Get(registry.Key{Kind: registry.Nodes, Name: d.Config.NodeName}).(*corev1.Node)
	if !ok {
		return true
	}
	for _, taint := range node.Spec.Taints {
		if taint.Key == toBeDeletedTaint {
			return false
		}
	}
	return node.DeletionTimestamp == nil
}

// serve answers until ctx is done.
func (h *healthz) serve(ctx context.Context) error {
	const patience = 10 * time.Second
	srv := &http.Server{
		Handler: h.handler(), ReadTimeout: patience, WriteTimeout: patience, IdleTimeout: patience, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(h.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (h *healthz) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) {
		eligible := h.eligible()
		state := h.health(time.Now())
		state.NodeEligible, state.Healthy = &eligible, state.Healthy && eligible
		state.answer(w, h.metrics.healthz)
	})
	mux.HandleFunc("/livez", func(w http.ResponseWriter, r *http.Request) {
		h.health(time.Now()).answer(w, h.metrics.livez)
	})
	return mux
}

// health says how the proxy fares. While it is healthy it is up to date now, as
// kube-proxy says it too.
func (h *healthz) health(now time.Time) proxyHealth {
	p := h.progress()
	s := proxyFamilyState{LastUpdated: p.Synced, Healthy: p.Pending == nil || now.Sub(p.Queued) < healthTimeout}
	if s.Healthy {
		s.LastUpdated = now
	}
	// One proxy serves both families.
	return proxyHealth{
		LastUpdated: s.LastUpdated, CurrentTime: now, Healthy: s.Healthy,
		Status: map[corev1.IPFamily]proxyFamilyState{corev1.IPv4Protocol: s, corev1.IPv6Protocol: s},
	}
}

func (p proxyHealth) answer(w http.ResponseWriter, count *prometheus.CounterVec) {
	code := http.StatusOK
	if !p.Healthy {
		code = http.StatusServiceUnavailable
	}
	count.WithLabelValues(strconv.Itoa(code)).Inc()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(p)
}
