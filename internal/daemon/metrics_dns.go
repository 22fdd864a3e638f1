package daemon

import (
	"github.com/prometheus/client_golang/prometheus"

	"usher/internal/dns"
)

var (
	dnsQueries = prometheus.NewDesc("usher_dns_queries_total",
		"Queries answered, by type and response code.", []string{"type", "rcode"}, nil)
	dnsForwards = prometheus.NewDesc("usher_dns_forwards_total",
		"Queries for other zones, by what came of them.", []string{"result"}, nil)
)

// A dnsCollector reads the counters of the DNS.
type dnsCollector struct{ *dns.Server }

func (dnsCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- dnsQueries
	ch <- dnsForwards
}

func (c dnsCollector) Collect(ch chan<- prometheus.Metric) {
	stats := c.Stats()
	for _, q := range stats.Queries {
		ch <- prometheus.MustNewConstMetric(dnsQueries, prometheus.CounterValue, float64(q.Count), q.Type, q.Rcode)
	}
	for result, n := range map[string]uint64{
		"answered": stats.Forwarded, "failed": stats.ForwardFailures, "refused": stats.ForwardRefused,
	} {
		ch <- prometheus.MustNewConstMetric(dnsForwards, prometheus.CounterValue, float64(n), result)
	}
}
