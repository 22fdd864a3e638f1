package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestFrontends feeds objects to a Store one transaction after the other and
// checks which Frontends and Backends follow.
func TestFrontends(t *testing.T) {
	tests := []struct {
		name  string
		steps []string // documents of one transaction each
		want  string
	}{
		{"no pods", []string{payment},
			"10.96.143.7:80/TCP finance/payment-service"},
		{"service first", []string{payment, pod("a", "10.1.0.5", ""), pod("b", "10.1.0.6", "")},
			"10.96.143.7:80/TCP finance/payment-service 10.1.0.5:8080 10.1.0.6:8080"},
		{"pods first", []string{pod("b", "10.1.0.6", ""), pod("a", "10.1.0.5", ""), payment},
			"10.96.143.7:80/TCP finance/payment-service 10.1.0.5:8080 10.1.0.6:8080"},
		{"one transaction", []string{payment + "\n---\n" + pod("a", "10.1.0.5", "")},
			"10.96.143.7:80/TCP finance/payment-service 10.1.0.5:8080"},
		{"pod becomes unready", []string{payment, pod("a", "10.1.0.5", ""),
			strings.Replace(pod("a", "10.1.0.5", ""), `"True"`, `"False"`, 1)},
			"10.96.143.7:80/TCP finance/payment-service"},
		{"pod changes its labels", []string{payment, pod("a", "10.1.0.5", ""),
			strings.Replace(pod("a", "10.1.0.5", ""), "app: payment", "app: other", 1)},
			"10.96.143.7:80/TCP finance/payment-service"},
		{"pod in another namespace", []string{payment,
			strings.Replace(pod("a", "10.1.0.5", ""), "finance", "default", 1)},
			"10.96.143.7:80/TCP finance/payment-service"},
		{"finished pod", []string{payment, strings.Replace(pod("a", "10.1.0.5", ""), "Running", "Succeeded", 1)},
			"10.96.143.7:80/TCP finance/payment-service"},
		{"service changes its selector", []string{payment, pod("a", "10.1.0.5", ""),
			strings.Replace(payment, "app: payment", "app: other", 1)},
			"10.96.143.7:80/TCP finance/payment-service"},
		{"selector of two labels", []string{strings.Replace(payment, "app: payment", "app: payment, tier: backend", 1),
			pod("a", "10.1.0.5", ""), strings.Replace(pod("b", "10.1.0.6", ""), "tier: backend", "tier: front", 1)},
			"10.96.143.7:80/TCP finance/payment-service 10.1.0.5:8080"},
		{"named target port", []string{strings.Replace(payment, "8080", "web", 1), pod("a", "10.1.0.5", ""),
			strings.Replace(pod("b", "10.1.0.6", ""), "containerPort: 9000", "containerPort: 9001", 1),
			strings.Replace(pod("c", "10.1.0.7", ""), "name: web", "name: other", 1),
			strings.Replace(pod("d", "10.1.0.8", ""), "name: web", "protocol: UDP, name: web", 1)},
			"10.96.143.7:80/TCP finance/payment-service 10.1.0.5:9000 10.1.0.6:9001"},
		{"terminating pod drains", []string{payment, pod("a", "10.1.0.5", ""),
			strings.Replace(pod("b", "10.1.0.6", ""), "name: b", "name: b, deletionTimestamp: 2026-01-01T00:00:00Z", 1)},
			"10.96.143.7:80/TCP finance/payment-service 10.1.0.5:8080 draining:10.1.0.6:8080"},
		{"only terminating pods are used", []string{payment,
			strings.Replace(pod("b", "10.1.0.6", ""), "name: b", "name: b, deletionTimestamp: 2026-01-01T00:00:00Z", 1)},
			"10.96.143.7:80/TCP finance/payment-service 10.1.0.6:8080"},
		{"not ready addresses published", []string{strings.Replace(payment, "selector:", "publishNotReadyAddresses: true\n  selector:", 1),
			strings.Replace(pod("a", "10.1.0.5", ""), `"True"`, `"False"`, 1)},
			"10.96.143.7:80/TCP finance/payment-service 10.1.0.5:8080"},
		{"several ports and protocols", []string{strings.Replace(payment, "[{port: 80, targetPort: 8080}]",
			"[{name: http, port: 80, targetPort: 8080}, {name: dns, port: 53, protocol: UDP}, {name: sctp, port: 9, protocol: SCTP}]", 1),
			pod("a", "10.1.0.5", "")},
			"10.96.143.7:53/UDP finance/payment-service:dns 10.1.0.5:53\n" +
				"10.96.143.7:80/TCP finance/payment-service:http 10.1.0.5:8080"},
		{"proxied by somebody else", []string{strings.Replace(payment, "namespace: finance",
			"namespace: finance, labels: {service.kubernetes.io/service-proxy-name: x}", 1)}, ""},
		{"headless by label", []string{strings.Replace(payment, "namespace: finance",
			"namespace: finance, labels: {service.kubernetes.io/headless: x}", 1)}, ""},
		{"headless", []string{strings.ReplaceAll(payment, "10.96.143.7", "None")}, ""},
		{"slices by hand", []string{strings.Replace(payment, "selector: {app: payment}", "", 1), `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: one, namespace: finance, labels: {kubernetes.io/service-name: payment-service}}
addressType: IPv4
ports: [{port: 3001}]
endpoints: [{addresses: [127.0.0.1, 127.0.0.9]}, {addresses: [127.0.0.2], conditions: {ready: false}}]`, `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: two, namespace: finance, labels: {kubernetes.io/service-name: payment-service}}
addressType: IPv4
ports: [{port: 3001}, {name: other, port: 1}]
endpoints: [{addresses: [127.0.0.1]}, {addresses: [127.0.0.3]}]`, `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: six, namespace: finance, labels: {kubernetes.io/service-name: payment-service}}
addressType: IPv6
ports: [{port: 3001}]
endpoints: [{addresses: ["::1"]}]`},
			"10.96.143.7:80/TCP finance/payment-service 127.0.0.1:3001 127.0.0.3:3001"},
		{"conditions by hand", []string{strings.Replace(payment, "selector: {app: payment}", "", 1), `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: one, namespace: finance, labels: {kubernetes.io/service-name: payment-service}}
addressType: IPv4
ports: [{port: 3001}]
endpoints:
- {addresses: [127.0.0.1], conditions: {terminating: true, ready: false}}
- {addresses: [127.0.0.2], conditions: {terminating: true, ready: false, serving: false}}`},
			"10.96.143.7:80/TCP finance/payment-service 127.0.0.1:3001"},
		{"slices that count for nothing", []string{strings.Replace(payment, "selector: {app: payment}", "", 1), `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: none, namespace: finance}
addressType: IPv4
ports: [{port: 3001}]
endpoints: [{addresses: [127.0.0.1]}]`, `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: names, namespace: finance, labels: {kubernetes.io/service-name: payment-service}}
addressType: FQDN
ports: [{port: 3001}]
endpoints: [{addresses: [a.example.org]}]`, `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ports, namespace: finance, labels: {kubernetes.io/service-name: payment-service}}
addressType: IPv4
ports: [{port: 0}, {name: b}, {name: c, protocol: UDP, port: 80}]
endpoints: [{addresses: [127.0.0.1]}]`},
			"10.96.143.7:80/TCP finance/payment-service"},
		{"slices that disagree", []string{strings.Replace(payment, "selector: {app: payment}", "", 1), `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: one, namespace: finance, labels: {kubernetes.io/service-name: payment-service}}
addressType: IPv4
ports: [{port: 3001}]
endpoints: [{addresses: [127.0.0.1], conditions: {terminating: true, ready: false}}, {addresses: [127.0.0.2]}]`, `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: two, namespace: finance, labels: {kubernetes.io/service-name: payment-service}}
addressType: IPv4
ports: [{port: 3001}]
endpoints: [{addresses: [127.0.0.1]}, {addresses: [127.0.0.2], conditions: {terminating: true, ready: false}}]`},
			"10.96.143.7:80/TCP finance/payment-service 127.0.0.1:3001 127.0.0.2:3001"},
		{"endpoints by hand", []string{strings.Replace(payment, "selector: {app: payment}", "", 1), `
apiVersion: v1
kind: Endpoints
metadata: {name: payment-service, namespace: finance}
subsets: [{addresses: [{ip: 127.0.0.1}], notReadyAddresses: [{ip: 127.0.0.2}], ports: [{port: 3001}]}]`},
			"10.96.143.7:80/TCP finance/payment-service 127.0.0.1:3001"},
		{"endpoints not mirrored where there is a selector", []string{payment, `
apiVersion: v1
kind: Endpoints
metadata: {name: payment-service, namespace: finance}
subsets: [{addresses: [{ip: 127.0.0.1}], ports: [{port: 3001}]}]`},
			"10.96.143.7:80/TCP finance/payment-service"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := NewStore()
			s.Replace(1, nil)
			for i, step := range tt.steps {
				revision := int64(i + 2)
				s.Apply(revision, writes(objects(t, revision, step)))
			}
			if diff := cmp.Diff(tt.want, frontends(s.Snapshot())); diff != "" {
				t.Errorf("frontends (-want +got):\n%s", diff)
			}
			// The same objects in one list yield the same.
			var list []Object
			for _, k := range Kinds {
				for obj := range s.Snapshot().List(k, "") {
					if !IsDerived(obj) {
						list = append(list, obj)
					}
				}
			}
			again := NewStore()
			again.Replace(99, list)
			if diff := cmp.Diff(tt.want, frontends(again.Snapshot())); diff != "" {
				t.Errorf("frontends after Replace (-want +got):\n%s", diff)
			}
			// Without the Services nothing is left.
			s.Replace(100, nil)
			if got := frontends(s.Snapshot()); got != "" {
				t.Errorf("left over: %s", got)
			}
			for obj := range s.Snapshot().List(EndpointSlices, "") {
				t.Errorf("left over: %s", obj.GetName())
			}
		})
	}
}

