package proxy

import (
	"slices"
	"testing"
	"time"
)

// percentile returns the p-th percentile in ms.
func percentile(took []time.Duration, p int) float64 {
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return float64(took[(len(took)-1)*p/100]) / float64(time.Millisecond)
}

// BenchmarkSilentBackend connects 500 times, one after the other, to a Service
// of which one of two Backends says nothing: how long the connections take that
// meet it until it is ejected, and all after that.
func BenchmarkSilentBackend(b *testing.B) { eachEngine(b, benchmarkSilentBackend) }

func benchmarkSilentBackend(b *testing.B, start starter) {
	var hits, after []time.Duration
	for b.Loop() {
		h := start(b, Limits{})
		vip := freePort(b, "127.96.0.5")
		a, _ := named(b, "a")
		h.serve(vip, tcp, ends(a, silent(b))...)
		for range 500 {
			gone := len(h.ejected(vip)) > 0
			begin := time.Now()
			if got, err := ask(vip); got != "a" || err != nil {
				b.Fatalf("read %q, %v", got, err)
			}
			switch took := time.Since(begin); {
			case gone:
				after = append(after, took)
			case took >= 100*time.Millisecond:
				hits = append(hits, took)
			}
		}
	}
	b.ReportMetric(float64(len(hits))/float64(b.N), "hits/op")
	b.ReportMetric(percentile(hits, 99), "hit-p99-ms")
	b.ReportMetric(percentile(after, 50), "p50-ms")
	b.ReportMetric(percentile(after, 99), "p99-ms")
}

// BenchmarkRefusingBackends connects 10,000 times, one after the other, to a
// Service of which seven of eight Backends refuse.
func BenchmarkRefusingBackends(b *testing.B) { eachEngine(b, benchmarkRefusingBackends) }

func benchmarkRefusingBackends(b *testing.B, start starter) {
	var all []time.Duration
	for b.Loop() {
		h := start(b, Limits{})
		vip := freePort(b, "127.96.0.5")
		a, _ := named(b, "a")
		backends := ends(a)
		for range 7 {
			backends = append(backends, ends(freePort(b, "127.0.0.1"))...)
		}
		h.serve(vip, tcp, backends...)
		for range 10_000 {
			begin := time.Now()
			if got, err := ask(vip); got != "a" || err != nil {
				b.Fatalf("read %q, %v", got, err)
			}
			all = append(all, time.Since(begin))
		}
	}
	b.ReportMetric(percentile(all, 50), "p50-ms")
	b.ReportMetric(percentile(all, 99), "p99-ms")
	b.ReportMetric(percentile(all, 100), "max-ms")
}
