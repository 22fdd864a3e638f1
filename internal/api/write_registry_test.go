package api

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/registry"
)

// One object's life, through the API and etcd.
func TestLife(t *testing.T) {
	const (
		services = "/api/v1/namespaces/finance/services"
		manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: pay, labels: {app: pay}}\n" +
			"spec:\n  selector: {app: pay}\n  ports: [{port: 80, targetPort: 8080}]\n"
	)
	h := newRegistryServer(t).Handler()
	events := openWatch(t, h, "/api/v1/services?watch=1&labelSelector=app%3Dpay")

	created := ask(t, h, "POST", services, manifest, "Content-Type", mediaYAML)
	svc := decode[corev1.Service](t, created.body)
	if created.code != http.StatusCreated || svc.Namespace != "finance" || !strings.HasPrefix(svc.Spec.ClusterIP, "10.96.") ||
		svc.UID == "" || svc.Generation != 1 || svc.Kind != "Service" {
		t.Fatalf("create: %d %s", created.code, created.body)
	}
	// This node serves it already, and a namespace was made for it.
	if got := ask(t, h, "GET", services+"/pay", ""); got.body != created.body {
		t.Errorf("get: %s\nwant %s", got.body, created.body)
	}
	if got := ask(t, h, "GET", "/api/v1/namespaces/finance", ""); got.code != 200 {
		t.Errorf("namespace: %d %s", got.code, got.body)
	}
	again := ask(t, h, "POST", services, manifest, "Content-Type", mediaYAML)
	if again.code != http.StatusConflict || again.status.Reason != "AlreadyExists" || again.status.Message != `services "pay" already exists` {
		t.Errorf("create again: %d %s", again.code, again.body)
	}

	stale := svc.DeepCopy()
	svc.Spec.Ports[0].Port = 81
	updated := ask(t, h, "PUT", services+"/pay", encode(t, &svc), "Content-Type", mediaJSON)
	now := decode[corev1.Service](t, updated.body)
	if updated.code != http.StatusOK || now.Generation != 2 || now.Spec.ClusterIP != svc.Spec.ClusterIP || now.ResourceVersion == svc.ResourceVersion {
		t.Errorf("update: %d %s", updated.code, updated.body)
	}
	conflict := ask(t, h, "PUT", services+"/pay", encode(t, stale), "Content-Type", mediaJSON)
	if conflict.code != http.StatusConflict || conflict.status.Reason != "Conflict" || !strings.Contains(conflict.status.Message, "the object has been modified") {
		t.Errorf("stale update: %d %s", conflict.code, conflict.body)
	}
	now.Status.Conditions = []metav1.Condition{{Type: "Served", Status: "True", Reason: "Test", LastTransitionTime: metav1.Now()}}
	status := ask(t, h, "PUT", services+"/pay/status", encode(t, &now), "Content-Type", mediaJSON)
	if got := decode[corev1.Service](t, status.body); status.code != 200 || len(got.Status.Conditions) != 1 || got.Generation != 2 {
		t.Errorf("status: %d %s", status.code, status.body)
	}

	wrong := ask(t, h, "DELETE", services+"/pay", `{"preconditions":{"uid":"x"}}`, "Content-Type", mediaJSON)
	if wrong.code != http.StatusConflict {
		t.Errorf("delete with a wrong UID: %d %s", wrong.code, wrong.body)
	}
	deleted := ask(t, h, "DELETE", services+"/pay", "")
	gone := decode[metav1.Status](t, deleted.body)
	if deleted.code != 200 || gone.Status != "Success" || gone.Details == nil ||
		gone.Details.Name != "pay" || gone.Details.Kind != "services" || gone.Details.UID != svc.UID {
		t.Errorf("delete: %d %s", deleted.code, deleted.body)
	}
	if got := ask(t, h, "DELETE", services+"/pay", ""); got.code != 404 || got.status.Message != `services "pay" not found` {
		t.Errorf("delete again: %d %s", got.code, got.body)
	}
	for _, want := range []string{"ADDED", "MODIFIED", "MODIFIED", "DELETED"} {
		if e := events.next(); e.Type != want || e.Object.Name != "pay" {
			t.Errorf("%s, want %s", e, want)
		}
	}
}

func TestInvalidWrites(t *testing.T) {
	h := newRegistryServer(t).Handler()
	const services = "/api/v1/namespaces/finance/services"
	tests := []struct {
		name, body string
		code       int
		message    string // a part of it
		causes     int
	}{
		{"port", `{"metadata":{"name":"a"},"spec":{"ports":[{"port":0}]}}`, 422, "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive", 1},
		{"name", `{"metadata":{"name":"A_b"},"spec":{"ports":[{"port":0}]}}`, 422, "metadata.name: Invalid value: \"A_b\"", 2},
		{"range", `{"metadata":{"name":"a"},"spec":{"clusterIP":"10.97.0.1","ports":[{"port":80}]}}`, 422, "not in the valid range", 1},
		{"revision", `{"metadata":{"name":"a","resourceVersion":"3"},"spec":{"ports":[{"port":80}]}}`, 400, "resourceVersion should not be set on objects to be created", 0},
	}
	for _, tt := range tests {
		got := ask(t, h, "POST", services, tt.body, "Content-Type", mediaJSON)
		causes := 0
		if got.status.Details != nil {
			causes = len(got.status.Details.Causes)
		}
		if got.code != tt.code || !strings.Contains(got.status.Message, tt.message) || causes < tt.causes {
			t.Errorf("%s: %d with %d causes: %s", tt.name, got.code, causes, got.status.Message)
		}
	}
	if got := decode[corev1.ServiceList](t, ask(t, h, "GET", services, "").body); len(got.Items) != 0 {
		t.Errorf("something was written: %v", got.Items)
	}
	if got := ask(t, h, "PUT", services+"/a", `{"metadata":{"name":"a"},"spec":{"ports":[{"port":80}]}}`); got.code != 404 {
		t.Errorf("PUT of what is not there: %d %s", got.code, got.body)
	}
}

