package daemon

import (
	"github.com/prometheus/client_golang/prometheus"

	"usher/internal/dns"
)

// The metrics of CoreDNS that mean the same here have its names. Labels that
// would have one value are left out, but for the zone: there is one server,
// without views and plugins.
var (
	dnsQueries = prometheus.NewDesc("usher_dns_queries_total",
		"Queries answered, by type and response code.", []string{"type", "rcode"}, nil)
	dnsForwards = prometheus.NewDesc("usher_dns_forwards_total",
		"Queries for other zones, by what came of them.", []string{"result"}, nil)
	dnsLimited = prometheus.NewDesc("usher_dns_limited_total",
		"Answers cut because their client was sent too much.", nil, nil)

	coreRequests = coreDesc("dns_requests_total", "Queries answered.", "zone", "proto", "family", "type")
	coreDuration = coreDesc("dns_request_duration_seconds", "Time from a query to its answer.", "zone")
	coreRcodes   = coreDesc("dns_responses_total", "Answers, by response code.", "zone", "rcode")
	coreEntries  = coreDesc("cache_entries", "Answers of upstreams that are remembered.", "type", "zones")
	coreAsked    = coreDesc("cache_requests_total", "Forwarded queries that were looked for among those.", "zones")
	coreHits     = coreDesc("cache_hits_total", "Those that were found.", "type", "zones")
	coreMisses   = coreDesc("cache_misses_total", "Those that were not.", "zones")
	coreRejects  = coreDesc("forward_max_concurrent_rejects_total", "Queries refused because too many were being forwarded.")
	coreAutopath = coreDesc("autopath_success_total", "Answers found along the search list of a Pod.")

	dnsDescs = []*prometheus.Desc{
		dnsQueries, dnsForwards, dnsLimited, coreRequests, coreDuration, coreRcodes,
		coreEntries, coreAsked, coreHits, coreMisses, coreRejects, coreAutopath,
	}
)

func coreDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("coredns_"+name, help, labels, nil)
}

// zone is that of CoreDNS' server block: there is one, for all names.
const zone = "."

// A dnsCollector reads the counters of the DNS.
type dnsCollector struct{ *dns.Server }

func (dnsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range dnsDescs {
		ch <- d
	}
}

func (c dnsCollector) Collect(ch chan<- prometheus.Metric) {
	stats := c.Stats()
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	rcodes := make(map[string]uint64)
	for _, q := range stats.Queries {
		counter(dnsQueries, q.Count, q.Type, q.Rcode)
		rcodes[q.Rcode] += q.Count
	}
	for rcode, n := range rcodes {
		counter(coreRcodes, n, zone, rcode)
	}
	for _, r := range stats.Requests {
		proto, family := "udp", "1"
		if r.TCP {
			proto = "tcp"
		}
		if r.IPv6 {
			family = "2"
		}
		counter(coreRequests, r.Count, zone, proto, family, r.Type)
	}
	buckets := make(map[float64]uint64)
	for i, n := range stats.Took.Below {
		buckets[dns.DurationBound(i).Seconds()] = n
	}
	ch <- prometheus.MustNewConstHistogram(coreDuration, stats.Took.Count, stats.Took.Sum.Seconds(), buckets, zone)
	for result, n := range map[string]uint64{
		"answered": stats.Forwarded, "failed": stats.ForwardFailures, "refused": stats.ForwardRefused,
	} {
		counter(dnsForwards, n, result)
	}
	counter(coreRejects, stats.ForwardRefused)
	counter(dnsLimited, stats.Limited)
	counter(coreAutopath, stats.Autopaths)
	collectCache(ch, stats.Cache)
}

func collectCache(ch chan<- prometheus.Metric, s dns.CacheStats) {
	metric := func(d *prometheus.Desc, kind prometheus.ValueType, n float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, n, append(labels, zone)...)
	}
	metric(coreEntries, prometheus.GaugeValue, float64(s.Answers), "success")
	metric(coreEntries, prometheus.GaugeValue, float64(s.Denials), "denial")
	metric(coreAsked, prometheus.CounterValue, float64(s.Hits+s.Denied+s.Misses))
	metric(coreHits, prometheus.CounterValue, float64(s.Hits), "success")
	metric(coreHits, prometheus.CounterValue, float64(s.Denied), "denial")
	metric(coreMisses, prometheus.CounterValue, float64(s.Misses))
}