func TestDerivedSlices(t *testing.T) {
	s := NewStore()
	s.Replace(1, objects(t, 1, payment))
	count := func() (n, endpoints int) {
		for slice := range s.Snapshot().EndpointSlices("finance", "payment-service") {
			if !IsDerived(slice) || !strings.HasPrefix(slice.Name, "payment-service-") || slice.OwnerReferences[0].Name != "payment-service" {
				t.Errorf("slice %+v", slice.ObjectMeta)
			}
			n++
			endpoints += len(slice.Endpoints)
		}
		return n, endpoints
	}
	if n, e := count(); n != 1 || e != 0 {
		t.Errorf("no pods: %d slices with %d endpoints, want the placeholder", n, e)
	}
	var pods []Object
	for i := range 250 {
		pods = append(pods, objects(t, 2, pod(fmt.Sprintf("p%03d", i), fmt.Sprintf("10.1.0.%d", i), ""))...)
	}
	s.Apply(2, writes(pods))
	if n, e := count(); n != 3 || e != 250 {
		t.Errorf("250 pods: %d slices with %d endpoints, want 3 with 250", n, e)
	}
	rv := map[string]string{}
	for slice := range s.Snapshot().EndpointSlices("finance", "payment-service") {
		rv[slice.Name] = slice.ResourceVersion
	}
	s.Apply(3, writes(objects(t, 3, strings.Replace(pod("p249", "10.1.0.249", ""), `"True"`, `"False"`, 1))))
	changed := 0
	for slice := range s.Snapshot().EndpointSlices("finance", "payment-service") {
		if rv[slice.Name] != slice.ResourceVersion {
			changed++
		}
	}
	if changed != 1 {
		t.Errorf("one pod changed %d slices, want 1", changed)
	}
}