func TestDeleteCollection(t *testing.T) {
	h := newRegistryServer(t).Handler()
	const services = "/api/v1/namespaces/finance/services"
	for i := range 4 {
		body := fmt.Sprintf(`{"metadata":{"name":"s%d","labels":{"odd":"%d"}},"spec":{"selector":{"a":"b"},"ports":[{"port":80}]}}`, i, i%2)
		if got := ask(t, h, "POST", services, body); got.code != http.StatusCreated {
			t.Fatalf("%d %s", got.code, got.body)
		}
	}
	got := ask(t, h, "DELETE", services+"?labelSelector=odd%3D1", "")
	if list := decode[corev1.ServiceList](t, got.body); got.code != 200 || list.Kind != "ServiceList" || len(list.Items) != 2 || list.Items[1].Name != "s3" {
		t.Errorf("%d %s", got.code, got.body)
	}
	// Derived slices go with their Service alone.
	if got := ask(t, h, "DELETE", "/apis/discovery.k8s.io/v1/namespaces/finance/endpointslices", ""); got.code != 200 || !strings.Contains(got.body, `"items":[]`) {
		t.Errorf("slices: %d %s", got.code, got.body)
	}
	left := decode[corev1.ServiceList](t, ask(t, h, "GET", services, "").body)
	if len(left.Items) != 2 || left.Items[0].Name != "s0" || left.Items[1].Name != "s2" {
		t.Errorf("left: %v", left.Items)
	}
}

func TestLeases(t *testing.T) {
	h := newRegistryServer(t).Handler()
	const leases, pods = "/apis/usher.internal/v1/leases", "/api/v1/namespaces/finance/pods"
	granted := ask(t, h, "POST", leases, `{"spec":{"ttlSeconds":60}}`)
	lease := decode[Lease](t, granted.body)
	if granted.code != http.StatusCreated || lease.Name == "" || lease.Spec.TTLSeconds != 60 || lease.Kind != "Lease" {
		t.Fatalf("grant: %d %s", granted.code, granted.body)
	}
	for _, body := range []string{"", "{}", encode(t, lease)} {
		if got := ask(t, h, "PUT", leases+"/"+lease.Name, body); got.code != 200 || decode[Lease](t, got.body).Name != lease.Name {
			t.Errorf("renew: %d %s", got.code, got.body)
		}
	}
	body := fmt.Sprintf(`{"metadata":{"name":"p","annotations":{"usher.internal/lease":%q}},
		"spec":{"containers":[{"name":"main","image":"local"}]}}`, lease.Name)
	if got := ask(t, h, "POST", pods, body); got.code != http.StatusCreated {
		t.Fatalf("pod: %d %s", got.code, got.body)
	}
	// A process is behind it: it terminates first.
	terminating := ask(t, h, "DELETE", pods+"/p", "")
	if got := decode[corev1.Pod](t, terminating.body); terminating.code != 200 || got.Kind != "Pod" || got.DeletionTimestamp == nil {
		t.Errorf("delete: %d %s", terminating.code, terminating.body)
	}
	if got := ask(t, h, "DELETE", pods+"/p?gracePeriodSeconds=0", ""); got.code != 200 || decode[metav1.Status](t, got.body).Status != "Success" {
		t.Errorf("delete now: %d %s", got.code, got.body)
	}
	if got := ask(t, h, "POST", pods, body); got.code != http.StatusCreated {
		t.Fatalf("pod: %d %s", got.code, got.body)
	}
	if got := ask(t, h, "DELETE", leases+"/"+lease.Name, ""); got.code != 200 || decode[metav1.Status](t, got.body).Status != "Success" {
		t.Errorf("revoke: %d %s", got.code, got.body)
	}
	if got := ask(t, h, "GET", pods+"/p", ""); got.code != 404 {
		t.Errorf("the pod has survived its lease: %d %s", got.code, got.body)
	}
	for _, method := range []string{"PUT", "DELETE"} {
		if got := ask(t, h, method, leases+"/"+lease.Name, ""); got.code != 404 || got.status.Reason != "NotFound" {
			t.Errorf("%s of an ended lease: %d %s", method, got.code, got.body)
		}
	}
}

