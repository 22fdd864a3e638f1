package api

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

// balanced is a manifest of a load balancer; more are fields of its spec.
func balanced(name, more string) string {
	return withSpec(name, `"type":"LoadBalancer","ports":[{"port":80}]`+more)
}

func ingressOf(svc corev1.Service) string {
	var list []string
	for _, in := range svc.Status.LoadBalancer.Ingress {
		mode := corev1.LoadBalancerIPMode("?")
		if in.IPMode != nil {
			mode = *in.IPMode
		}
		list = append(list, fmt.Sprintf("%s%s %s", in.IP, in.Hostname, mode))
	}
	return strings.Join(list, ", ")
}

// TestLoadBalancers goes through the life of a load balancer's address: given,
// asked for, changed and released. The pool of the tests is 127.240.0.0/28.
func TestLoadBalancers(t *testing.T) {
	s := newRegistryServer(t)
	h := s.Handler()
	write := func(method, path, manifest string, code int) string {
		t.Helper()
		return ingressOf(decode[corev1.Service](t, do(t, h, method, path, manifest, code).body))
	}
	given := write("POST", financeServices, balanced("a", ""), 201)
	ip, mode, _ := strings.Cut(given, " ")
	if !strings.HasPrefix(ip, "127.240.0.") || mode != "VIP" {
		t.Fatalf("ingress %q, want an address of the pool", given)
	}
	if got := write("PUT", financeServices+"/a", balanced("a", `,"externalTrafficPolicy":"Local"`), 200); got != given {
		t.Errorf("after an update %q, want %q", got, given)
	}
	do(t, h, "DELETE", ipAddresses+"/"+ip, "", 403)
	if got := write("POST", financeServices, balanced("b", `,"loadBalancerIP":"`+ip+`"`), 201); got != "" {
		t.Errorf("an address that somebody has was given again: %q", got)
	}
	if got := write("PUT", financeServices+"/a", balanced("a", `,"loadBalancerIP":"127.240.0.14"`), 200); got != "127.240.0.14 VIP" {
		t.Errorf("asked for another one: %q", got)
	}
	do(t, h, "GET", ipAddresses+"/"+ip, "", 404)
	if err := s.opts.Writer.Balance(t.Context(), registry.Key{Kind: registry.Services, Namespace: "finance", Name: "b"}); err != nil {
		t.Errorf("the address is free: %v", err)
	}
	if got := write("GET", financeServices+"/b", "", 200); got != given {
		t.Errorf("b has %q, want %q", got, given)
	}
	if got := write("PUT", financeServices+"/a", withSpec("a", `"ports":[{"port":80}]`), 200); got != "" {
		t.Errorf("of another type it has %q", got)
	}
	do(t, h, "GET", ipAddresses+"/127.240.0.14", "", 404)
	do(t, h, "DELETE", financeServices+"/b", "", 200)
	do(t, h, "GET", ipAddresses+"/"+ip, "", 404)
}

// TestLoadBalancersOfOthers leaves alone what is not for usher to give.
func TestLoadBalancersOfOthers(t *testing.T) {
	h := newRegistryServer(t).Handler()
	for name, more := range map[string]string{
		"class": `,"loadBalancerClass":"example.com/other"`, "elsewhere": `,"loadBalancerIP":"192.0.2.1"`,
	} {
		if got := ingressOf(decode[corev1.Service](t, do(t, h, "POST", financeServices, balanced(name, more), 201).body)); got != "" {
			t.Errorf("%s: ingress %q", name, got)
		}
	}
	own := `,"loadBalancerClass":"` + LoadBalancerClass + `"`
	if got := ingressOf(decode[corev1.Service](t, do(t, h, "POST", financeServices, balanced("own", own), 201).body)); got == "" {
		t.Error("usher's own class gets no address")
	}
	dry := do(t, h, "POST", financeServices+"?dryRun=All", balanced("dry", ""), 201)
	if got := ingressOf(decode[corev1.Service](t, dry.body)); got != "" {
		t.Errorf("dry run: ingress %q", got)
	}
	status := strings.Replace(balanced("class", `,"loadBalancerClass":"example.com/other"`), `"spec"`,
		`"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.9"}]}},"spec"`, 1)
	do(t, h, "PUT", financeServices+"/class/status", status, 200)
	again := do(t, h, "PUT", financeServices+"/class", balanced("class", `,"loadBalancerClass":"example.com/other","externalTrafficPolicy":"Local"`), 200)
	if got := ingressOf(decode[corev1.Service](t, again.body)); got != "192.0.2.9 VIP" {
		t.Errorf("somebody else's address became %q", got)
	}
}

// TestLoadBalancersFull fills the pool: each address is
// given once, and who gets none works otherwise.
func TestLoadBalancersFull(t *testing.T) {
	s := newRegistryServer(t)
	h := s.Handler()
	seen := make(map[string]bool)
	for i := range 14 {
		got := ingressOf(decode[corev1.Service](t, do(t, h, "POST", financeServices, balanced(fmt.Sprint("s", i), ""), 201).body))
		if got == "" || seen[got] {
			t.Fatalf("the Service number %d got %q", i, got)
		}
		seen[got] = true
	}
	if got := ingressOf(decode[corev1.Service](t, do(t, h, "POST", financeServices, balanced("none", ""), 201).body)); got != "" {
		t.Errorf("out of a full pool: %q", got)
	}
	key := registry.Key{Kind: registry.Services, Namespace: "finance", Name: "none"}
	before := s.opts.Store.Snapshot().Revision()
	err := s.opts.Writer.Balance(t.Context(), key)
	if !errors.As(err, new(*NoAddressError)) || err.Error() != "no address of 127.240.0.0/28 is free" {
		t.Errorf("error %v", err)
	}
	if after := s.opts.Store.Snapshot().Revision(); after != before {
		t.Errorf("an attempt in vain wrote revision %d after %d", after, before)
	}
	do(t, h, "DELETE", financeServices+"/s3", "", 200)
	if err := s.opts.Writer.Balance(t.Context(), key); err != nil {
		t.Error(err)
	}
}
