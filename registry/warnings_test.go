package registry

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWarnings(t *testing.T) {
	const port = "ports: [{port: 80}]"
	slice := func(more string) string {
		return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a, namespace: b}\n" + more
	}
	tests := []struct {
		name, document string
		want           []string
	}{
		{"nothing", service(port), nil},
		{"hints", strings.Replace(service(port), "namespace: b", "namespace: b, annotations: {service.kubernetes.io/topology-aware-hints: Auto}", 1), []string{
			"annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead"}},
		{"an address that is not canonical", service("clusterIP: 'FD00::5', clusterIPs: ['FD00::5'], " + port), []string{
			`spec.clusterIPs[0]: IPv6 address "FD00::5" should be in RFC 5952 canonical format ("fd00::5")`}},
		{"headless", service("clusterIP: None, clusterIPs: [None], sessionAffinity: ClientIP, loadBalancerIP: 192.0.2.1, externalIPs: [192.0.2.1], " + port), []string{
			"spec.loadBalancerIP is ignored for headless services",
			"spec.externalIPs is ignored for headless services",
			"spec.SessionAffinity is ignored for headless services"}},
		{"external IPs", service("externalIPs: ['2001:DB8::1'], " + port), []string{
			`spec.externalIPs[0]: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")`,
			"spec.externalIPs is deprecated and may no longer be implemented in some clusters"}},
		{"external IPs of a name", service("type: ExternalName, externalName: a.b, externalIPs: [192.0.2.1]"), []string{
			`spec.externalIPs is ignored when spec.type is "ExternalName"`}},
		{"a name without its type", service("externalName: a.b, " + port), []string{
			`spec.externalName is ignored when spec.type is not "ExternalName"`}},
		{"source range", service("type: LoadBalancer, loadBalancerSourceRanges: ['2001:DB8::/64'], " + port), []string{
			`spec.loadBalancerSourceRanges[0]: IPv6 CIDR value "2001:DB8::/64" should be in RFC 5952 canonical format ("2001:db8::/64")`}},
		{"distribution", service("trafficDistribution: PreferClose, " + port), []string{
			`spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"`}},
		{"SCTP", service("ports: [{port: 80, protocol: SCTP}]"), []string{"spec.ports[0].protocol: SCTP is stored and not proxied"}},
		{"a digit first", strings.Replace(service(port), "name: a", "name: 3scale", 1), []string{
			`metadata.name: clusters before Kubernetes 1.36 refuse "3scale": there, a name begins with a letter`}},
		{"headless with another port", service("clusterIP: None, clusterIPs: [None], ports: [{port: 80, targetPort: 8080}]"), []string{
			"spec.ports[0].targetPort: a headless service has no proxy that would turn port 80 into 8080: clients connect to the port they name"}},
		{"names", slice("addressType: FQDN\nendpoints: [{addresses: [a.example.org]}]"), []string{"spec.addressType: FQDN endpoints are deprecated"}},
		{"endpoints", "apiVersion: v1\nkind: Endpoints\nmetadata: {name: a, namespace: b}\nsubsets: [{addresses: [{ip: 'FD00::1'}], notReadyAddresses: [{ip: 'FD00::2'}], ports: [{port: 1}]}]", []string{
			`subsets[0].addresses[0].ip: IPv6 address "FD00::1" should be in RFC 5952 canonical format ("fd00::1")`,
			`subsets[0].notReadyAddresses[0].ip: IPv6 address "FD00::2" should be in RFC 5952 canonical format ("fd00::2")`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			obj := objects(t, 1, tt.document)[0]
			if errs := Validate(obj); len(errs) > 0 {
				t.Error(errs)
			}
			if diff := cmp.Diff(tt.want, Warnings(obj, true)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