// TestCommitIsIncremental checks that what a change writes does not depend on
// how many Services there are, and that a list without news writes nothing.
func TestCommitIsIncremental(t *testing.T) {
	s := NewStore()
	var list []Object
	for i := range 500 {
		list = append(list, objects(t, 1, strings.NewReplacer(
			"payment-service", fmt.Sprintf("svc-%d", i), "app: payment", fmt.Sprintf("app: a%d", i),
			"10.96.143.7", fmt.Sprintf("10.96.%d.%d", 10+i/200, 1+i%200)).Replace(payment))...)
	}
	list = append(list, objects(t, 1, payment)...)
	s.Replace(1, list)
	w, err := s.Watch(1)
	if err != nil {
		t.Fatal(err)
	}
	s.Apply(2, writes(objects(t, 2, pod("a", "10.1.0.5", ""))))
	commits, err := w.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(commits) != 1 || len(commits[0].Objects) != 2 || len(commits[0].Frontends) != 1 {
		t.Fatalf("one pod: %d commits, %+v; want the pod, its slice and one frontend", len(commits), commits)
	}
	list = append(list, objects(t, 2, pod("a", "10.1.0.5", ""))...)
	s.Replace(3, list)
	commits, err = w.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c := commits[0]; c.Revision != 3 || len(c.Objects)+len(c.Frontends) != 0 {
		t.Errorf("the same list again changed %d objects and %d frontends", len(c.Objects), len(c.Frontends))
	}
}

