package daemon

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"usher/proxy"
	"usher/registry"
)

// A kubeProxy has the metrics of kube-proxy that mean the same here. They have no
// label ip_family: one proxy serves both.
type kubeProxy struct {
	sync, full, partial, programming prometheus.Histogram
	services, endpoints              prometheus.Counter
	healthz, livez                   *prometheus.CounterVec

	dns *prometheus.HistogramVec // of CoreDNS: what the proxy has followed, the DNS says
}

func newKubeProxy() *kubeProxy {
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "kubeproxy", Name: name, Help: help, Buckets: buckets})
	}
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "kubeproxy", Name: name, Help: help}
	}
	syncBuckets := prometheus.ExponentialBuckets(0.001, 2, 15)
	return &kubeProxy{
		sync:    histogram("sync_proxy_rules_duration_seconds", "Time in which listeners and backends were brought up to date.", syncBuckets),
		full:    histogram("sync_full_proxy_rules_duration_seconds", "The same, where everything was looked at.", syncBuckets),
		partial: histogram("sync_partial_proxy_rules_duration_seconds", "The same, where only what had changed was.", syncBuckets),
		programming: histogram("network_programming_duration_seconds",
			"Time from a change of endpoints, by the annotation of their EndpointSlice, until it was served.", programmingBuckets()),
		services:  prometheus.NewCounter(counter("sync_proxy_rules_service_changes_total", "Changes of Services that the proxy has followed.")),
		endpoints: prometheus.NewCounter(counter("sync_proxy_rules_endpoint_changes_total", "Changes of EndpointSlices that the proxy has followed.")),
		healthz:   prometheus.NewCounterVec(counter("proxy_healthz_total", "Answers at /healthz of proxy.healthz."), []string{"code"}),
		livez:     prometheus.NewCounterVec(counter("proxy_livez_total", "Answers at /livez of proxy.healthz."), []string{"code"}),
		dns: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "coredns", Subsystem: "kubernetes", Name: "dns_programming_duration_seconds",
			Help:    "Time from a change of the endpoints of a headless Service until its names had followed.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 20),
		}, []string{"service_kind"}),
	}
}

// programmingBuckets are those of kube-proxy.
func programmingBuckets() []float64 {
	return slices.Concat(
		prometheus.LinearBuckets(0.25, 0.25, 2), prometheus.LinearBuckets(1, 1, 59),
		prometheus.LinearBuckets(60, 5, 12), prometheus.LinearBuckets(120, 30, 7),
	)
}

// observe notes a Sync that is done.
func (k *kubeProxy) observe(s proxy.Sync) {
	k.sync.Observe(s.Took.Seconds())
	if s.Full {
		k.full.Observe(s.Took.Seconds())
	} else {
		k.partial.Observe(s.Took.Seconds())
	}
	k.services.Add(float64(s.Services))
	k.endpoints.Add(float64(s.EndpointSlices))
	for _, t := range s.Triggers {
		k.programming.Observe(max(0, time.Since(t).Seconds()))
	}
	for _, t := range s.Headless {
		k.dns.WithLabelValues("headless_with_selector").Observe(max(0, time.Since(t).Seconds()))
	}
}

// collectors returns the metrics, with those that are read off the proxy.
func (k *kubeProxy) collectors(progress func() proxy.Progress) []prometheus.Collector {
	gauge := func(name, help string, value func(proxy.Progress) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "kubeproxy", Name: name, Help: help},
			func() float64 { return value(progress()) })
	}
	pending := func(count func(*proxy.Sync) int) func(proxy.Progress) float64 {
		return func(p proxy.Progress) float64 {
			if p.Pending == nil {
				return 0
			}
			return float64(count(p.Pending))
		}
	}
	return []prometheus.Collector{
		k.sync, k.full, k.partial, k.programming, k.services, k.endpoints, k.healthz, k.livez, k.dns,
		gauge("sync_proxy_rules_last_timestamp_seconds", "When listeners and backends were last brought up to date.",
			func(p proxy.Progress) float64 { return seconds(p.Synced) }),
		gauge("sync_proxy_rules_last_queued_timestamp_seconds", "When there was last a reason to.",
			func(p proxy.Progress) float64 { return seconds(p.Queued) }),
		gauge("sync_proxy_rules_service_changes_pending", "Changes of Services that are being followed.",
			pending(func(s *proxy.Sync) int { return s.Services })),
		gauge("sync_proxy_rules_endpoint_changes_pending", "Changes of EndpointSlices that are being followed.",
			pending(func(s *proxy.Sync) int { return s.EndpointSlices })),
	}
}

// seconds returns a time as metrics have it, 0 for none.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / 1e9
}

// noLocalEndpoints is kube-proxy's: Services that a Local traffic policy keeps
// from the endpoints they have, which are all on other nodes. A Service counts
// once, whatever its ports.
var noLocalEndpoints = prometheus.NewDesc("kubeproxy_sync_proxy_rules_no_local_endpoints_total",
	"Services with a traffic policy of Local and endpoints on other nodes alone.", []string{"traffic_policy"}, nil)

// A localPolicyCollector counts in the Store when it is asked.
type localPolicyCollector struct{ store *registry.Store }

// Describe implements prometheus.Collector.
func (localPolicyCollector) Describe(ch chan<- *prometheus.Desc) { ch <- noLocalEndpoints }

// Collect implements prometheus.Collector.
func (c localPolicyCollector) Collect(ch chan<- prometheus.Metric) {
	internal, external := make(map[types.NamespacedName]bool), make(map[types.NamespacedName]bool)
	for f := range c.store.Snapshot().Frontends() {
		switch {
		case len(f.Backends) > 0 || len(f.Draining) == 0: // without a policy all that serves is used in the end
		case f.Reach == registry.ByClusterIP:
			internal[f.Service] = true
		default:
			external[f.Service] = true
		}
	}
	for policy, services := range map[string]map[types.NamespacedName]bool{"internal": internal, "external": external} {
		ch <- prometheus.MustNewConstMetric(noLocalEndpoints, prometheus.GaugeValue, float64(len(services)), policy)
	}
}
