package registry

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestValidateSlices has the limits of EndpointSlices and of their endpoints.
func TestValidateSlices(t *testing.T) {
	slice := func(more string) string {
		return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a, namespace: b, resourceVersion: \"1\"}\n" + more
	}
	many := func(n int, item string) string { return "[" + strings.Repeat(item+",", n) + "]" }
	hints := func(hints string) string {
		return slice("addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], hints: {" + hints + "}}]")
	}
	tests := []struct {
		name, document string
		want           []string
	}{
		{"a port that is none", slice("addressType: IPv4\nports: [{port: 0}, {name: b}]"), nil},
		{"1000 endpoints", slice("addressType: IPv4\nendpoints: " + many(1000, "{addresses: [10.0.0.1]}")), nil},
		{"1001 endpoints", slice("addressType: IPv4\nendpoints: " + many(1001, "{addresses: [10.0.0.1]}")), []string{
			"endpoints: Too many: 1001: must have at most 1000 items"}},
		{"100 addresses", slice("addressType: IPv4\nendpoints: [{addresses: " + many(100, "10.0.0.1") + "}]"), nil},
		{"101 addresses", slice("addressType: IPv4\nendpoints: [{addresses: " + many(101, "10.0.0.1") + "}]"), []string{
			"endpoints[0].addresses: Too many: 101: must have at most 100 items"}},
		{"20001 ports", slice("addressType: IPv4\nports: " + many(20001, "{}")), []string{
			"ports: Too many: 20001: must have at most 20000 items"}},
		{"type", slice("addressType: IPv5"), []string{`addressType: Unsupported value: "IPv5": supported values: "FQDN", "IPv4", "IPv6"`}},
		{"names", slice("addressType: FQDN\nendpoints: [{addresses: [a.example.org]}]"), nil},
		{"a name that is none", slice("addressType: FQDN\nendpoints: [{addresses: [a]}]"), []string{
			`endpoints[0].addresses[0]: Invalid value: "a": should be a domain with at least two segments separated by dots`}},
		{"IPv6 that is not canonical", slice("addressType: IPv6\nendpoints: [{addresses: ['FD00::1']}]"), []string{
			`endpoints[0].addresses[0]: Invalid value: "FD00::1": must be in canonical form ("fd00::1")`}},
		{"loopback of IPv6", slice("addressType: IPv6\nendpoints: [{addresses: ['::1']}]"), nil},
		{"hostname", slice("addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], hostname: a.b}]"), []string{
			`endpoints[0].hostname: Invalid value: "a.b": must not contain dots`}},
		{"node", slice("addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], nodeName: a_b}]"), []string{
			`endpoints[0].nodeName: Invalid value: "a_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`}},
		{"hints", hints("forZones: [{name: a}], forNodes: [{name: a}]"), nil},
		{"zone twice", hints("forZones: [{name: a}, {name: a}]"), []string{`endpoints[0].hints.forZones[1].name: Duplicate value: "a"`}},
		{"node twice", hints("forNodes: [{name: a}, {name: a}]"), []string{`endpoints[0].hints.forNodes[1].name: Duplicate value: "a"`}},
		{"bad zone", hints("forZones: [{name: a b}]"), []string{
			`endpoints[0].hints.forZones[0].name: Invalid value: "a b": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`}},
		{"9 zones", hints("forZones: " + many(9, "{name: a}")), []string{"endpoints[0].hints.forZones: Too many: 9: must have at most 8 items"}},
		{"9 nodes", hints("forNodes: " + many(9, "{name: a}")), []string{"endpoints[0].hints.forNodes: Too many: 9: must have at most 8 items"}},
		{"topology", slice("addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], deprecatedTopology: {a: b/c}}]"), []string{
			`endpoints[0].deprecatedTopology: Invalid value: "b/c": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, got := check(t, tt.document, "", oneFamily)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
	_, got := check(t, slice("addressType: IPv6"), slice("addressType: IPv4"), oneFamily)
	if diff := cmp.Diff([]string{`addressType: Invalid value: "IPv6": field is immutable`}, got); diff != "" {
		t.Errorf("another type (-want +got):\n%s", diff)
	}
}
