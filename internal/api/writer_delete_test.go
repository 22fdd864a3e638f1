package api

import (
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"usher/registry"
)

// TestFinalizers follows a Service that somebody has something to clean up for.
func TestFinalizers(t *testing.T) {
	s := newRegistryServer(t)
	h := s.Handler()
	const services = "/api/v1/namespaces/finance/services"
	made := ask(t, h, "POST", services, `{"metadata":{"name":"pay","finalizers":["example.com/dns"]},"spec":{"ports":[{"port":80}]}}`)
	svc := decode[corev1.Service](t, made.body)

	deleted := ask(t, h, "DELETE", services+"/pay", "")
	going := decode[corev1.Service](t, deleted.body)
	if deleted.code != http.StatusOK || going.Kind != "Service" || going.DeletionTimestamp == nil || *going.DeletionGracePeriodSeconds != 0 || going.Generation != 2 {
		t.Fatalf("delete: %d %s", deleted.code, deleted.body)
	}
	again := decode[corev1.Service](t, ask(t, h, "DELETE", services+"/pay?propagationPolicy=Foreground", "").body)
	if again.ResourceVersion != going.ResourceVersion {
		t.Errorf("the second delete wrote %+v", again.ObjectMeta)
	}
	patch := func(body string) reply {
		return ask(t, h, "PATCH", services+"/pay", body, "Content-Type", mergeType)
	}
	if got := patch(`{"metadata":{"finalizers":["example.com/dns","example.com/new"]}}`); got.code != http.StatusUnprocessableEntity ||
		!strings.Contains(got.status.Message, `metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"example.com/new"}`) {
		t.Errorf("a new finalizer: %d %s", got.code, got.body)
	}
	if got := patch(`{"metadata":{"labels":{"a":"b"}}}`); got.code != http.StatusOK {
		t.Errorf("label: %d %s", got.code, got.body)
	}
	if got := ask(t, h, "GET", "/apis/networking.k8s.io/v1/ipaddresses/"+svc.Spec.ClusterIP, ""); got.code != http.StatusOK {
		t.Errorf("the address was given back before the end: %d", got.code)
	}
	if got := patch(`{"metadata":{"finalizers":null}}`); got.code != http.StatusOK || decode[corev1.Service](t, got.body).Name != "pay" {
		t.Errorf("the last finalizer: %d %s", got.code, got.body)
	}
	for _, path := range []string{services + "/pay", "/apis/networking.k8s.io/v1/ipaddresses/" + svc.Spec.ClusterIP} {
		if got := ask(t, h, "GET", path, ""); got.code != http.StatusNotFound {
			t.Errorf("%s is still there: %d", path, got.code)
		}
	}
}

// TestTerminatingNamespace checks that a Namespace outlives what is in it.
func TestTerminatingNamespace(t *testing.T) {
	s := newRegistryServer(t)
	h := s.Handler()
	const services, ns = "/api/v1/namespaces/shop/services", "/api/v1/namespaces/shop"
	ask(t, h, "POST", services, `{"metadata":{"name":"a"},"spec":{"ports":[{"port":80}]}}`)
	ask(t, h, "POST", services, `{"metadata":{"name":"b","finalizers":["example.com/x"]},"spec":{"ports":[{"port":80}]}}`)
	if got := ask(t, h, "DELETE", ns+"?dryRun=All", ""); got.code != 200 || decode[metav1.Status](t, got.body).Status != "Success" {
		t.Errorf("dry run: %d %s", got.code, got.body)
	}
	deleted := ask(t, h, "DELETE", ns, "")
	if got := decode[corev1.Namespace](t, deleted.body); deleted.code != 200 || got.Status.Phase != corev1.NamespaceTerminating || got.DeletionTimestamp == nil {
		t.Fatalf("delete: %d %s", deleted.code, deleted.body)
	}
	if got := ask(t, h, "GET", services+"/a", ""); got.code != 404 {
		t.Errorf("what nothing keeps is there: %d", got.code)
	}
	refused := ask(t, h, "POST", services, `{"metadata":{"name":"c"},"spec":{"ports":[{"port":80}]}}`)
	if refused.code != http.StatusForbidden || refused.status.Message != `services "c" is forbidden: unable to create new content in namespace shop because it is being terminated` ||
		refused.status.Details.Causes[0].Type != corev1.NamespaceTerminatingCause {
		t.Errorf("create: %d %s", refused.code, refused.body)
	}
	ask(t, h, "PATCH", services+"/b", `[{"op":"remove","path":"/metadata/finalizers"}]`, "Content-Type", jsonPatchType)
	if got := ask(t, h, "GET", ns, ""); got.code != 404 {
		t.Errorf("the empty namespace: %d %s", got.code, got.body)
	}
}

// TestNamespaceOutlivesLease checks that Repair ends a Namespace whose last
// object went with its lease.
func TestNamespaceOutlivesLease(t *testing.T) {
	s := newRegistryServer(t)
	h := s.Handler()
	lease := decode[Lease](t, ask(t, h, "POST", "/apis/usher.internal/v1/leases", `{"spec":{"ttlSeconds":60}}`).body)
	made := ask(t, h, "POST", "/api/v1/namespaces/shop/pods", `{"metadata":{"name":"p","annotations":{"usher.internal/lease":"`+lease.Name+`"}},"spec":{"containers":[{"name":"c","image":"i"}]}}`)
	if made.code != http.StatusCreated {
		t.Fatalf("%d %s", made.code, made.body)
	}
	if got := decode[corev1.Namespace](t, ask(t, h, "DELETE", "/api/v1/namespaces/shop", "").body); got.Status.Phase != corev1.NamespaceTerminating {
		t.Errorf("phase %s while a process ends", got.Status.Phase)
	}
	ask(t, h, "DELETE", "/apis/usher.internal/v1/leases/"+lease.Name, "")
	if err := s.opts.Writer.Repair(t.Context(), func(registry.Object, string, string) {}); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, h, "GET", "/api/v1/namespaces/shop", ""); got.code != 404 {
		t.Errorf("%d %s", got.code, got.body)
	}
}
