package registry

import (
	"fmt"
	"maps"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// storedService is a Service as etcd has it: the i-th, and with its claim.
func storedService(t testing.TB, i int) []Object {
	t.Helper()
	ip := fmt.Sprintf("10.96.%d.%d", i/250, i%250)
	const meta = `"creationTimestamp":"2026-01-02T15:00:00Z","uid":"f3b0c442-98fc-4c14-9afb-`
	var list []Object
	for key, value := range map[Key]string{
		{Services, "default", fmt.Sprint("s", i)}: fmt.Sprintf(`{"kind":"Service","apiVersion":"v1","metadata":{"name":"s%d","namespace":"default",%s%012d",
			"labels":{"app":"web","tier":"front"},"managedFields":[{"manager":"usher","operation":"Apply","apiVersion":"v1","time":"2026-01-02T15:00:00Z",
			"fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}}},"f:type":{}}}}]},
			"spec":{"ports":[{"protocol":"TCP","port":80,"targetPort":80}],"clusterIP":"%s","clusterIPs":["%s"],"type":"ClusterIP","sessionAffinity":"None",
			"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","internalTrafficPolicy":"Cluster"},"status":{"loadBalancer":{}}}`, i, meta, i, ip, ip),
		{IPAddresses, "", ip}: fmt.Sprintf(`{"kind":"IPAddress","apiVersion":"networking.k8s.io/v1","metadata":{"name":"%s",%s%012d",
			"labels":{"ipaddress.kubernetes.io/ip-family":"IPv4","ipaddress.kubernetes.io/managed-by":"ipallocator.usher.internal"}},
			"spec":{"parentRef":{"resource":"services","namespace":"default","name":"s%d"}}}`, ip, meta, i, i),
	} {
		obj, err := Decode(key, []byte(value), int64(i+1))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, obj)
	}
	return list
}

// TestShare checks that objects say what they said before, and what they share.
func TestShare(t *testing.T) {
	p := NewPool()
	var shared []Object
	for i := range 2 {
		want := storedService(t, i)
		for _, obj := range want {
			got := obj.DeepCopyObject().(Object)
			p.Share(got)
			if diff := cmp.Diff(obj, got); diff != "" {
				t.Errorf("(-alone +shared):\n%s", diff)
			}
			shared = append(shared, got)
		}
	}
	// What is shared is changed in all of them.
	for _, obj := range shared[:2] {
		obj.GetLabels()["seen"] = "yes"
		if m := obj.GetManagedFields(); len(m) > 0 {
			m[0].FieldsV1.SetRawString("{}")
		}
	}
	for _, obj := range shared[2:] {
		if obj.GetLabels()["seen"] != "yes" {
			t.Errorf("the labels of a %T are its own", obj)
		}
		if m := obj.GetManagedFields(); len(m) > 0 && m[0].FieldsV1.GetRawString() != "{}" {
			t.Errorf("the fields of a %T are its own", obj)
		}
	}
	bare := []Object{new(corev1.Service), new(networkingv1.IPAddress), new(corev1.Pod)}
	for _, obj := range bare {
		p.Share(obj)
	}
	if text := textOf(map[string]string{"a": "b", "c": ""}); text == textOf(map[string]string{"a": "", "b": "c"}) {
		t.Error("two sets of labels have one text")
	}
}

// TestPoolIsBounded fills a Pool with what is different each time.
func TestPoolIsBounded(t *testing.T) {
	p := NewPool()
	for i := range 3 * maxShared {
		svc := Services.New().(*corev1.Service)
		svc.Namespace, svc.Labels = fmt.Sprint("n", i), map[string]string{"i": fmt.Sprint(i)}
		labels := maps.Clone(svc.Labels)
		p.Share(svc)
		if !maps.Equal(svc.Labels, labels) || svc.Namespace != fmt.Sprint("n", i) {
			t.Fatalf("%v in %s", svc.Labels, svc.Namespace)
		}
	}
	long := Services.New().(*corev1.Service)
	long.Labels = map[string]string{"i": strings.Repeat("x", maxSharedKey)}
	p.Share(long)
	if p.labels[textOf(long.Labels)] != nil {
		t.Error("labels of any length are remembered")
	}
	if len(p.words) > maxShared || len(p.labels) > maxShared {
		t.Errorf("%d words and %d sets of labels", len(p.words), len(p.labels))
	}
}

// BenchmarkServiceBytes reports what a Service with its claim and its Frontend
// takes in a Store that was filled as from etcd.
func BenchmarkServiceBytes(b *testing.B) {
	const n = 10_000
	for b.Loop() {
		before := heapBytes()
		s, p := NewStore(), NewPool()
		var objects []Object
		for i := range n {
			for _, obj := range storedService(b, i) {
				p.Share(obj)
				objects = append(objects, obj)
			}
		}
		s.Replace(n, objects)
		objects = nil
		b.ReportMetric(float64(heapBytes()-before)/n, "B/Service")
		runtime.KeepAlive(s)
	}
}

func heapBytes() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
