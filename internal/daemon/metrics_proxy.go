package daemon

import (
	"github.com/prometheus/client_golang/prometheus"

	"usher/proxy"
)

// A proxyCollector reads the counters of the proxy's Frontends.
type proxyCollector struct{ *proxy.Proxy }

var frontendLabels = []string{"namespace", "service", "port", "protocol", "address"}

func frontendDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("usher_frontend_"+name, help, frontendLabels, nil)
}

var (
	connectionsDesc = frontendDesc("connections_total", "TCP connections accepted.")
	activeDesc      = frontendDesc("connections_active", "TCP connections open now.")
	flowsDesc       = frontendDesc("flows_total", "UDP flows opened.")
	activeFlowsDesc = frontendDesc("flows_active", "UDP flows open now.")
	upDesc          = frontendDesc("received_bytes_total", "Bytes from clients to backends.")
	downDesc        = frontendDesc("sent_bytes_total", "Bytes from backends to clients.")
	dialErrorsDesc  = frontendDesc("dial_errors_total", "Dials that failed, each backend counted.")
	unservedDesc    = frontendDesc("unserved_total", "Connections reset because no backend answered.")
	resetsDesc      = frontendDesc("resets_total", "Connections that ended in a reset or a time-out.")
	droppedDesc     = frontendDesc("datagrams_dropped_total", "Datagrams that could not be passed on.")
	backendsDesc    = frontendDesc("backends", "Backends that get new connections and flows.")
)

func (proxyCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		connectionsDesc, activeDesc, flowsDesc, activeFlowsDesc, upDesc, downDesc,
		dialErrorsDesc, unservedDesc, resetsDesc, droppedDesc, backendsDesc,
	} {
		ch <- d
	}
}

func (c proxyCollector) Collect(ch chan<- prometheus.Metric) {
	for s := range c.Stats() {
		f := s.Frontend
		labels := []string{f.Service.Namespace, f.Service.Name, f.PortName, string(f.Protocol), f.AddrPort().String()}
		counter := func(d *prometheus.Desc, n uint64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
		}
		gauge := func(d *prometheus.Desc, n int64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
		}
		counter(connectionsDesc, s.Connections)
		counter(flowsDesc, s.Flows)
		counter(upDesc, s.BytesUp)
		counter(downDesc, s.BytesDown)
		counter(dialErrorsDesc, s.DialErrors)
		counter(unservedDesc, s.Unserved)
		counter(resetsDesc, s.Resets)
		counter(droppedDesc, s.Dropped)
		gauge(activeDesc, s.Active)
		gauge(activeFlowsDesc, s.ActiveFlows)
		gauge(backendsDesc, int64(len(f.Backends)))
	}
}
