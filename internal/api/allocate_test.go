package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"usher/registry"
)

const (
	nodePorts    = "/apis/usher.internal/v1/nodeports"
	serviceCIDRs = "/apis/networking.k8s.io/v1/servicecidrs"
)

// withSpec is a manifest of a Service.
func withSpec(name, spec string) string {
	return fmt.Sprintf(`{"metadata":{"name":%q},"spec":{%s}}`, name, spec)
}

func nodePortsOf(svc corev1.Service) (ports []int32) {
	for _, p := range svc.Spec.Ports {
		ports = append(ports, p.NodePort)
	}
	return ports
}

// TestNodePorts goes through the life of node ports: given, shared by
// protocols, asked for, kept and released.
func TestNodePorts(t *testing.T) {
	h := newRegistryServer(t).Handler()
	const dns = `"type":"NodePort","ports":[{"name":"a","port":53},{"name":"b","port":53,"protocol":"UDP"},{"name":"c","port":80}]`
	svc := decode[corev1.Service](t, do(t, h, "POST", financeServices, withSpec("dns", dns), 201).body)
	ports := nodePortsOf(svc)
	if ports[0] != ports[1] || ports[0] == ports[2] || ports[0] < 30086 || ports[0] > 32767 {
		t.Errorf("node ports %v: want one for port 53 in both protocols, of the dynamic band", ports)
	}
	owner := decode[registry.NodePort](t, do(t, h, "GET", fmt.Sprint(nodePorts, "/", ports[0]), "", 200).body)
	if ref := owner.Spec.ParentRef; ref == nil || ref.Name != "dns" || ref.Resource != "services" {
		t.Errorf("%+v", owner)
	}
	again := decode[corev1.Service](t, do(t, h, "PUT", financeServices+"/dns", withSpec("dns", dns), 200).body)
	if diff := cmp.Diff(ports, nodePortsOf(again)); diff != "" {
		t.Errorf("after the same manifest (-want +got):\n%s", diff)
	}

	asked := func(port int32) string {
		return fmt.Sprintf(`"type":"NodePort","ports":[{"port":80,"nodePort":%d}]`, port)
	}
	for port, want := range map[int32]string{
		ports[0]: fmt.Sprintf(`Service "x" is invalid: spec.ports[0].nodePort: Invalid value: %d: provided port is already allocated`, ports[0]),
		80:       `Service "x" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767`,
	} {
		if got := do(t, h, "POST", financeServices, withSpec("x", asked(port)), 422).status.Message; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	do(t, h, "POST", financeServices, withSpec("x", asked(30000)), 201)
	do(t, h, "DELETE", nodePorts+"/30000", "", 403)
	do(t, h, "PUT", financeServices+"/x", withSpec("x", `"ports":[{"port":80}]`), 200)
	do(t, h, "GET", nodePorts+"/30000", "", 404)
	do(t, h, "DELETE", financeServices+"/dns", "", 200)
	do(t, h, "POST", financeServices, withSpec("y", asked(ports[0])), 201)
}

// TestHealthCheckNodePort checks that a load balancer that asks for local
// endpoints has a port to ask at.
func TestHealthCheckNodePort(t *testing.T) {
	h := newRegistryServer(t).Handler()
	const lb = `"type":"LoadBalancer","ports":[{"port":80}],"externalTrafficPolicy":"Local"`
	svc := decode[corev1.Service](t, do(t, h, "POST", financeServices, withSpec("a", lb), 201).body)
	health := svc.Spec.HealthCheckNodePort
	if health < 30086 || svc.Spec.Ports[0].NodePort == 0 || health == svc.Spec.Ports[0].NodePort {
		t.Errorf("health check at %d, node port %d", health, svc.Spec.Ports[0].NodePort)
	}
	taken := withSpec("b", fmt.Sprintf(`%s,"healthCheckNodePort":%d`, lb, health))
	want := fmt.Sprintf("failed to allocate requested HealthCheck NodePort %d: provided port is already allocated", health)
	if got := do(t, h, "POST", financeServices, taken, 500).status.Message; !strings.Contains(got, want) {
		t.Errorf("%s\nwant %s", got, want)
	}
	do(t, h, "PUT", financeServices+"/a", withSpec("a", `"type":"LoadBalancer","ports":[{"port":80}]`), 200)
	do(t, h, "GET", fmt.Sprint(nodePorts, "/", health), "", 404)
	bare := decode[corev1.Service](t, do(t, h, "POST", financeServices,
		withSpec("c", `"type":"LoadBalancer","allocateLoadBalancerNodePorts":false,"ports":[{"port":80}]`), 201).body)
	if bare.Spec.Ports[0].NodePort != 0 {
		t.Errorf("a node port that was not wanted: %d", bare.Spec.Ports[0].NodePort)
	}
}

// TestFullRanges checks what is answered when nothing is left.
func TestFullRanges(t *testing.T) {
	s := newRegistryServer(t, "10.96.0.0/30")
	s.opts.Writer.NodePorts, _ = registry.ParsePortRange("30000-30000")
	h := s.Handler()
	do(t, h, "POST", financeServices, withSpec("a", `"type":"NodePort","ports":[{"port":80}]`), 201)
	if got := do(t, h, "POST", financeServices, withSpec("b", `"type":"NodePort","ports":[{"port":80}]`), 500).status.Message; !strings.Contains(got, "failed to allocate a nodePort: range is full") {
		t.Error(got)
	}
	do(t, h, "POST", financeServices, withSpec("b", `"ports":[{"port":80}]`), 201)
	got := do(t, h, "POST", financeServices, withSpec("c", `"ports":[{"port":80}]`), 500).status.Message
	if want := `failed to allocate a serviceIP for Service "c": range is full`; !strings.Contains(got, want) {
		t.Errorf("%s\nwant %s", got, want)
	}

	// A range more is used at once, and stays while it is needed.
	const more = `{"metadata":{"name":"more"},"spec":{"cidrs":["10.99.0.0/30"]}}`
	cidr := decode[networkingv1.ServiceCIDR](t, do(t, h, "POST", serviceCIDRs, more, 201).body)
	if c := cidr.Status.Conditions; len(c) != 1 || c[0].Type != "Ready" || c[0].Status != "True" {
		t.Errorf("conditions %v", c)
	}
	svc := decode[corev1.Service](t, do(t, h, "POST", financeServices, withSpec("c", `"ports":[{"port":80}]`), 201).body)
	if !strings.HasPrefix(svc.Spec.ClusterIP, "10.99.0.") {
		t.Errorf("address %s", svc.Spec.ClusterIP)
	}
	got = do(t, h, "POST", financeServices, claimingService("d", "10.97.0.1", ""), 422).status.Message
	if want := "failed to allocate IP 10.97.0.1: the provided network does not match the current range"; !strings.Contains(got, want) {
		t.Errorf("%s\nwant %s", got, want)
	}
	do(t, h, "DELETE", serviceCIDRs+"/more", "", 200)
	cidr = decode[networkingv1.ServiceCIDR](t, do(t, h, "GET", serviceCIDRs+"/more", "", 200).body)
	if c := cidr.Status.Conditions[0]; c.Status != "False" || c.Reason != "Terminating" || cidr.DeletionTimestamp == nil {
		t.Errorf("%+v", cidr)
	}
	do(t, h, "POST", financeServices, withSpec("d", `"ports":[{"port":80}]`), 500)
	do(t, h, "DELETE", financeServices+"/c", "", 200)
	do(t, h, "DELETE", serviceCIDRs+"/more", "", 200)
	do(t, h, "GET", serviceCIDRs+"/more", "", 404)
}

// TestDualStack has every ipFamilyPolicy on a cluster of two families, and what
// comes and goes with a change of it.
func TestDualStack(t *testing.T) {
	h := newRegistryServer(t, "10.96.0.0/16", "fd00:10:96::/112").Handler()
	tests := []struct{ name, spec, want string }{
		{"none", "", "IPv4"},
		{"single", `"ipFamilyPolicy":"SingleStack",`, "IPv4"},
		{"six", `"ipFamilies":["IPv6"],`, "IPv6"},
		{"prefer", `"ipFamilyPolicy":"PreferDualStack",`, "IPv4 IPv6"},
		{"require", `"ipFamilyPolicy":"RequireDualStack",`, "IPv4 IPv6"},
		{"turned", `"ipFamilyPolicy":"RequireDualStack","ipFamilies":["IPv6"],`, "IPv6 IPv4"},
	}
	for _, tt := range tests {
		svc := decode[corev1.Service](t, do(t, h, "POST", financeServices, withSpec(tt.name, tt.spec+`"ports":[{"port":80}]`), 201).body)
		var got []string
		for i, ip := range svc.Spec.ClusterIPs {
			claim := decode[networkingv1.IPAddress](t, do(t, h, "GET", ipAddresses+"/"+ip, "", 200).body)
			if family := claim.Labels[networkingv1.LabelIPAddressFamily]; family != string(svc.Spec.IPFamilies[i]) {
				t.Errorf("%s: %s is labelled %s", tt.name, ip, family)
			}
			got = append(got, string(svc.Spec.IPFamilies[i]))
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: addresses of %v, want %s", tt.name, got, tt.want)
		}
	}
	one := decode[corev1.Service](t, do(t, h, "GET", financeServices+"/none", "", 200).body)
	two := decode[corev1.Service](t, do(t, h, "PUT", financeServices+"/none", withSpec("none", `"ipFamilyPolicy":"RequireDualStack","ports":[{"port":80}]`), 200).body)
	if len(two.Spec.ClusterIPs) != 2 || two.Spec.ClusterIP != one.Spec.ClusterIP {
		t.Fatalf("upgraded to %v", two.Spec.ClusterIPs)
	}
	do(t, h, "PUT", financeServices+"/none", withSpec("none", `"ipFamilyPolicy":"SingleStack","ports":[{"port":80}]`), 200)
	do(t, h, "GET", ipAddresses+"/"+two.Spec.ClusterIPs[1], "", 404)
	do(t, h, "PUT", financeServices+"/none", withSpec("none", `"type":"ExternalName","externalName":"a.b"`), 200)
	do(t, h, "GET", ipAddresses+"/"+one.Spec.ClusterIP, "", 404)
	back := decode[corev1.Service](t, do(t, h, "PUT", financeServices+"/none", withSpec("none", `"ports":[{"port":80}]`), 200).body)
	if back.Spec.ClusterIP == "" {
		t.Error("no address after ExternalName")
	}
}

// TestAllocationMetrics checks what is counted of what Services are given, and
// could not be given. A dry run gives nothing.
func TestAllocationMetrics(t *testing.T) {
	s := newRegistryServer(t, "10.96.0.0/28")
	h := s.Handler()
	do(t, h, "POST", financeServices+"?dryRun=All", withSpec("dry", `"ports":[{"port":80}]`), 201)
	do(t, h, "POST", financeServices, withSpec("a", `"clusterIP":"10.96.0.5","type":"NodePort","ports":[{"port":80,"nodePort":30000}]`), 201)
	do(t, h, "POST", financeServices, withSpec("b", `"type":"NodePort","ports":[{"port":80}]`), 201)
	do(t, h, "POST", financeServices, withSpec("c", `"clusterIP":"10.96.0.5","ports":[{"port":80}]`), 422)
	do(t, h, "POST", financeServices, withSpec("c", `"clusterIP":"10.97.0.5","ports":[{"port":80}]`), 422) // of no range
	do(t, h, "PUT", financeServices+"/a", withSpec("a", `"type":"NodePort","ports":[{"port":80},{"name":"x","port":81}]`), 422)
	do(t, h, "PUT", financeServices+"/b", withSpec("b", `"type":"NodePort","ports":[{"port":80,"nodePort":30000}]`), 422)
	for i := range 12 {
		do(t, h, "POST", financeServices, withSpec(fmt.Sprint("more-", i), `"ports":[{"port":80}]`), 201)
	}
	do(t, h, "POST", financeServices, withSpec("full", `"ports":[{"port":80}]`), 500)

	reg := prometheus.NewRegistry()
	reg.MustRegister(s.opts.Writer)
	for name, want := range map[string][]string{
		"kube_apiserver_clusterip_allocator_allocation_total":            {"cidr=10.96.0.0/28 scope=dynamic 13", "cidr=10.96.0.0/28 scope=static 1"},
		"kube_apiserver_clusterip_allocator_allocation_errors_total":     {"cidr=10.96.0.0/28 scope=dynamic 1", "cidr=10.96.0.0/28 scope=static 1"},
		"kube_apiserver_clusterip_allocator_allocation_duration_seconds": {"cidr=10.96.0.0/28 14"},
		"kube_apiserver_clusterip_allocator_allocated_ips":               {"cidr=10.96.0.0/28 14"},
		"kube_apiserver_clusterip_allocator_available_ips":               {"cidr=10.96.0.0/28 0"},
		"kube_apiserver_nodeport_allocator_allocation_total":             {"scope=dynamic 1", "scope=static 1"},
		"kube_apiserver_nodeport_allocator_allocation_errors_total":      {"scope=static 1"},
		"kube_apiserver_nodeport_allocator_allocated_ports":              {" 2"},
	} {
		if diff := cmp.Diff(want, gather(t, reg, name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
