package registry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// TestBalancing has what the annotations and the affinity of a Service make of
// its Frontends, and those of Pods and slices of their Backends.
func TestBalancing(t *testing.T) {
	annotate := func(document, annotations string) string {
		return strings.Replace(document, "namespace: finance", "namespace: finance, annotations: {"+annotations+"}", 1)
	}
	notReady := func(document string) string { return strings.Replace(document, `status: "True"`, `status: "False"`, 1) }
	affine := func(spec string) string { return strings.Replace(payment, "selector:", spec+"\n  selector:", 1) }
	byHand := strings.Replace(payment, "selector: {app: payment}", "", 1)
	const slice = `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: one, namespace: finance, labels: {kubernetes.io/service-name: payment-service}}
addressType: IPv4
ports: [{port: 3001}]
endpoints: [{addresses: [127.0.0.1], targetRef: {kind: Pod, name: a, namespace: finance}}]`
	const endpoints = `
apiVersion: v1
kind: Endpoints
metadata: {name: payment-service, namespace: finance}
subsets: [{addresses: [{ip: 127.0.0.1}], ports: [{port: 3001}]}]`
	tests := []struct {
		name  string
		steps []string
		want  string
	}{
		{"nothing said", []string{payment, pod("a", "10.1.0.5", "")}, "round-robin 10.1.0.5*1"},
		{"policy", []string{annotate(payment, "usher.internal/balancer: maglev")}, "maglev"},
		{"policy changes", []string{annotate(payment, "usher.internal/balancer: maglev"), payment}, "round-robin"},
		{"policy that there is not", []string{annotate(payment, "usher.internal/balancer: best")}, "round-robin"},
		{"affinity", []string{affine("sessionAffinity: ClientIP")}, "round-robin affinity=3h0m0s"},
		{"affinity with a time", []string{affine("sessionAffinity: ClientIP\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 10}}")},
			"round-robin affinity=10s"},
		{"affinity changes its time", []string{affine("sessionAffinity: ClientIP\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 10}}"),
			affine("sessionAffinity: ClientIP\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 20}}")}, "round-robin affinity=20s"},
		{"client address", []string{annotate(payment, "usher.internal/client-address: proxy-v2")}, "round-robin client=proxy-v2"},
		{"transparent", []string{annotate(payment, "usher.internal/client-address: transparent")}, "round-robin client=transparent"},
		{"client address over UDP", []string{strings.Replace(annotate(payment, "usher.internal/client-address: proxy-v2"),
			"{port: 80", "{protocol: UDP, port: 80", 1)}, "round-robin"},
		{"removed backend", []string{annotate(payment, "usher.internal/removed-backend: close")}, "round-robin removed=close"},
		{"removed backend as Kubernetes has it", []string{annotate(payment, "usher.internal/removed-backend: keep")}, "round-robin"},
		{"removed backend over UDP", []string{strings.Replace(annotate(payment, "usher.internal/removed-backend: close"),
			"{port: 80", "{protocol: UDP, port: 80", 1)}, "round-robin"},
		{"removed backend, and one that is not ready", []string{annotate(payment, "usher.internal/removed-backend: reset"),
			pod("a", "10.1.0.5", ""), notReady(pod("b", "10.1.0.6", ""))}, "round-robin removed=reset unused=10.1.0.6 10.1.0.5*1"},
		{"not ready, and nobody asks", []string{payment, pod("a", "10.1.0.5", ""), notReady(pod("b", "10.1.0.6", ""))}, "round-robin 10.1.0.5*1"},
		{"weight of a pod", []string{payment, annotate(pod("a", "10.1.0.5", ""), `usher.internal/weight: "3"`), pod("b", "10.1.0.6", "")},
			"round-robin 10.1.0.5*3 10.1.0.6*1"},
		{"weight of a pod changes", []string{payment, pod("a", "10.1.0.5", ""), annotate(pod("a", "10.1.0.5", ""), `usher.internal/weight: "3"`)},
			"round-robin 10.1.0.5*3"},
		{"weight that is none", []string{payment, annotate(pod("a", "10.1.0.5", ""), `usher.internal/weight: "0"`)}, "round-robin 10.1.0.5*1"},
		{"weight of a slice", []string{byHand, annotate(slice, `usher.internal/weight: "3"`), annotate(pod("a", "10.1.0.5", ""), `usher.internal/weight: "9"`)},
			"round-robin 127.0.0.1*3"},
		{"weight of endpoints", []string{byHand, annotate(endpoints, `usher.internal/weight: "3"`)}, "round-robin 127.0.0.1*3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := NewStore()
			s.Replace(1, nil)
			for i, step := range tt.steps {
				revision := int64(i + 2)
				s.Apply(revision, writes(objects(t, revision, step)))
			}
			var got []string
			for f := range s.Snapshot().Frontends() {
				got = append(got, string(f.Policy))
				if f.Affinity != 0 {
					got = append(got, fmt.Sprintf("affinity=%v", f.Affinity))
				}
				if f.ClientAddress != "" {
					got = append(got, fmt.Sprintf("client=%s", f.ClientAddress))
				}
				if f.Removed != "" {
					got = append(got, fmt.Sprintf("removed=%s", f.Removed))
				}
				for _, at := range f.Unused {
					got = append(got, fmt.Sprintf("unused=%s", at.Addr()))
				}
				for _, b := range f.Backends {
					got = append(got, fmt.Sprintf("%s*%d", b.Address.Addr(), b.Weight))
				}
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("frontends (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidateBalancing(t *testing.T) {
	const policies = `supported values: "least-connections", "maglev", "p2c", "random", "round-robin"`
	annotated := func(annotation, spec string) string {
		return strings.Replace(service(spec), "namespace: b", "namespace: b, annotations: {usher.internal/"+annotation+"}", 1)
	}
	tests := []struct {
		name, document string
		want           []string
	}{
		{"policy", annotated("balancer: p2c", "ports: [{port: 80}]"), nil},
		{"policy that there is not", annotated("balancer: best", "ports: [{port: 80}]"), []string{
			`metadata.annotations[usher.internal/balancer]: Unsupported value: "best": ` + policies}},
		{"empty policy", annotated("balancer: ''", "ports: [{port: 80}]"), []string{
			`metadata.annotations[usher.internal/balancer]: Unsupported value: "": ` + policies}},
		{"client address", annotated("client-address: proxy-v1", "ports: [{port: 80}]"), nil},
		{"path", annotated("path: proxy", "ports: [{port: 80}]"), nil},
		{"path that there is not", annotated("path: detour", "ports: [{port: 80}]"), []string{
			`metadata.annotations[usher.internal/path]: Unsupported value: "detour": supported values: "direct", "proxy"`}},
		{"removed backend", annotated("removed-backend: close", "ports: [{port: 80}]"), nil},
		{"removed backend as there is not", annotated("removed-backend: drain", "ports: [{port: 80}]"), []string{
			`metadata.annotations[usher.internal/removed-backend]: Unsupported value: "drain": supported values: "close", "keep", "reset"`}},
		{"client address that there is not", annotated("client-address: proxy-v3", "ports: [{port: 80}]"), []string{
			`metadata.annotations[usher.internal/client-address]: Unsupported value: "proxy-v3": supported values: "proxy-v1", "proxy-v2", "transparent"`}},
		{"transparent", annotated("client-address: transparent", "ports: [{port: 80}]"), nil},
		{"transparent over UDP", annotated("client-address: transparent", "ports: [{port: 80, protocol: UDP}]"), []string{
			`metadata.annotations[usher.internal/client-address]: Invalid value: "transparent": may only be used when every port is TCP`}},
		{"client address over UDP", annotated("client-address: proxy-v2", "ports: [{name: a, port: 80}, {name: b, port: 80, protocol: UDP}]"), []string{
			`metadata.annotations[usher.internal/client-address]: Invalid value: "proxy-v2": may only be used when every port is TCP`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, got := check(t, tt.document, "", []corev1.IPFamily{corev1.IPv4Protocol})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidateWeight(t *testing.T) {
	for _, obj := range objects(t, 2, pod("a", "10.1.0.5", "")+`
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: one, namespace: finance}
addressType: IPv4
---
apiVersion: v1
kind: Endpoints
metadata: {name: one, namespace: finance}`) {
		for weight, ok := range map[string]bool{"1": true, "100": true, "0": false, "101": false, "-1": false, "1.5": false, "": false} {
			obj.SetAnnotations(map[string]string{AnnotationWeight: weight})
			SetDefaults(obj)
			var want []string
			if !ok {
				want = []string{fmt.Sprintf("metadata.annotations[usher.internal/weight]: Invalid value: %q: must be between 1 and 100, inclusive", weight)}
			}
			var got []string
			for _, err := range Validate(obj) {
				got = append(got, err.Error())
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s of weight %q (-want +got):\n%s", KindOf(obj).Kind, weight, diff)
			}
		}
	}
}
