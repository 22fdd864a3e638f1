package proxy

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

// BenchmarkOpen opens the listeners of 10,000 Services at once, as at the start
// of a daemon. It reports what each holds of this process' memory, beside the
// Store: the rest is the kernel's.
func BenchmarkOpen(b *testing.B) { eachEngine(b, benchmarkOpen) }

func benchmarkOpen(b *testing.B, start starter) {
	const services = 10_000
	var took time.Duration
	var bytes float64
	for b.Loop() {
		b.StopTimer()
		h := start(b, Limits{MaxDescriptors: services + 1000})
		var writes []registry.Write
		for i := range services {
			svc := registry.Services.New().(*corev1.Service)
			svc.Namespace, svc.Name = "default", fmt.Sprint("s", i)
			svc.Spec.ClusterIP = netip.AddrFrom4([4]byte{127, 97, byte(i >> 8), byte(i)}).String()
			svc.Spec.Ports = []corev1.ServicePort{{Port: 8080, Protocol: corev1.ProtocolTCP}}
			writes = append(writes, registry.Write{Key: registry.KeyOf(svc), Object: svc})
		}
		// What the Store takes is taken by one without a Proxy too.
		before := heapBytes()
		alone := registry.NewStore()
		alone.Replace(2, objectsOf(writes))
		store := heapBytes() - before
		before = heapBytes()
		h.revision = 3
		b.StartTimer()
		began := time.Now()
		h.store.Apply(3, writes)
		h.wait()
		took += time.Since(began)
		b.StopTimer()
		bytes = heapBytes() - before - store
		runtime.KeepAlive(alone)
		if n := openListeners(h.proxy); n != services {
			b.Fatalf("%d listeners are open, want %d: is RLIMIT_NOFILE too low?", n, services)
		}
		h.stop()
		b.StartTimer()
	}
	b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms")
	b.ReportMetric(bytes/services, "B/Service")
}

func objectsOf(writes []registry.Write) []registry.Object {
	var list []registry.Object
	for _, w := range writes {
		list = append(list, w.Object)
	}
	return list
}

// openListeners counts the listeners of a Proxy that has nothing to do.
func openListeners(p *Proxy) (n int) {
	for _, f := range p.frontends {
		n += len(f.open)
	}
	return n
}

// heapBytes returns what is in use of the heap.
func heapBytes() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
