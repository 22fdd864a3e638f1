package registry

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

var oneFamily = []corev1.IPFamily{corev1.IPv4Protocol}
var twoFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}

// check puts a document through what the API does before it writes.
func check(t *testing.T, document, old string, families []corev1.IPFamily) (Object, []string) {
	t.Helper()
	var before Object
	if old != "" {
		before, _ = check(t, old, "", families)
	}
	return checkUpdate(t, document, before, families)
}

// checkUpdate is check for a document in the place of an object, or of none.
func checkUpdate(t *testing.T, document string, before Object, families []corev1.IPFamily) (Object, []string) {
	t.Helper()
	obj := objects(t, 1, document)[0]
	var messages []string
	if svc, ok := obj.(*corev1.Service); ok {
		was, _ := before.(*corev1.Service)
		for _, err := range PrepareService(svc, was, families) {
			messages = append(messages, err.Error())
		}
	}
	if len(messages) == 0 {
		errs := Validate(obj)
		if before != nil {
			errs = append(errs, ValidateUpdate(obj, before)...)
		}
		for _, err := range errs {
			messages = append(messages, err.Error())
		}
	}
	return obj, messages
}

func service(spec string) string {
	return "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b, resourceVersion: \"1\"}\nspec: {" + spec + "}"
}

func TestValidateService(t *testing.T) {
	const port = "ports: [{port: 80}]"
	tests := []struct {
		name, document string
		want           []string
	}{
		{"good", service(port), nil},
		{"name begins with a digit", strings.Replace(service(port), "name: a", "name: 3scale", 1), nil},
		{"bad name", strings.Replace(service(port), "name: a", "name: A_b", 1), []string{
			`metadata.name: Invalid value: "A_b": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`}},
		{"no ports", service(""), []string{"spec.ports: Required value"}},
		{"headless without ports", service("clusterIP: None"), nil},
		{"ports need names", service("ports: [{port: 80}, {port: 81}]"),
			[]string{"spec.ports[0].name: Required value", "spec.ports[1].name: Required value"}},
		{"duplicates", service("ports: [{name: a, port: 80}, {name: a, port: 80}]"), []string{
			`spec.ports[1].name: Duplicate value: "a"`,
			`spec.ports[1]: Duplicate value: {"protocol":"TCP","port":80,"targetPort":0}`}},
		{"same number, other protocol", service("ports: [{name: a, port: 53}, {name: b, port: 53, protocol: UDP}]"), nil},
		{"port out of range", service("ports: [{port: 99999, targetPort: 1}]"),
			[]string{"spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535, inclusive"}},
		{"protocol", service("ports: [{port: 80, protocol: tcp}]"),
			[]string{`spec.ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"`}},
		{"target port name", service("ports: [{port: 80, targetPort: Bad_Name}]"), []string{
			"spec.ports[0].targetPort: Invalid value: \"Bad_Name\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"}},
		{"node port", service("ports: [{port: 80, nodePort: 30100}]"),
			[]string{"spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"}},
		{"type", service("type: Cluster, " + port), []string{
			`spec.type: Unsupported value: "Cluster": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"`}},
		{"affinity", service("sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}, " + port), []string{
			"spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 86401: must be greater than 0 and less than 86400"}},
		{"a day of affinity", service("sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 86400}}, " + port), nil},
		{"affinity config without affinity", service("sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}, " + port), nil},
		{"selector", service("selector: {\"a b\": c}, " + port), []string{
			"spec.selector: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"}},
		{"cluster IP", service("clusterIP: banana, " + port), []string{
			`spec.clusterIPs[0]: Invalid value: "banana": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`}},
		{"cluster IPs disagree", service("clusterIP: 10.96.0.5, clusterIPs: [10.96.0.6], " + port), []string{
			"spec.clusterIPs: Invalid value: [\"10.96.0.6\"]: first value must match `clusterIP`"}},
		{"dual stack on one family", service("ipFamilyPolicy: RequireDualStack, " + port), []string{
			`spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services`}},
		{"family not configured", service("ipFamilies: [IPv6], " + port), []string{
			`spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster`}},
		{"external name", service("type: ExternalName, externalName: example.org."), nil},
		{"external name missing", service("type: ExternalName"), []string{"spec.externalName: Required value"}},
		{"external name with address", service("type: ExternalName, externalName: a.b, clusterIP: 10.96.0.5"),
			[]string{"spec.clusterIPs: Forbidden: may not be set for ExternalName services"}},
		{"headless node port", service("type: NodePort, clusterIP: None, " + port),
			[]string{"spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"}},
		{"external policy", service("externalTrafficPolicy: Local, " + port), []string{
			`spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services`}},
		{"load balancer fields", service("loadBalancerSourceRanges: [10.0.0.0/8], " + port), []string{
			"spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'"}},
		{"traffic distribution", service("trafficDistribution: Near, " + port), []string{
			`spec.trafficDistribution: Unsupported value: "Near": supported values: "PreferClose", "PreferSameZone", "PreferSameNode"`}},
		{"external IP", service("externalIPs: [127.0.0.1], " + port), []string{
			`spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)`}},
		{"everything at once", service("sessionAffinity: x, ports: [{port: 0, targetPort: 1, protocol: x}]"), []string{
			"spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
			`spec.ports[0].protocol: Unsupported value: "x": supported values: "SCTP", "TCP", "UDP"`,
			`spec.sessionAffinity: Unsupported value: "x": supported values: "ClientIP", "None"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, got := check(t, tt.document, "", oneFamily)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUpdateService(t *testing.T) {
	const (
		port = "ports: [{port: 80}]"
		has  = "clusterIP: 10.96.0.5, clusterIPs: [10.96.0.5], " + port
	)
	tests := []struct {
		name, old, now string
		families       []corev1.IPFamily
		want           []string
		clusterIPs     []string
	}{
		{"the same manifest again", has, port, oneFamily, nil, []string{"10.96.0.5"}},
		{"another address", has, "clusterIP: 10.96.0.6, " + port, oneFamily,
			[]string{`spec.clusterIPs[0]: Invalid value: ["10.96.0.6"]: may not change once set`}, []string{"10.96.0.6"}},
		{"to headless", has, "clusterIP: None, " + port, oneFamily,
			[]string{`spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set`}, []string{"None"}},
		{"to ExternalName", has, "type: ExternalName, externalName: a.b", oneFamily, nil, nil},
		{"to ExternalName, all fields sent", has, "type: ExternalName, externalName: a.b, " + has, oneFamily, nil, nil},
		{"from ExternalName", "type: ExternalName, externalName: a.b", port, oneFamily, nil, nil},
		{"second family released", "ipFamilyPolicy: RequireDualStack, clusterIP: 10.96.0.5, clusterIPs: [10.96.0.5, 'fd00::5'], " + port,
			"ipFamilyPolicy: SingleStack, " + port, twoFamilies, nil, []string{"10.96.0.5"}},
		{"second family stays", "ipFamilyPolicy: RequireDualStack, clusterIP: 10.96.0.5, clusterIPs: [10.96.0.5, 'fd00::5'], " + port,
			port, twoFamilies, nil, []string{"10.96.0.5", "fd00::5"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			obj, got := check(t, service(tt.now), service(tt.old), tt.families)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.clusterIPs, obj.(*corev1.Service).Spec.ClusterIPs); diff != "" {
				t.Errorf("clusterIPs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestServiceFamilies(t *testing.T) {
	const port = "ports: [{port: 80}]"
	tests := []struct {
		name, spec string
		families   []corev1.IPFamily
		policy     corev1.IPFamilyPolicy
		want       []corev1.IPFamily
	}{
		{"default", port, oneFamily, "SingleStack", oneFamily},
		{"default on two families", port, twoFamilies, "SingleStack", oneFamily},
		{"prefer on one family", "ipFamilyPolicy: PreferDualStack, " + port, oneFamily, "PreferDualStack", oneFamily},
		{"prefer on two families", "ipFamilyPolicy: PreferDualStack, " + port, twoFamilies, "PreferDualStack", twoFamilies},
		{"headless without selector", "clusterIP: None", oneFamily, "RequireDualStack", twoFamilies},
		{"headless with selector", "clusterIP: None, selector: {a: b}", oneFamily, "SingleStack", oneFamily},
		{"inferred from the address", "clusterIP: 'fd00::5', " + port, twoFamilies, "SingleStack", twoFamilies[1:]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			obj, errs := check(t, service(tt.spec), "", tt.families)
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			spec := obj.(*corev1.Service).Spec
			if *spec.IPFamilyPolicy != tt.policy || !cmp.Equal(spec.IPFamilies, tt.want) {
				t.Errorf("%s %v, want %s %v", *spec.IPFamilyPolicy, spec.IPFamilies, tt.policy, tt.want)
			}
		})
	}
}

func TestValidateOthers(t *testing.T) {
	const meta = "metadata: {name: a, namespace: b}\n"
	slice := "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n" + meta
	endpoints := "apiVersion: v1\nkind: Endpoints\n" + meta
	aPod := "apiVersion: v1\nkind: Pod\n" + meta
	tests := []struct {
		name, document string
		want           []string
	}{
		{"slice on loopback", slice + "addressType: IPv4\nendpoints: [{addresses: [127.0.0.1]}]\nports: [{port: 1}]", nil},
		{"slice without type", slice, []string{"addressType: Required value"}},
		{"slice of the other family", slice + "addressType: IPv6\nendpoints: [{addresses: [127.0.0.1]}]",
			[]string{`endpoints[0].addresses: Invalid value: "127.0.0.1": must be an IPv6 address`}},
		{"slice endpoint without address", slice + "addressType: IPv4\nendpoints: [{}]",
			[]string{"endpoints[0].addresses: Required value: must contain at least 1 address"}},
		{"slice to the metadata service", slice + "addressType: IPv4\nendpoints: [{addresses: [169.254.169.254]}]",
			[]string{`endpoints[0].addresses[0]: Invalid value: "169.254.169.254": may not be in the link-local range (169.254.0.0/16, fe80::/10)`}},
		{"slice with two unnamed ports", slice + "addressType: IPv4\nports: [{port: 1}, {port: 2}]",
			[]string{`ports[1].name: Duplicate value: ""`}},
		{"slice of the controller", strings.Replace(slice, "namespace: b", "namespace: b, labels: {endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io}", 1) + "addressType: IPv4",
			[]string{"metadata.labels[endpointslice.kubernetes.io/managed-by]: Forbidden: the slices of this controller follow from Pods and Endpoints; remove the label to write one by hand"}},
		{"endpoints without addresses", endpoints + "subsets: [{ports: [{port: 1}]}]",
			[]string{"subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"}},
		{"endpoints unspecified", endpoints + "subsets: [{addresses: [{ip: 0.0.0.0}], ports: [{port: 1}]}]",
			[]string{`subsets[0].addresses[0].ip: Invalid value: "0.0.0.0": may not be unspecified (0.0.0.0)`}},
		{"pod without containers", aPod + "spec: {}", []string{"spec.containers: Required value"}},
		{"pod", aPod + "spec: {containers: [{name: c, image: i, ports: [{containerPort: 8080}]}]}", nil},
		{"pod port", aPod + "spec: {containers: [{name: c, image: i, ports: [{name: toolongportname1, containerPort: 0}]}]}", []string{
			`spec.containers[0].ports[0].name: Invalid value: "toolongportname1": must be no more than 15 characters`,
			"spec.containers[0].ports[0].containerPort: Invalid value: 0: must be between 1 and 65535, inclusive"}},
		{"pod address", aPod + "spec: {containers: [{name: c, image: i}]}\nstatus: {podIP: x}", []string{
			`status.podIPs[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)`}},
		{"another pod address", aPod + "spec: {containers: [{name: c, image: i}]}\nstatus: {podIP: 10.1.0.2, podIPs: [{ip: 10.1.0.1}]}", nil},
		{"pod addresses of one family", aPod + "spec: {containers: [{name: c, image: i}]}\nstatus: {podIPs: [{ip: 10.1.0.1}, {ip: 10.1.0.2}]}", []string{
			`status.podIPs: Invalid value: [{"ip":"10.1.0.1"},{"ip":"10.1.0.2"}]: may specify no more than one IP for each IP family`}},
		{"pod phase", aPod + "spec: {containers: [{name: c, image: i}]}\nstatus: {phase: Up}", []string{
			`status.phase: Unsupported value: "Up": supported values: "Failed", "Pending", "Running", "Succeeded", "Unknown"`}},
		{"namespace", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a.b}", []string{
			`metadata.name: Invalid value: "a.b": must not contain dots`}},
		{"address", "apiVersion: networking.k8s.io/v1\nkind: IPAddress\nmetadata: {name: 010.0.0.1}",
			[]string{`metadata.name: Invalid value: "010.0.0.1": must be a valid IP address in canonical form`, "spec.parentRef: Required value"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, got := check(t, tt.document, "", oneFamily)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}
