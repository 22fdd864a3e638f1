package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

const (
	financeServices = "/api/v1/namespaces/finance/services"
	financePods     = "/api/v1/namespaces/finance/pods"
	ipAddresses     = "/apis/networking.k8s.io/v1/ipaddresses"
)

// claimingService is a manifest of a Service that asks for an address, under a lease
// unless that is "".
func claimingService(name, ip, lease string) string {
	return fmt.Sprintf(`{"metadata":{"name":%q%s},"spec":{"clusterIP":%q,"ports":[{"port":80}]}}`, name, underLease(lease), ip)
}

func underLease(lease string) string {
	if lease == "" {
		return ""
	}
	return fmt.Sprintf(`,"annotations":{"usher.internal/lease":%q}`, lease)
}

// do sends a request and checks the code of the answer.
func do(t *testing.T, h http.Handler, method, path, body string, want int) reply {
	t.Helper()
	got := ask(t, h, method, path, body, "Content-Type", mediaJSON)
	if got.code != want {
		t.Fatalf("%s %s: %d %s, want %d", method, path, got.code, got.body, want)
	}
	return got
}

func grant(t *testing.T, h http.Handler) string {
	t.Helper()
	return decode[Lease](t, do(t, h, "POST", "/apis/usher.internal/v1/leases", `{"spec":{"ttlSeconds":60}}`, 201).body).Name
}

// TestHeldClaim checks that the claim to an address in use cannot be taken away
// from under it.
func TestHeldClaim(t *testing.T) {
	h := newRegistryServer(t).Handler()
	do(t, h, "POST", financeServices, claimingService("a", "10.96.7.7", ""), 201)
	got := do(t, h, "DELETE", ipAddresses+"/10.96.7.7", "", 403)
	if want := `ipaddresses.networking.k8s.io "10.96.7.7" is forbidden: it is the address of the service "a" in namespace "finance", and goes with it`; got.status.Message != want {
		t.Errorf("%s\nwant %s", got.status.Message, want)
	}
	claim := decode[networkingv1.IPAddress](t, do(t, h, "GET", ipAddresses+"/10.96.7.7", "", 200).body)
	claim.Spec.ParentRef.Name = "b"
	got = do(t, h, "PUT", ipAddresses+"/10.96.7.7", encode(t, &claim), 422)
	if !strings.Contains(got.status.Message, "field is immutable") {
		t.Error(got.status.Message)
	}
	do(t, h, "POST", financeServices, claimingService("b", "10.96.7.7", ""), 422)
	do(t, h, "DELETE", financeServices+"/a", "", 200)
	do(t, h, "GET", ipAddresses+"/10.96.7.7", "", 404)
	do(t, h, "POST", financeServices, claimingService("b", "10.96.7.7", ""), 201)

	// What nobody holds may go, and is not released by somebody else's end.
	orphan := `{"metadata":{"name":"10.96.7.8"},"spec":{"parentRef":{"resource":"services","namespace":"finance","name":"gone"}}}`
	do(t, h, "POST", ipAddresses, orphan, 201)
	do(t, h, "DELETE", ipAddresses+"/10.96.7.8", "", 200)
}

// TestClaimFollowsLease checks that an object and the claim to its address end
// together, whatever becomes of the lease they are under.
func TestClaimFollowsLease(t *testing.T) {
	tests := []struct {
		name          string
		before, after bool // under a lease
		lives         bool // after the end of the lease of before, or of after
	}{
		{"the lease is given up", true, false, true},
		{"a lease is taken", false, true, false},
		{"another lease is taken", true, true, true},
	}
	h := newRegistryServer(t).Handler()
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name, ip := fmt.Sprint("s", i), fmt.Sprint("10.96.7.", 10+i)
			leases := map[bool]string{true: grant(t, h)}
			ends := leases[true]
			do(t, h, "POST", financeServices, claimingService(name, ip, leases[tt.before]), 201)
			if tt.before && tt.after {
				leases[true] = grant(t, h)
			}
			do(t, h, "PUT", financeServices+"/"+name, claimingService(name, ip, leases[tt.after]), 200)
			do(t, h, "DELETE", "/apis/usher.internal/v1/leases/"+ends, "", 200)
			want := map[bool]int{true: 200, false: 404}[tt.lives]
			do(t, h, "GET", financeServices+"/"+name, "", want)
			do(t, h, "GET", ipAddresses+"/"+ip, "", want)
		})
	}
}

