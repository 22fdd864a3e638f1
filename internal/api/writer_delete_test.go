package api

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	pass(t, s.opts.Writer)
	if got := ask(t, h, "GET", "/api/v1/namespaces/shop", ""); got.code != 404 {
		t.Errorf("%d %s", got.code, got.body)
	}
}

// pass lets Repair go over everything once.
func pass(t *testing.T, w *Writer) {
	t.Helper()
	if err := w.Repair(t.Context(), func(registry.Object, string, string) {}); err != nil {
		t.Fatal(err)
	}
}

// TestNothingNewInNamespace checks that a Namespace is marked before anything in
// it goes.
func TestNothingNewInNamespace(t *testing.T) {
	s := newRegistryServer(t)
	h, w := s.Handler(), s.opts.Writer
	do(t, h, "POST", "/api/v1/namespaces/shop/services", `{"metadata":{"name":"a"},"spec":{"ports":[{"port":80}]}}`, 201)
	plain := *w
	first := true
	w.Applied = func(ctx context.Context, revision int64) error {
		err := plain.Applied(ctx, revision)
		if first {
			first = false
			if _, err := plain.Create(ctx, newService("shop", "late")); !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
				t.Errorf("a new Service: %v", err)
			}
		}
		return err
	}
	do(t, h, "DELETE", "/api/v1/namespaces/shop", "", 200)
	do(t, h, "GET", "/api/v1/namespaces/shop", "", 404)
}

// newService returns a Service to be created.
func newService(namespace, name string) *corev1.Service {
	svc := service(namespace, name, "")
	svc.Spec.ClusterIPs = nil
	return svc
}

// TestLateInNamespace checks that a Namespace goes though another node, whose
// Store was behind, has made something in it when it was marked.
func TestLateInNamespace(t *testing.T) {
	s := newRegistryServer(t)
	h, w := s.Handler(), s.opts.Writer
	const services, ns = "/api/v1/namespaces/shop/services", "/api/v1/namespaces/shop"
	behind := registry.NewStore()
	behind.Replace(1, []registry.Object{namespace("shop")})
	options := w.WriterOptions
	options.Store = behind
	other := NewWriter(options) // waits for the Store of this node
	late := func() {
		if _, err := other.Create(t.Context(), newService("shop", "late")); err != nil {
			t.Fatal(err)
		}
	}
	do(t, h, "POST", services, `{"metadata":{"name":"kept","finalizers":["example.com/x"]},"spec":{"ports":[{"port":80}]}}`, 201)
	do(t, h, "DELETE", ns, "", 200)
	late()

	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // what goes round in circles ends
	defer cancel()
	for _, key := range []registry.Key{serviceKey("shop", "late"), {Kind: registry.Namespaces, Name: "shop"}} {
		if _, gone, err := w.DryRun().Delete(ctx, key, metav1.DeleteOptions{}); !gone || err != nil {
			t.Errorf("dry run for %s: %t, %v", key, gone, err)
		}
	}
	do(t, h, "GET", services+"/late", "", 200)
	pass(t, w)
	do(t, h, "GET", services+"/late", "", 404)
	do(t, h, "GET", ns, "", 200)

	late()
	if got := ask(t, h, "PATCH", services+"/kept", `[{"op":"remove","path":"/metadata/finalizers"}]`, "Content-Type", jsonPatchType); got.code != 200 {
		t.Fatalf("%d %s", got.code, got.body)
	}
	do(t, h, "GET", ns, "", 200) // of the late one
	if got := do(t, h, "DELETE", ns, "", 200); decode[metav1.Status](t, got.body).Status != "Success" {
		t.Errorf("delete again: %s", got.body)
	}
	do(t, h, "GET", ns, "", 404)
}

// TestNamespaceWithFinalizer checks that a Namespace waits for both its own
// finalizers and what is in it.
func TestNamespaceWithFinalizer(t *testing.T) {
	s := newRegistryServer(t)
	h := s.Handler()
	const ns = "/api/v1/namespaces/shop"
	do(t, h, "POST", "/api/v1/namespaces", `{"metadata":{"name":"shop","finalizers":["example.com/x"]}}`, 201)
	do(t, h, "POST", ns+"/services", `{"metadata":{"name":"kept","finalizers":["example.com/x"]},"spec":{"ports":[{"port":80}]}}`, 201)
	do(t, h, "DELETE", ns, "", 200)
	for _, path := range []string{ns, ns + "/services/kept"} {
		do(t, h, "GET", ns, "", 200)
		if got := ask(t, h, "PATCH", path, `{"metadata":{"finalizers":null}}`, "Content-Type", mergeType); got.code != 200 {
			t.Errorf("%s: %d %s", path, got.code, got.body)
		}
	}
	do(t, h, "GET", ns, "", 404)
}

func TestGracePeriod(t *testing.T) {
	for _, tt := range []struct {
		name       string
		leased     bool
		asked, own *int64
		want       int64
	}{
		{"no process", false, new(int64(5)), nil, 0},
		{"default", true, nil, nil, 30},
		{"its own", true, nil, new(int64(7)), 7},
		{"asked for", true, new(int64(5)), new(int64(7)), 5},
		{"at once", true, new(int64(0)), new(int64(7)), 0},
		{"negative", true, new(int64(-1)), new(int64(7)), 1},
		{"its own is negative", true, nil, new(int64(-7)), 1},
	} {
		p := pod("shop", "p", "a", "10.1.0.5", true)
		p.Spec.TerminationGracePeriodSeconds = tt.own
		if tt.leased {
			p.Annotations = map[string]string{registry.AnnotationLease: "7"}
		}
		if got := gracePeriod(p, metav1.DeleteOptions{GracePeriodSeconds: tt.asked}); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
