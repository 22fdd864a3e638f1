package daemon

import (
	"context"
	"net/netip"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"usher/proxy"
)

// A proxyCollector reads the counters of the proxy's Frontends and of their
// Backends, to which it adds those of connections without the proxy.
type proxyCollector struct {
	*proxy.Proxy
	direct *directReports
}

// A backendKey has the labels of a Backend: those of a port of its Service,
// whatever its Frontends.
type backendKey struct {
	namespace, service, port, protocol string
	backend                            netip.AddrPort
}

func (k backendKey) labels() []string {
	return []string{k.namespace, k.service, k.port, k.protocol, k.backend.String()}
}

// A countsDesc is a metric of a Frontend and of a Backend. It is there for
// one protocol alone, or for both if that is "".
type countsDesc struct {
	frontend, backend *prometheus.Desc
	protocol          corev1.Protocol
	kind              prometheus.ValueType
	value             func(proxy.Counts) float64
}

func newCountsDesc(name, help string, protocol corev1.Protocol, kind prometheus.ValueType, value func(proxy.Counts) float64) countsDesc {
	return countsDesc{
		prometheus.NewDesc("usher_frontend_"+name, help, frontendLabels, nil),
		prometheus.NewDesc("usher_backend_"+name, help, backendLabels, nil),
		protocol, kind, value,
	}
}

var (
	frontendLabels = []string{"namespace", "service", "port", "protocol", "address"}
	backendLabels  = []string{"namespace", "service", "port", "protocol", "backend"}

	countsDescs = []countsDesc{
		newCountsDesc("connections_total", "TCP connections: of a backend, those that it has answered.", corev1.ProtocolTCP, prometheus.CounterValue,
			func(c proxy.Counts) float64 { return float64(c.Connections) }),
		newCountsDesc("connections_active", "TCP connections open now.", corev1.ProtocolTCP, prometheus.GaugeValue,
			func(c proxy.Counts) float64 { return float64(c.Active) }),
		newCountsDesc("flows_total", "UDP flows.", corev1.ProtocolUDP, prometheus.CounterValue,
			func(c proxy.Counts) float64 { return float64(c.Flows) }),
		newCountsDesc("flows_active", "UDP flows open now.", corev1.ProtocolUDP, prometheus.GaugeValue,
			func(c proxy.Counts) float64 { return float64(c.ActiveFlows) }),
		newCountsDesc("received_bytes_total", "Bytes from clients to backends.", "", prometheus.CounterValue,
			func(c proxy.Counts) float64 { return float64(c.BytesUp) }),
		newCountsDesc("sent_bytes_total", "Bytes from backends to clients.", "", prometheus.CounterValue,
			func(c proxy.Counts) float64 { return float64(c.BytesDown) }),
		newCountsDesc("dial_errors_total", "Dials that failed, each backend counted.", "", prometheus.CounterValue,
			func(c proxy.Counts) float64 { return float64(c.DialErrors) }),
		newCountsDesc("retries_total", "Dials because another backend had failed or was silent.", "", prometheus.CounterValue,
			func(c proxy.Counts) float64 { return float64(c.Retries) }),
		newCountsDesc("resets_total", "Connections that ended in a reset or a time-out.", corev1.ProtocolTCP, prometheus.CounterValue,
			func(c proxy.Counts) float64 { return float64(c.Resets) }),
		newCountsDesc("datagrams_dropped_total", "Datagrams that could not be passed on.", corev1.ProtocolUDP, prometheus.CounterValue,
			func(c proxy.Counts) float64 { return float64(c.Dropped) }),
	}
	unservedDesc = prometheus.NewDesc("usher_frontend_unserved_total", "Connections reset because no backend answered.", frontendLabels, nil)
	backendsDesc = prometheus.NewDesc("usher_frontend_backends", "Backends that get new connections and flows.", frontendLabels, nil)
)

func (proxyCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range countsDescs {
		ch <- d.frontend
		ch <- d.backend
	}
	ch <- unservedDesc
	ch <- backendsDesc
}

func (c proxyCollector) Collect(ch chan<- prometheus.Metric) {
	// A port of a Service may have several Frontends, and a Backend in each.
	backends := make(map[backendKey]proxy.Counts)
	stats := slices.Collect(c.Stats())
	c.direct.refresh(context.Background())
	c.direct.addTo(stats)
	for _, s := range stats {
		f := s.Frontend
		labels := []string{f.Service.Namespace, f.Service.Name, f.PortName, string(f.Protocol), f.AddrPort().String()}
		for _, d := range countsDescs {
			if d.protocol == "" || d.protocol == f.Protocol {
				ch <- prometheus.MustNewConstMetric(d.frontend, d.kind, d.value(s.Counts), labels...)
			}
		}
		if f.Protocol == corev1.ProtocolTCP {
			ch <- prometheus.MustNewConstMetric(unservedDesc, prometheus.CounterValue, float64(s.Unserved), labels...)
		}
		ch <- prometheus.MustNewConstMetric(backendsDesc, prometheus.GaugeValue, float64(len(f.Backends)), labels...)
		for _, b := range s.Backends {
			key := backendKey{f.Service.Namespace, f.Service.Name, f.PortName, string(f.Protocol), b.Address}
			backends[key] = backends[key].Plus(b.Counts)
		}
	}
	for key, counts := range backends {
		for _, d := range countsDescs {
			if d.protocol == "" || string(d.protocol) == key.protocol {
				ch <- prometheus.MustNewConstMetric(d.backend, d.kind, d.value(counts), key.labels()...)
			}
		}
	}
}
