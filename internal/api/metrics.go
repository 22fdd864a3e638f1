package api

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what the API is asked.
type metrics struct {
	requests *prometheus.CounterVec   // by verb, resource and code
	duration *prometheus.HistogramVec // by verb and resource, in seconds; without what lasts
	watches  prometheus.Gauge
}

// newMetrics registers the metrics with r, unless it is nil.
func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "usher_api_requests_total", Help: "Requests that the API has answered.",
		}, []string{"verb", "resource", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "usher_api_request_duration_seconds", Help: "Time taken by requests other than watches and streams of reports.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"verb", "resource"}),
		watches: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "usher_api_watches", Help: "Watches that are open.",
		}),
	}
	if r != nil {
		r.MustRegister(m.requests, m.duration, m.watches)
	}
	return m
}

func (m *metrics) observe(verb, resource string, code int, took time.Duration) {
	m.requests.WithLabelValues(verb, resource, strconv.Itoa(code)).Inc()
	if verb != "watch" && verb != "connect" {
		m.duration.WithLabelValues(verb, resource).Observe(took.Seconds())
	}
}

// A recorder notes the status code of an answer, the warnings in it, and what
// else the audit has to know of a request.
type recorder struct {
	http.ResponseWriter
	code     int      // 0 until the header is written
	warnings []string // to be written with it
	object   string   // the name of the object that was sent, or that came of it
	dryRun   bool
}

func (r *recorder) WriteHeader(code int) {
	if r.code == 0 {
		r.code = code
		warn(r.Header(), r.warnings)
	}
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.code == 0 {
		r.WriteHeader(http.StatusOK)
	}
	return r.ResponseWriter.Write(p)
}

// warn has the answer warn of something, unless it has begun.
func (r *recorder) warn(warnings ...string) { r.warnings = append(r.warnings, warnings...) }

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
