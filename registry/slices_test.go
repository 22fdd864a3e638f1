package registry

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// derived returns the slices of finance/payment-service that follow from
// documents.
func derived(t *testing.T, documents ...string) []*discoveryv1.EndpointSlice {
	t.Helper()
	s := NewStore()
	s.Replace(1, nil)
	s.Apply(2, writes(objects(t, 2, strings.Join(documents, "\n---\n"))))
	return slices.Collect(s.Snapshot().EndpointSlices("finance", "payment-service"))
}

// TestSliceMetadata checks what a slice of a selector says besides its
// endpoints.
func TestSliceMetadata(t *testing.T) {
	svc := strings.Replace(payment, "namespace: finance", "namespace: finance, creationTimestamp: 2026-01-01T00:00:00Z, labels: {team: money, service.kubernetes.io/headless: x, kubernetes.io/service-name: other}", 1)
	svc = strings.Replace(svc, "{port: 80,", "{port: 80, appProtocol: kubernetes.io/h2c,", 1)
	node := "apiVersion: v1\nkind: Node\nmetadata: {name: laptop, labels: {topology.kubernetes.io/zone: home}}"
	a := strings.Replace(pod("a", "10.1.0.5", ""), "spec: {", "spec: {nodeName: laptop, hostname: db-0, subdomain: payment-service, ", 1)
	a = strings.Replace(a, `status: "True"`, `status: "True", lastTransitionTime: 2026-01-02T03:04:05Z`, 1)
	list := derived(t, node, svc, a)
	if len(list) != 1 {
		t.Fatalf("%d slices", len(list))
	}
	s := list[0]
	want := map[string]string{
		"team": "money", "kubernetes.io/service-name": "payment-service",
		"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
	}
	if diff := cmp.Diff(want, s.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T03:04:05Z"}, s.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if o := s.OwnerReferences[0]; o.Kind != "Service" || o.Name != "payment-service" || !*o.Controller || s.GenerateName != "payment-service-" {
		t.Errorf("%+v", s.ObjectMeta)
	}
	e := s.Endpoints[0]
	if deref(e.NodeName, "") != "laptop" || deref(e.Zone, "") != "home" || deref(e.Hostname, "") != "db-0" ||
		e.TargetRef == nil || e.TargetRef.Name != "a" || deref(s.Ports[0].AppProtocol, "") != "kubernetes.io/h2c" {
		t.Errorf("%+v of %+v", e, s.Ports)
	}

	other := derived(t, svc, strings.Replace(a, "subdomain: payment-service", "subdomain: other", 1))[0]
	if other.Endpoints[0].Hostname != nil {
		t.Error("a hostname in another subdomain")
	}
	headless := derived(t, strings.ReplaceAll(payment, "10.96.143.7", "None"))[0]
	if value, ok := headless.Labels["service.kubernetes.io/headless"]; !ok || value != "" || len(headless.Endpoints) != 0 || headless.Ports == nil {
		t.Errorf("the placeholder of a headless Service: %+v", headless)
	}
}

// TestSlicesByPorts checks that Pods with other numbers for a named port have
// other slices, and that init containers that go on count.
func TestSlicesByPorts(t *testing.T) {
	svc := strings.Replace(payment, "8080", "web", 1)
	sidecar := strings.Replace(pod("c", "10.1.0.7", ""), "spec: {containers: [{name: c, image: i, ports: [{name: web, containerPort: 9000}]}]",
		"spec: {containers: [{name: c, image: i}], initContainers: [{name: s, image: i, restartPolicy: Always, ports: [{name: web, containerPort: 9000}]}]", 1)
	var got []string
	for _, s := range derived(t, svc, pod("a", "10.1.0.5", ""), sidecar,
		strings.Replace(pod("b", "10.1.0.6", ""), "containerPort: 9000", "containerPort: 9001", 1),
		strings.Replace(strings.Replace(sidecar, "name: c,", "name: d,", 1), "restartPolicy: Always, ", "", 1)) {
		line := "none:"
		if len(s.Ports) > 0 {
			line = fmt.Sprint(*s.Ports[0].Port, ":")
		}
		for _, e := range s.Endpoints {
			line += " " + e.TargetRef.Name
		}
		got = append(got, line)
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"9000: a c", "9001: b", "none: d"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestMirroredSlices checks what follows from Endpoints written by hand.
func TestMirroredSlices(t *testing.T) {
	svc := strings.Replace(payment, "selector: {app: payment}", "", 1)
	eps := func(meta string) string {
		return "apiVersion: v1\nkind: Endpoints\nmetadata: {name: payment-service, namespace: finance" + meta + "}\n" +
			"subsets: [{addresses: [{ip: 127.0.0.1, hostname: h}], notReadyAddresses: [{ip: '::1'}], ports: [{port: 3001}]}]"
	}
	list := derived(t, svc, eps(", labels: {team: money}, annotations: {note: a, endpoints.kubernetes.io/last-change-trigger-time: x, kubectl.kubernetes.io/last-applied-configuration: x}"))
	if len(list) != 2 {
		t.Fatalf("%d slices, want one for each family", len(list))
	}
	for _, s := range list {
		ready := deref(s.Endpoints[0].Conditions.Ready, false)
		if ready != (s.AddressType == discoveryv1.AddressTypeIPv4) {
			t.Errorf("%s is ready: %t", s.AddressType, ready)
		}
		want := map[string]string{"team": "money", "kubernetes.io/service-name": "payment-service",
			"endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io"}
		if diff := cmp.Diff(want, s.Labels); diff != "" {
			t.Errorf("labels (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(map[string]string{"note": "a"}, s.Annotations); diff != "" {
			t.Errorf("annotations (-want +got):\n%s", diff)
		}
		if s.OwnerReferences[0].Kind != "Endpoints" {
			t.Errorf("owner %+v", s.OwnerReferences)
		}
	}
	for _, meta := range []string{", labels: {endpointslice.kubernetes.io/skip-mirror: \"true\"}", ", annotations: {control-plane.alpha.kubernetes.io/leader: x}"} {
		if list := derived(t, svc, eps(meta)); len(list) != 0 {
			t.Errorf("mirrored with %s", meta)
		}
	}
}
