package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/kube-openapi/pkg/spec3"

	"usher/registry"
)

func TestExplainFields(t *testing.T) {
	f := newFake(t, "")
	tests := map[string]struct {
		args string
		want result
	}{
		"a field of a field": {"svc.spec.sessionAffinityConfig.clientIP", result{0, `KIND:       Service
VERSION:    v1

FIELD: clientIP <ClientIPConfig>


DESCRIPTION:
    clientIP contains the configurations of Client IP based session affinity.
    ClientIPConfig represents the configurations of Client IP based session
    affinity.
    
FIELDS:
  timeoutSeconds	<integer>
    timeoutSeconds specifies the seconds of ClientIP type session sticky time.
    The value must be >0 && <=86400(for 1 day) if ServiceAffinity == "ClientIP".
    Default value is 10800(for 3 hours).


`, ""}},
		"what it may be": {"pod.spec.containers.ports.protocol", result{0, `KIND:       Pod
VERSION:    v1

FIELD: protocol <string>
ENUM:
    SCTP
    TCP
    UDP

DESCRIPTION:
    Protocol for port. Must be UDP, TCP, or SCTP. Defaults to "TCP".
    

`, ""}},
		"of a group": {"endpointslices.discovery.k8s.io.endpoints.conditions --recursive", result{0, `GROUP:      discovery.k8s.io
KIND:       EndpointSlice
VERSION:    v1

FIELD: conditions <EndpointConditions>


DESCRIPTION:
    conditions contains information about the current status of the endpoint.
    EndpointConditions represents the current condition of an endpoint.
    
FIELDS:
  ready	<boolean>
  serving	<boolean>
  terminating	<boolean>

`, ""}},
		"no such field": {"svc.spec.nope.deeper", result{1, "", "error: field \"deeper\" does not exist\n"}},
		"no such type":  {"widgets.spec", result{1, "", "error: the server doesn't have a resource type \"widgets\"\n"}},
		"no such group": {"svc --api-version=nope/v1", result{4, "", "Error from server (NotFound): the server could not find the requested resource\n"}},
		"another group": {"svc --api-version=discovery.k8s.io/v1", result{1, "", "error: GVK discovery.k8s.io/v1, Kind=Service not found in OpenAPI schema\n"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := f.usher(t, "", append([]string{"explain"}, strings.Fields(tt.args)...)...)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A type that is made of itself comes to an end, and depth is heeded.
func TestExplainRecursive(t *testing.T) {
	f := newFake(t, "")
	all := f.usher(t, "", "explain", "pod", "-R")
	for _, want := range []string{"\n  spec\t<PodSpec>\n", "\n    containers\t<[]Container> -required-\n", "\n        enum: SCTP, TCP, UDP\n", "\n      env\t<[]EnvVar>\n"} {
		if !strings.Contains(all.stdout, want) {
			t.Errorf("there is no %q", want)
		}
	}
	two := f.usher(t, "", "explain", "pod", "-R", "--max-depth=2")
	if !strings.Contains(two.stdout, "\n    containers\t<[]Container> -required-\n") || strings.Contains(two.stdout, "\n      env\t") {
		t.Errorf("two levels: %s", two.stdout)
	}
}

// A schema that refers to itself is shown once on each way to it.
func TestExplainCycle(t *testing.T) {
	const document = `{"components": {"schemas": {"x.Node": {
		"type": "object", "description": "a node", "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Node"}],
		"properties": {"name": {"type": "string"}, "nodes": {"type": "array", "items": {"$ref": "#/components/schemas/x.Node"}}}}}}}`
	page := &fieldsPage{document: new(spec3.OpenAPI), recursive: true}
	if err := json.Unmarshal([]byte(document), page.document); err != nil {
		t.Fatal(err)
	}
	got, err := page.text(registry.Nodes.GroupVersionKind, []string{"nodes"})
	const want = `KIND:       Node
VERSION:    v1

FIELD: nodes <[]Node>


DESCRIPTION:
    a node
    
FIELDS:
  name	<string>
  nodes	<[]Node>
`
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
}

// Lines are broken as kubectl breaks them.
func TestWrap(t *testing.T) {
	tests := map[string]struct{ in, want string }{
		"short":               {"one two", "one two"},
		"just so":             {"one two 89", "one two 89"},
		"one too many":        {"one two 890", "one two\n890"},
		"spaces inside":       {"a  b", "a  b"},
		"spaces at the break": {"one two    three", "one two\nthree"},
		"in front":            {"  a", "  a"},
		"lines stay":          {"a\n\nb\n", "a\n\nb\n"},
		"a long word":         {"a looooooooooong b", "a\nlooooooooooong\nb"},
		"a long one first":    {"looooooooooong b", "looooooooooong\nb"},
		"not only ascii":      {"äöü äöü äö", "äöü äöü äö"},
		"empty":               {"", ""},
	}
	for name, tt := range tests {
		if diff := cmp.Diff(tt.want, wrap(10, tt.in)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
