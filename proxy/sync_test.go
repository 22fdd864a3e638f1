package proxy

import (
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/registry"
)

// TestSyncs checks what is said of each turn in which the Proxy comes up to date,
// and that it is said before anybody who waits for that goes on.
func TestSyncs(t *testing.T) { eachEngine(t, testSyncs) }

func testSyncs(t *testing.T, start starter) {
	var mu sync.Mutex
	var syncs []Sync
	h := start(t, Limits{}, func(s *setup) {
		s.observe = func(s Sync) {
			mu.Lock()
			defer mu.Unlock()
			syncs = append(syncs, s)
		}
	})
	last := func() (Sync, int) {
		mu.Lock()
		defer mu.Unlock()
		return syncs[len(syncs)-1], len(syncs)
	}
	if s, n := last(); !s.Full || n != 1 {
		t.Errorf("at first: %+v, %d in all", s, n)
	}
	vip, a := freePort(t, "127.96.0.5"), serveTCP(t, echo)
	h.serve(vip, tcp, ends(a)...)
	if s, n := last(); s.Full || s.Services != 1 || s.EndpointSlices != 1 || len(s.Triggers) != 0 || s.Took <= 0 || n != 2 {
		t.Errorf("a Service with a slice: %+v, %d in all", s, n)
	}

	slice := newSlice(80, a)
	for i, annotation := range []string{time.Now().Add(time.Minute).Format(time.RFC3339Nano), "2001-01-01T00:00:00Z", "soon"} {
		slice = slice.DeepCopy()
		slice.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: annotation}
		h.apply(slice)
		s, _ := last()
		if want := i == 0; s.EndpointSlices != 1 || (len(s.Triggers) == 1) != want {
			t.Errorf("a slice that was changed at %s: %+v", annotation, s)
		}
	}
	// The names of a headless Service follow its Pods.
	svc := registry.Services.New().(*corev1.Service)
	svc.Namespace, svc.Name, svc.Spec.ClusterIP, svc.Spec.Selector = "default", "names", corev1.ClusterIPNone, map[string]string{"app": "names"}
	h.apply(svc)
	pod := registry.Pods.New().(*corev1.Pod)
	pod.Namespace, pod.Name, pod.Labels, pod.Status.PodIP = "default", "names-0", svc.Spec.Selector, "10.1.0.5"
	pod.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Time{Time: time.Now().Add(time.Minute)},
	}}
	h.apply(pod)
	if s, _ := last(); len(s.Triggers) != 1 || len(s.Headless) != 1 {
		t.Errorf("a Pod of a headless Service: %+v", s)
	}

	_, before := last()
	node := registry.Nodes.New()
	node.SetName("node-1")
	h.apply(node)
	if _, n := last(); n != before {
		t.Error("what is not about Services was followed")
	}
	if p := h.proxy.Progress(); p.Pending != nil || p.Synced.Before(p.Queued) || p.Queued.IsZero() {
		t.Errorf("progress %+v", p)
	}
}