// TestPodKeepsClaim checks that a Pod that is no longer under a lease keeps the
// address that it was given.
func TestPodKeepsClaim(t *testing.T) {
	h := newRegistryServer(t).Handler()
	manifest := func(lease string) string {
		return fmt.Sprintf(`{"metadata":{"name":"p"%s},"spec":{"containers":[{"name":"main","image":"local"}]}}`, underLease(lease))
	}
	lease := grant(t, h)
	pod := decode[corev1.Pod](t, do(t, h, "POST", financePods, manifest(lease), 201).body)
	do(t, h, "PUT", financePods+"/p", manifest(""), 200)
	do(t, h, "DELETE", "/apis/usher.internal/v1/leases/"+lease, "", 200)
	do(t, h, "GET", financePods+"/p", "", 200)
	do(t, h, "GET", ipAddresses+"/"+pod.Status.PodIP, "", 200)
	do(t, h, "DELETE", financePods+"/p", "", 200)
	do(t, h, "GET", ipAddresses+"/"+pod.Status.PodIP, "", 404)
}

// TestNamespaceIsDeletedOnPurpose checks that a refused deletion of a Namespace
// costs nothing of what is in it.
func TestNamespaceIsDeletedOnPurpose(t *testing.T) {
	h := newRegistryServer(t).Handler()
	do(t, h, "POST", financeServices, claimingService("a", "10.96.7.7", ""), 201)
	do(t, h, "DELETE", "/api/v1/namespaces/finance", `{"preconditions":{"uid":"wrong"}}`, 409)
	do(t, h, "DELETE", "/api/v1/namespaces", "", 405)
	do(t, h, "DELETE", "/api/v1/namespaces/nosuch", "", 404)
	do(t, h, "GET", financeServices+"/a", "", 200)
	do(t, h, "DELETE", "/api/v1/namespaces/finance", "", 200)
	do(t, h, "GET", financeServices+"/a", "", 404)
}

// TestRefusedWriteLeavesNothing checks that a refused write into a namespace
// that does not exist makes none.
func TestRefusedWriteLeavesNothing(t *testing.T) {
	h := newRegistryServer(t).Handler()
	do(t, h, "POST", financeServices, claimingService("a", "10.96.7.7", ""), 201)
	for name, body := range map[string]string{
		"out of range": claimingService("b", "10.97.0.1", ""),
		"taken":        claimingService("b", "10.96.7.7", ""),
		"lease":        claimingService("b", "10.96.7.8", "7fffffffffffffff"),
	} {
		do(t, h, "POST", "/api/v1/namespaces/new/services", body, 422)
		if got := ask(t, h, "GET", "/api/v1/namespaces/new", ""); got.code != 404 {
			t.Errorf("%s: the namespace is there: %d", name, got.code)
		}
	}
}

// TestOneDocument checks that a body with anything after its object is refused.
func TestOneDocument(t *testing.T) {
	h := newRegistryServer(t).Handler()
	const one = `{"metadata":{"name":"a"},"spec":{"ports":[{"port":80}]}}`
	for _, tt := range []struct{ media, body string }{
		{mediaJSON, one + one},
		{mediaJSON, one + " garbage"},
		{mediaJSON, `{"metadata":{"name":"a"},"spec":{"ports":[{"port":80,}],}}`},
		{mediaJSON, "metadata: {name: a}\nspec: {ports: [{port: 80}]}\n"},
		{mediaYAML, "metadata: {name: a}\nspec: {ports: [{port: 80}]}\n...\nmetadata: {name: b}\n"},
		{mediaYAML, "metadata: {name: a}\nspec: {ports: [{port: 80}]}\n...\n} : garbage\n"},
		{mediaYAML, one + "\n---\n" + one},
	} {
		if got := ask(t, h, "POST", financeServices, tt.body, "Content-Type", tt.media); got.code != 400 {
			t.Errorf("%s %q: %d %s", tt.media, tt.body, got.code, got.status.Message)
		}
	}
	licence := "# A licence.\n---\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n"
	if got := ask(t, h, "POST", financeServices, licence, "Content-Type", mediaYAML); got.code != 201 {
		t.Errorf("a comment before the document: %d %s", got.code, got.status.Message)
	}
	do(t, h, "DELETE", financeServices+"/a", `{}{"preconditions":{"uid":"x"}}`, 400)
	do(t, h, "GET", financeServices+"/a", "", 200)
}

// TestEventsEnd checks that an Event that a client writes does not stay for
// ever.
func TestEventsEnd(t *testing.T) {
	s := newRegistryServer(t)
	h := s.Handler()
	const events = "/api/v1/namespaces/finance/events"
	const event = `{"metadata":{"name":%q},"involvedObject":{"namespace":"finance"}}`
	do(t, h, "POST", events, fmt.Sprintf(event, "a"), 201)
	lease := s.opts.Writer.events.id
	if lease == 0 {
		t.Fatal("the Event is under no lease")
	}
	do(t, h, "DELETE", "/apis/usher.internal/v1/leases/"+lease.String(), "", 200)
	do(t, h, "GET", events+"/a", "", 404)
	// The lease is gone: the next Event finds that out, the one after it works.
	ask(t, h, "POST", events, fmt.Sprintf(event, "b"))
	do(t, h, "POST", events, fmt.Sprintf(event, "c"), 201)
}
