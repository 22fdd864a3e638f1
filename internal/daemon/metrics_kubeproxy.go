package daemon

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"usher/proxy"
)

// A kubeProxy has the metrics of kube-proxy that mean the same here. They have no
// label ip_family: one proxy serves both.
type kubeProxy struct {
	sync, full, partial, programming prometheus.Histogram
	services, endpoints              prometheus.Counter
	healthz, livez                   *prometheus.CounterVec
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
		k.sync, k.full, k.partial, k.programming, k.services, k.endpoints, k.healthz, k.livez,
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
