package registry

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// TestServiceFields has what Kubernetes says of fields that depend on each
// other, in its order.
func TestServiceFields(t *testing.T) {
	const (
		port     = "ports: [{port: 80}]"
		balancer = "type: LoadBalancer, " + port
	)
	annotated := func(annotations, spec string) string {
		return strings.Replace(service(spec), "namespace: b", "namespace: b, annotations: {"+annotations+"}", 1)
	}
	tests := []struct {
		name, document string
		families       []corev1.IPFamily
		want           []string
	}{
		{"no namespace", strings.Replace(service(port), "namespace: b", `namespace: ""`, 1), oneFamily, nil},
		{"64 letters of a name", strings.Replace(service(port), "name: a", "name: "+strings.Repeat("a", 64), 1), oneFamily, []string{
			`metadata.name: Invalid value: "` + strings.Repeat("a", 64) + `": must be no more than 63 characters`}},
		{"long port name", service("ports: [{name: " + strings.Repeat("a", 63) + ", port: 80}]"), oneFamily, nil},
		{"port name", service("ports: [{name: a_b, port: 80}]"), oneFamily, []string{
			`spec.ports[0].name: Invalid value: "a_b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`}},
		{"app protocol", service("ports: [{port: 80, appProtocol: kubernetes.io/h2c}]"), oneFamily, nil},
		{"bad app protocol", service("ports: [{port: 80, appProtocol: a/b/c}]"), oneFamily, []string{
			"spec.ports[0].appProtocol: Invalid value: \"a/b/c\": a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"}},
		{"node port twice", service("type: NodePort, ports: [{name: a, port: 80, nodePort: 30080}, {name: b, port: 81, nodePort: 30080}]"), oneFamily, []string{
			"spec.ports[1].nodePort: Duplicate value: 30080"}},
		{"node port of two protocols", service("type: NodePort, ports: [{name: a, port: 53, nodePort: 30080}, {name: b, port: 53, protocol: UDP, nodePort: 30080}]"), oneFamily, nil},
		{"three addresses", service("ipFamilyPolicy: RequireDualStack, clusterIP: 10.96.0.5, clusterIPs: [10.96.0.5, 'fd00::5', 10.96.0.6], " + port), twoFamilies, []string{
			`spec.clusterIPs: Invalid value: ["10.96.0.5","fd00::5","10.96.0.6"]: may only hold up to 2 values`}},
		{"two addresses of a family", service("ipFamilyPolicy: PreferDualStack, clusterIP: 10.96.0.5, clusterIPs: [10.96.0.5, 10.96.0.6], " + port), twoFamilies, []string{
			`spec.clusterIPs: Invalid value: ["10.96.0.5","10.96.0.6"]: may specify no more than one IP for each IP family`}},
		{"None and an address", service("clusterIP: None, clusterIPs: [None, 10.96.0.6]"), twoFamilies, []string{
			`spec.clusterIPs: Invalid value: ["None","10.96.0.6"]: 'None' must be the first and only value`}},
		{"only clusterIPs", service("clusterIPs: [10.96.0.6], " + port), oneFamily, []string{
			"spec.clusterIPs: Invalid value: [\"10.96.0.6\"]: must be empty when `clusterIP` is not specified"}},
		{"sloppy address", service("clusterIP: 010.96.0.5, " + port), oneFamily, []string{
			`spec.clusterIPs[0]: Invalid value: "010.96.0.5": must not have leading 0s`}},
		{"mapped address", service("clusterIP: '::ffff:1.2.3.4', " + port), oneFamily, []string{
			`spec.clusterIPs[0]: Invalid value: "::ffff:1.2.3.4": must not be an IPv4-mapped IPv6 address`}},
		{"address that is not canonical", service("clusterIP: 'FD00::5', " + port), twoFamilies, nil},
		{"address of a family that there is not", service("clusterIP: 'fd00::5', " + port), oneFamily, []string{
			`spec.clusterIPs[0]: Invalid value: ["fd00::5"]: IPv6 is not configured on this cluster`}},
		{"address of another family than asked for", service("clusterIP: 10.96.0.5, ipFamilies: [IPv6], " + port), twoFamilies, []string{
			"spec.clusterIPs[0]: Invalid value: \"10.96.0.5\": expected an IPv6 value as indicated by `ipFamilies[0]`"}},
		{"family twice", service("ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv4, IPv4], " + port), twoFamilies, []string{
			`spec.ipFamilies[1]: Duplicate value: "IPv4"`}},
		{"unknown family", service("ipFamilies: [IPv5], " + port), twoFamilies, []string{
			`spec.ipFamilies[0]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6"`}},
		{"two families of a single stack", service("ipFamilyPolicy: SingleStack, ipFamilies: [IPv4, IPv6], " + port), twoFamilies, []string{
			`spec.ipFamilyPolicy: Invalid value: "SingleStack": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified`}},
		{"external name of a family", service("type: ExternalName, externalName: a.b, ipFamilies: [IPv4], ipFamilyPolicy: SingleStack"), oneFamily, []string{
			"spec.ipFamilies: Forbidden: may not be set for ExternalName services",
			"spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services"}},
		{"external name that is none", service("type: ExternalName, externalName: a_b"), oneFamily, []string{
			`spec.externalName: Invalid value: "a_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`}},
		{"internal policy", service("internalTrafficPolicy: Near, " + port), oneFamily, []string{
			`spec.internalTrafficPolicy: Unsupported value: "Near": supported values: "Cluster", "Local"`}},
		{"external policy by external IP", service("externalIPs: [192.0.2.1], externalTrafficPolicy: Local, " + port), oneFamily, nil},
		{"health check", service("healthCheckNodePort: 30000, " + balancer), oneFamily, []string{
			"spec.healthCheckNodePort: Invalid value: 30000: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"}},
		{"health check port", service("externalTrafficPolicy: Local, healthCheckNodePort: 70000, " + balancer), oneFamily, []string{
			"spec.healthCheckNodePort: Invalid value: 70000: must be between 1 and 65535, inclusive"}},
		{"external IPs", service("externalIPs: [0.0.0.0, 169.254.0.1, 224.0.0.1, 010.0.0.1], " + port), oneFamily, []string{
			`spec.externalIPs[0]: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)`,
			`spec.externalIPs[1]: Invalid value: "169.254.0.1": may not be in the link-local range (169.254.0.0/16, fe80::/10)`,
			`spec.externalIPs[2]: Invalid value: "224.0.0.1": may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)`,
			`spec.externalIPs[3]: Invalid value: "010.0.0.1": must not have leading 0s`}},
		{"fields of load balancers", service("loadBalancerClass: a/b, allocateLoadBalancerNodePorts: false, " + port), oneFamily, []string{
			"spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
			"spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"}},
		{"source ranges", service("loadBalancerSourceRanges: [' 10.0.0.0/8 ', 10.0.0.1/8, x], " + balancer), oneFamily, []string{
			`spec.LoadBalancerSourceRanges[1]: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length`,
			`spec.LoadBalancerSourceRanges[2]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)`}},
		{"source ranges by annotation", annotated("service.beta.kubernetes.io/load-balancer-source-ranges: x", port), oneFamily, []string{
			"metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Forbidden: may only be used when `type` is 'LoadBalancer'",
			`metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)`}},
		{"topology annotations", annotated("service.kubernetes.io/topology-mode: Auto, service.kubernetes.io/topology-aware-hints: Disabled", port), oneFamily, []string{
			`metadata.annotations[service.kubernetes.io/topology-mode]: Invalid value: "Auto": must match annotations[service.kubernetes.io/topology-aware-hints] when both are specified`}},
		{"ingress of no load balancer", service(port) + "\nstatus: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}", oneFamily, []string{
			"status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"}},
		{"ingress", service(balancer) + "\nstatus: {loadBalancer: {ingress: [{ip: x}, {hostname: 192.0.2.1}, {hostname: a.b, ipMode: VIP}]}}", oneFamily, []string{
			`status.loadBalancer.ingress[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`,
			`status.loadBalancer.ingress[1].hostname: Invalid value: "192.0.2.1": must be a DNS name, not an IP address`,
			"status.loadBalancer.ingress[2].ipMode: Forbidden: may not be specified when `ip` is not set"}},
		{"order", service("type: x, sessionAffinity: x, externalIPs: [x], ports: [{port: 0, targetPort: 1}, {port: 0, targetPort: 1}]"), oneFamily, []string{
			"spec.ports[0].name: Required value",
			"spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
			"spec.ports[1].name: Required value",
			"spec.ports[1].port: Invalid value: 0: must be between 1 and 65535, inclusive",
			`spec.sessionAffinity: Unsupported value: "x": supported values: "ClientIP", "None"`,
			`spec.externalIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`,
			`spec.type: Unsupported value: "x": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"`,
			`spec.ports[1]: Duplicate value: {"protocol":"TCP","port":0,"targetPort":0}`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, got := check(t, tt.document, "", tt.families)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

// TestServiceWithoutNamespace is apart from the table: there the namespace is
// filled in, as the API does from the path of the request.
func TestServiceWithoutNamespace(t *testing.T) {
	obj := objects(t, 1, service("ports: [{port: 80}]"))[0]
	obj.SetNamespace("")
	if errs := Validate(obj); len(errs) == 0 || errs[0].Error() != "metadata.namespace: Required value" {
		t.Errorf("%v", errs)
	}
}

// TestServiceDefaults checks what a Service gets that leaves things open.
func TestServiceDefaults(t *testing.T) {
	tests := []struct {
		name, spec string
		want       func(*corev1.ServiceSpec) bool
	}{
		{"type and protocol", "ports: [{port: 80}]", func(s *corev1.ServiceSpec) bool {
			return s.Type == "ClusterIP" && s.Ports[0].Protocol == "TCP" && s.SessionAffinity == "None"
		}},
		{"target port", "ports: [{port: 80}, {port: 81, targetPort: 0}, {port: 82, targetPort: ''}]", func(s *corev1.ServiceSpec) bool {
			return s.Ports[0].TargetPort.IntVal == 80 && s.Ports[1].TargetPort.IntVal == 81 && s.Ports[2].TargetPort.IntVal == 82
		}},
		{"affinity", "sessionAffinity: ClientIP", func(s *corev1.ServiceSpec) bool {
			return *s.SessionAffinityConfig.ClientIP.TimeoutSeconds == 10800
		}},
		{"affinity of none", "sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}", func(s *corev1.ServiceSpec) bool {
			return s.SessionAffinityConfig == nil
		}},
		{"policies", "{}", func(s *corev1.ServiceSpec) bool {
			return *s.InternalTrafficPolicy == "Cluster" && s.ExternalTrafficPolicy == ""
		}},
		{"policies of node ports", "type: NodePort", func(s *corev1.ServiceSpec) bool {
			return *s.InternalTrafficPolicy == "Cluster" && s.ExternalTrafficPolicy == "Cluster"
		}},
		{"policies of an external name", "type: ExternalName", func(s *corev1.ServiceSpec) bool {
			return s.InternalTrafficPolicy == nil && s.ExternalTrafficPolicy == ""
		}},
		{"load balancer", "type: LoadBalancer", func(s *corev1.ServiceSpec) bool {
			return *s.AllocateLoadBalancerNodePorts && s.ExternalTrafficPolicy == "Cluster"
		}},
	}
	for _, tt := range tests {
		document := strings.Replace(service(tt.spec), "{{}}", "{}", 1)
		if spec := objects(t, 1, document)[0].(*corev1.Service).Spec; !tt.want(&spec) {
			t.Errorf("%s: %+v", tt.name, spec)
		}
	}
}

// TestServiceUpdates has what a change of a Service carries over, drops and
// refuses.
func TestServiceUpdates(t *testing.T) {
	const (
		port  = "ports: [{port: 80}]"
		node  = "type: NodePort, clusterIP: 10.96.0.5, ports: [{name: a, port: 80, nodePort: 30100}, {name: b, port: 81, nodePort: 30101}]"
		lb    = "type: LoadBalancer, clusterIP: 10.96.0.5, externalTrafficPolicy: Local, healthCheckNodePort: 30200, ports: [{port: 80, nodePort: 30100}]"
		dual  = "ipFamilyPolicy: RequireDualStack, clusterIP: 10.96.0.5, clusterIPs: [10.96.0.5, 'fd00::5'], ipFamilies: [IPv4, IPv6], " + port
		plain = "clusterIP: 10.96.0.5, " + port
	)
	tests := []struct {
		name, old, now string
		errs           []string
		want           func(*corev1.ServiceSpec) bool
	}{
		{"node ports are carried over by name", node, "type: NodePort, ports: [{name: b, port: 82}, {name: a, port: 80}]", nil,
			func(s *corev1.ServiceSpec) bool { return s.Ports[0].NodePort == 30101 && s.Ports[1].NodePort == 30100 }},
		{"a node port that another port has now is not", node, "type: NodePort, ports: [{name: b, port: 82, nodePort: 30100}, {name: a, port: 80}]", nil,
			func(s *corev1.ServiceSpec) bool { return s.Ports[0].NodePort == 30100 && s.Ports[1].NodePort == 0 }},
		{"node ports are dropped with the type", node, "clusterIP: 10.96.0.5, ports: [{name: a, port: 80, nodePort: 30100}]", nil,
			func(s *corev1.ServiceSpec) bool { return s.Ports[0].NodePort == 0 && s.ExternalTrafficPolicy == "" }},
		{"new node ports are not", node, "clusterIP: 10.96.0.5, ports: [{name: a, port: 80, nodePort: 30100}, {name: b, port: 81, nodePort: 30109}]",
			[]string{"spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
				"spec.ports[1].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"}, nil},
		{"the health check port is carried over", lb, "type: LoadBalancer, externalTrafficPolicy: Local, " + port, nil,
			func(s *corev1.ServiceSpec) bool {
				return s.HealthCheckNodePort == 30200 && s.Ports[0].NodePort == 30100
			}},
		{"and is immutable", lb, "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30201, " + port,
			[]string{"spec.healthCheckNodePort: Forbidden: field is immutable"}, nil},
		{"and goes with the policy", lb, "type: LoadBalancer, externalTrafficPolicy: Cluster, healthCheckNodePort: 30200, " + port, nil,
			func(s *corev1.ServiceSpec) bool { return s.HealthCheckNodePort == 0 }},
		{"and with the type", lb, "type: NodePort, externalTrafficPolicy: Local, healthCheckNodePort: 30200, allocateLoadBalancerNodePorts: true, " + port, nil,
			func(s *corev1.ServiceSpec) bool {
				return s.HealthCheckNodePort == 0 && s.AllocateLoadBalancerNodePorts == nil
			}},
		{"the class is immutable", "type: LoadBalancer, loadBalancerClass: a/b, " + port, "type: LoadBalancer, loadBalancerClass: a/c, " + port,
			[]string{`spec.loadBalancerClass: Invalid value: "a/c": may not change once set`}, nil},
		{"the class goes with the type", "type: LoadBalancer, loadBalancerClass: a/b, " + port, "loadBalancerClass: a/b, " + port, nil,
			func(s *corev1.ServiceSpec) bool { return s.LoadBalancerClass == nil }},
		{"a changed one does not", "type: LoadBalancer, loadBalancerClass: a/b, " + port, "loadBalancerClass: a/c, " + port,
			[]string{"spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'"}, nil},
		{"from headless", "clusterIP: None, selector: {a: b}, " + port, plain,
			[]string{`spec.clusterIPs[0]: Invalid value: ["10.96.0.5"]: may not change once set`}, nil},
		{"the primary family", plain, "clusterIP: 10.96.0.5, ipFamilies: [IPv6], " + port, []string{
			"spec.clusterIPs[0]: Invalid value: \"10.96.0.5\": expected an IPv6 value as indicated by `ipFamilies[0]`"}, nil},
		{"a second address is added", plain, dual, nil, func(s *corev1.ServiceSpec) bool { return len(s.ClusterIPs) == 2 && len(s.IPFamilies) == 2 }},
		{"the second family is dropped without a word", dual, "clusterIP: 10.96.0.5, clusterIPs: [10.96.0.5], ipFamilies: [IPv4], " + port, []string{
			`spec.ipFamilyPolicy: Invalid value: "RequireDualStack": must be 'SingleStack' to release the secondary cluster IP`,
			`spec.ipFamilyPolicy: Invalid value: "RequireDualStack": must be 'SingleStack' to release the secondary IP family`}, nil},
		{"and with one", dual, "ipFamilyPolicy: SingleStack, clusterIP: 10.96.0.5, clusterIPs: [10.96.0.5], ipFamilies: [IPv4], " + port, nil,
			func(s *corev1.ServiceSpec) bool { return len(s.ClusterIPs) == 1 && len(s.IPFamilies) == 1 }},
		{"preferring two is no upgrade of its own", "ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv4], " + plain, "ipFamilyPolicy: PreferDualStack, " + port, nil,
			func(s *corev1.ServiceSpec) bool { return len(s.ClusterIPs) == 1 && len(s.IPFamilies) == 1 }},
		{"requiring two is", "ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv4], " + plain, "ipFamilyPolicy: RequireDualStack, " + port, nil,
			func(s *corev1.ServiceSpec) bool { return len(s.IPFamilies) == 2 }},
		{"to ExternalName with another address", plain, "type: ExternalName, externalName: a.b, clusterIP: 10.96.0.6",
			[]string{"spec.clusterIPs: Forbidden: may not be set for ExternalName services"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			families := twoFamilies
			old, errs := check(t, service(tt.old), "", oneFamilyUnless(tt.old))
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			obj, errs := checkUpdate(t, service(tt.now), old, families)
			if diff := cmp.Diff(tt.errs, errs); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			if spec := obj.(*corev1.Service).Spec; tt.want != nil && !tt.want(&spec) {
				t.Errorf("%+v", spec)
			}
		})
	}
}

// oneFamilyUnless returns the families of the cluster that a Service was made
// in: one, unless it asks for two.
func oneFamilyUnless(spec string) []corev1.IPFamily {
	if strings.Contains(spec, "RequireDualStack") {
		return twoFamilies
	}
	return oneFamily
}