func TestReplaceKeepsUnreadable(t *testing.T) {
	s := NewStore()
	objs := objects(t, 1, payment+"\n---\n"+pod("a", "10.1.0.5", ""))
	s.Replace(1, objs)
	s.Replace(2, objs[1:], KeyOf(objs[0]))
	if got := s.Snapshot().Service("finance", "payment-service"); got == nil {
		t.Error("a Service whose value became unreadable is gone; its last good state has to stay")
	}
	s.Replace(3, objs[1:])
	if got := s.Snapshot().Service("finance", "payment-service"); got != nil {
		t.Error("a deleted Service is still there")
	}
}

func TestWaitRevision(t *testing.T) {
	s := NewStore()
	s.Replace(1, nil)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := s.WaitRevision(t.Context(), 50); err != nil {
				t.Error(err)
			}
		})
	}
	for r := range int64(50) {
		s.Apply(r+1, nil)
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := s.WaitRevision(ctx, 51); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait for a revision that does not come: %v", err)
	}
}

func TestWatch(t *testing.T) {
	s := NewStore()
	s.Replace(10, nil)
	if _, err := s.Watch(9); !errors.Is(err, ErrExpired) {
		t.Errorf("watch from before the first list: %v, want ErrExpired", err)
	}
	w, err := s.Watch(10)
	if err != nil {
		t.Fatal(err)
	}
	slow, err := s.Watch(10)
	if err != nil {
		t.Fatal(err)
	}
	const last = 10 + logSize + 100
	next := int64(11)
	for r := int64(11); r <= last; r++ {
		s.Apply(r, nil)
		if r%1000 != 0 && r != last {
			continue
		}
		commits, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range commits {
			if c.Revision != next {
				t.Fatalf("a commit has revision %d, want %d", c.Revision, next)
			}
			next++
		}
	}
	if next != last+1 {
		t.Errorf("watched up to revision %d, want %d", next-1, last)
	}
	if _, err := slow.Next(t.Context()); !errors.Is(err, ErrExpired) {
		t.Errorf("a watch that was left behind: %v, want ErrExpired", err)
	}
	if _, err := s.Watch(11); !errors.Is(err, ErrExpired) {
		t.Errorf("watch from a forgotten revision: %v, want ErrExpired", err)
	}
	w, err = s.Watch(last - 5)
	if err != nil {
		t.Fatal(err)
	}
	if commits, err := w.Next(t.Context()); err != nil || len(commits) != 5 || commits[0].Revision != last-4 {
		t.Errorf("watch from revision %d: %d commits, %v", last-5, len(commits), err)
	}
}

// BenchmarkApply measures one change of a Pod among more and more Services.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			s := NewStore()
			var list []Object
			for i := range n {
				svc := objects(b, 1, payment)[0].(*corev1.Service)
				svc.ObjectMeta = metav1.ObjectMeta{Namespace: "finance", Name: fmt.Sprintf("s%d", i), ResourceVersion: "1"}
				svc.Spec.ClusterIP = fmt.Sprintf("10.96.%d.%d", i/250, 1+i%250)
				svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
				svc.Spec.Selector = map[string]string{"app": svc.Name}
				list = append(list, svc)
			}
			p := objects(b, 1, pod("p", "10.1.0.5", ""))[0].(*corev1.Pod)
			p.Labels = map[string]string{"app": "s7"}
			s.Replace(1, list)
			revision := int64(1)
			for b.Loop() {
				revision++
				next := p.DeepCopy()
				next.Status.PodIP = fmt.Sprintf("10.1.0.%d", revision%250)
				next.Status.PodIPs = nil
				s.Apply(revision, []Write{{KeyOf(next), next}})
			}
		})
	}
}

// TestBackendNode checks that a Backend says on which node it is: that of its
// endpoint, or of its Pod.
func TestBackendNode(t *testing.T) {
	s := NewStore()
	s.Replace(1, objects(t, 1, payment+"\n---\n"+strings.Replace(pod("a", "10.1.0.5", ""), "spec: {", "spec: {nodeName: laptop, ", 1)+`
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: one, namespace: finance, labels: {kubernetes.io/service-name: payment-service}}
addressType: IPv4
ports: [{port: 3001}]
endpoints: [{addresses: [127.0.0.1], nodeName: desktop}, {addresses: [127.0.0.2]}]`))
	got := make(map[string]string)
	for f := range s.Snapshot().Frontends() {
		for _, b := range f.Backends {
			got[b.Address.String()] = b.Node
		}
	}
	want := map[string]string{"10.1.0.5:8080": "laptop", "127.0.0.1:3001": "desktop", "127.0.0.2:3001": ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
}