// TestStatusIsKept checks that a write of an object does not touch its status.
func TestStatusIsKept(t *testing.T) {
	h := newRegistryServer(t).Handler()
	const manifest = `{"metadata":{"name":"a"},"spec":{"type":"LoadBalancer","loadBalancerClass":"example.com/other","ports":[{"port":80}]},"status":{"loadBalancer":{"ingress":[{"ip":%q}]}}}`
	ingress := func(got reply) string {
		var ips []string
		for _, in := range decode[corev1.Service](t, got.body).Status.LoadBalancer.Ingress {
			ips = append(ips, in.IP)
		}
		return strings.Join(ips, " ")
	}
	if got := ingress(do(t, h, "POST", financeServices, fmt.Sprintf(manifest, "192.0.2.1"), 201)); got != "" {
		t.Errorf("created with %s", got)
	}
	if got := ingress(do(t, h, "PUT", financeServices+"/a/status", fmt.Sprintf(manifest, "192.0.2.2"), 200)); got != "192.0.2.2" {
		t.Errorf("the status was written as %q", got)
	}
	if got := ingress(do(t, h, "PUT", financeServices+"/a", fmt.Sprintf(manifest, "192.0.2.3"), 200)); got != "192.0.2.2" {
		t.Errorf("updated to %q", got)
	}
	if got := ingress(do(t, h, "PUT", financeServices+"/a", `{"metadata":{"name":"a"},"spec":{"ports":[{"port":80}]}}`, 200)); got != "" {
		t.Errorf("no load balancer any more, and still %q", got)
	}
}

// TestStatusTakesMetadata checks what a write of the status takes with it, and
// who becomes the owner of it.
func TestStatusTakesMetadata(t *testing.T) {
	h := newRegistryServer(t).Handler()
	const metadata = `{"metadata":{"name":"a","labels":{"l":"1"},"annotations":{"a":"1"},"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"n","uid":"u"}]}`
	for _, tt := range []struct {
		kind             *registry.Kind
		all, spec, wrong string
		owned            bool // ownerReferences are taken
	}{
		{registry.Services, financeServices, `{"ports":[{"port":80}]}`, `{"ports":[{"port":81}]}`, true},
		{registry.Pods, "/api/v1/namespaces/finance/pods", `{"containers":[{"name":"c","image":"i"}]}`, `{"containers":[{"name":"c","image":"j"}]}`, false},
		{registry.Namespaces, "/api/v1/namespaces", `{}`, `{"finalizers":["example.com/x"]}`, true},
		{registry.Nodes, "/api/v1/nodes", `{"unschedulable":true}`, `{}`, true},
	} {
		made := decode[metav1.PartialObjectMetadata](t, do(t, h, "POST", tt.all, `{"metadata":{"name":"a"},"spec":`+tt.spec+`}`, 201).body)
		for method, typ := range map[string]string{"PATCH": mergeType, "PUT": mediaJSON} {
			body := metadata + `,"spec":` + tt.wrong + `}`
			got := ask(t, h, method, tt.all+"/a/status?fieldManager="+method, body, "Content-Type", typ)
			obj := decode[metav1.PartialObjectMetadata](t, got.body)
			if got.code != 200 || obj.Labels["l"] != "1" || obj.Annotations["a"] != "1" || (len(obj.OwnerReferences) == 1) != tt.owned || obj.Generation != made.Generation {
				t.Errorf("%s %s: %d %s", tt.kind.Kind, method, got.code, got.body)
			}
			i := slices.IndexFunc(obj.ManagedFields, func(m metav1.ManagedFieldsEntry) bool { return m.Manager == method && m.Subresource == "status" })
			if i < 0 {
				t.Fatalf("%s %s: nobody has set something: %s", tt.kind.Kind, method, got.body)
			}
			if fields := obj.ManagedFields[i].FieldsV1.String(); !strings.Contains(fields, `"f:l":`) ||
				strings.Contains(fields, "f:ownerReferences") != tt.owned || strings.Contains(fields, "f:spec") {
				t.Errorf("%s %s: owns %s", tt.kind.Kind, method, fields)
			}
			do(t, h, "PUT", tt.all+"/a/status", `{"metadata":{"name":"a"}}`, 200) // takes all of it away
		}
	}
}

// TestUpdateOfStatusAlone checks that usher's own writes of a status leave all
// else as it is.
func TestUpdateOfStatusAlone(t *testing.T) {
	s := newRegistryServer(t)
	do(t, s.Handler(), "POST", "/api/v1/nodes", `{"metadata":{"name":"a","labels":{"l":"1"}}}`, 201)
	node := registry.Nodes.New().(*corev1.Node)
	node.Name, node.Status.NodeInfo.Architecture = "a", "riscv64"
	got, err := s.opts.Writer.Update(t.Context(), node, "status")
	if err != nil || got.GetLabels()["l"] != "1" || got.(*corev1.Node).Status.NodeInfo.Architecture != "riscv64" {
		t.Errorf("%+v, %v", got, err)
	}
	node.ResourceVersion = "1"
	if _, err := s.opts.Writer.Update(t.Context(), node, "status"); !apierrors.IsConflict(err) {
		t.Errorf("of an old state: %v", err)
	}
}
