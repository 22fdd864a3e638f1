package api

import (
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

// allocations count what Services were given, under the names that these
// metrics have in Kubernetes. What a Service asked for is of the scope static,
// the rest dynamic.
type allocations struct {
	ips, ipErrors     *prometheus.CounterVec // by cidr and scope
	ports, portErrors *prometheus.CounterVec // by scope

	took *prometheus.HistogramVec // by cidr
}

const (
	static  = "static"
	dynamic = "dynamic"
)

func newAllocations() *allocations {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "kube_apiserver", Name: name, Help: help}, labels)
	}
	return &allocations{
		ips:        counter("clusterip_allocator_allocation_total", "ClusterIPs given to Services.", "cidr", "scope"),
		ipErrors:   counter("clusterip_allocator_allocation_errors_total", "ClusterIPs that could not be given.", "cidr", "scope"),
		ports:      counter("nodeport_allocator_allocation_total", "Node ports given to Services.", "scope"),
		portErrors: counter("nodeport_allocator_allocation_errors_total", "Node ports that could not be given.", "scope"),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "kube_apiserver", Subsystem: "clusterip_allocator", Name: "allocation_duration_seconds",
			Help: "Time in which a Service with its ClusterIP was written.", Buckets: prometheus.DefBuckets,
		}, []string{"cidr"}),
	}
}

// allocated notes that what was claimed is written.
func (c *claims) allocated() {
	for _, key := range c.fixed {
		c.count(key, static, true)
	}
	for _, a := range c.open {
		c.count(a.key, dynamic, true)
	}
}

// count counts an attempt to give something to a Service. A dry run makes none.
func (c *claims) count(key registry.Key, scope string, given bool) {
	if _, ok := c.obj.(*corev1.Service); !ok || c.w.dryRun {
		return
	}
	m := c.w.allocations
	switch {
	case key.Kind == registry.NodePorts && given:
		m.ports.WithLabelValues(scope).Inc()
	case key.Kind == registry.NodePorts:
		m.portErrors.WithLabelValues(scope).Inc()
	case given:
		cidr := c.w.rangeOf(key.Name)
		m.ips.WithLabelValues(cidr, scope).Inc()
		m.took.WithLabelValues(cidr).Observe(time.Since(c.started).Seconds())
	default:
		m.ipErrors.WithLabelValues(c.w.rangeOf(key.Name), scope).Inc()
	}
}

// rangeOf returns the range that an address is given from, as the label cidr.
func (w *Writer) rangeOf(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ""
	}
	for _, r := range w.ranges(familyOf(ip)) {
		if r.Contains(addr) {
			return r.Prefix().String()
		}
	}
	return ""
}

// Describe implements prometheus.Collector.
func (w *Writer) Describe(ch chan<- *prometheus.Desc) {
	for _, v := range w.allocations.vectors() {
		v.Describe(ch)
	}
	for _, d := range allocatorDescs {
		ch <- d
	}
}

func (m *allocations) vectors() []prometheus.Collector {
	return []prometheus.Collector{m.ips, m.ipErrors, m.ports, m.portErrors, m.took}
}

var (
	allocatedIPs   = prometheus.NewDesc("kube_apiserver_clusterip_allocator_allocated_ips", "ClusterIPs in use.", []string{"cidr"}, nil)
	availableIPs   = prometheus.NewDesc("kube_apiserver_clusterip_allocator_available_ips", "ClusterIPs that are free.", []string{"cidr"}, nil)
	allocatedPorts = prometheus.NewDesc("kube_apiserver_nodeport_allocator_allocated_ports", "Node ports in use.", nil, nil)
	availablePorts = prometheus.NewDesc("kube_apiserver_nodeport_allocator_available_ports", "Node ports that are free.", nil, nil)
	allocatorDescs = []*prometheus.Desc{allocatedIPs, availableIPs, allocatedPorts, availablePorts}
)

// Collect implements prometheus.Collector. What is in use is counted in the
// Store: other nodes give addresses too.
func (w *Writer) Collect(ch chan<- prometheus.Metric) {
	for _, v := range w.allocations.vectors() {
		v.Collect(ch)
	}
	var ranges []registry.IPRange
	for _, family := range w.families {
		ranges = append(ranges, w.ranges(family)...)
	}
	used := make([]int, len(ranges))
	snapshot := w.Store.Snapshot()
	for claim := range snapshot.List(registry.IPAddresses, "") {
		addr, err := netip.ParseAddr(claim.GetName())
		for i, r := range ranges {
			if err == nil && r.Contains(addr) {
				used[i]++
				break
			}
		}
	}
	ports := 0
	for range snapshot.List(registry.NodePorts, "") {
		ports++
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	for i, r := range ranges {
		gauge(allocatedIPs, float64(used[i]), r.Prefix().String())
		gauge(availableIPs, float64(r.Size())-float64(used[i]), r.Prefix().String())
	}
	gauge(allocatedPorts, float64(ports))
	gauge(availablePorts, float64(w.NodePorts.Size()-ports))
}
