package openapi

import (
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"testing"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"usher/registry"
)

// TestDefinitions has a field of each sort.
func TestDefinitions(t *testing.T) {
	all := Definitions()
	tests := []struct{ of, field, want string }{
		{"io.k8s.api.core.v1.Service", "spec", `{"$ref":"#/definitions/io.k8s.api.core.v1.ServiceSpec"}`},
		{"io.k8s.api.core.v1.Service", "kind", `{"type":"string"}`},
		{"io.k8s.api.core.v1.ServiceSpec", "ports", `{"type":"array","items":{"$ref":"#/definitions/io.k8s.api.core.v1.ServicePort"},` +
			`"x-kubernetes-list-map-keys":["port","protocol"],"x-kubernetes-list-type":"map","x-kubernetes-patch-merge-key":"port","x-kubernetes-patch-strategy":"merge"}`},
		{"io.k8s.api.core.v1.ServiceSpec", "selector", `{"type":"object","additionalProperties":{"type":"string"},"x-kubernetes-map-type":"atomic"}`},
		{"io.k8s.api.core.v1.ServiceSpec", "type", `{"type":"string","enum":["ClusterIP","ExternalName","LoadBalancer","NodePort"]}`},
		{"io.k8s.api.core.v1.ServiceSpec", "publishNotReadyAddresses", `{"type":"boolean"}`},
		{"io.k8s.api.core.v1.ServicePort", "port", `{"type":"integer","format":"int32"}`},
		{"io.k8s.api.core.v1.ServicePort", "protocol", `{"type":"string","default":"TCP","enum":["SCTP","TCP","UDP"]}`},
		{"io.k8s.api.discovery.v1.EndpointSlice", "addressType", `{"type":"string","enum":["FQDN","IPv4","IPv6"]}`},
		{"io.k8s.api.core.v1.ServicePort", "targetPort", `{"$ref":"#/definitions/io.k8s.apimachinery.pkg.util.intstr.IntOrString"}`},
		{"io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "generation", `{"type":"integer","format":"int64"}`},
		{"io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "creationTimestamp", `{"$ref":"#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.Time"}`},
		{"usher.registry.NodePort", "spec", `{"$ref":"#/definitions/io.k8s.api.networking.v1.IPAddressSpec"}`},
	}
	for _, tt := range tests {
		of := all[tt.of]
		if of == nil {
			t.Errorf("no schema for %s", tt.of)
			continue
		}
		field := of.Properties[tt.field]
		field.Description = ""
		got, err := json.Marshal(&field)
		if err != nil {
			t.Fatal(err)
		}
		if !sameJSON(t, got, []byte(tt.want)) {
			t.Errorf("%s.%s = %s\nwant %s", tt.of, tt.field, got, tt.want)
		}
	}
	port := all["io.k8s.api.core.v1.ServicePort"]
	if !slices.Equal(port.Required, []string{"port"}) || port.Properties["port"].Description != "The port that will be exposed by this service." {
		t.Errorf("required %q, %q", port.Required, port.Properties["port"].Description)
	}
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	for data, v := range map[*[]byte]*any{&a: &x, &b: &y} {
		if err := json.Unmarshal(*data, v); err != nil {
			t.Fatal(err)
		}
	}
	return reflect.DeepEqual(x, y)
}

// TestV3 checks that each document is whole, and that clients find out from
// it, as kubectl does, that the server validates and does dry runs.
func TestV3(t *testing.T) {
	for _, gv := range GroupVersions() {
		data, err := V3(gv, "v1")
		if err != nil {
			t.Fatal(err)
		}
		for _, ref := range regexp.MustCompile(`"#/components/schemas/([^"]+)"`).FindAllSubmatch(data, -1) {
			if !regexp.MustCompile(`"` + regexp.QuoteMeta(string(ref[1])) + `":\{`).Match(data) {
				t.Errorf("%s: there is no schema %s", gv, ref[1])
			}
		}
		var doc spec3.OpenAPI
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatal(err)
		}
		for _, k := range kindsIn(gv) {
			if !patchHas(doc, k, "fieldValidation") || !patchHas(doc, k, "dryRun") {
				t.Errorf("%s cannot be validated", k.Kind)
			}
		}
	}
	if data, err := V3(schema.GroupVersion{Group: "apps", Version: "v1"}, "v1"); data != nil || err != nil {
		t.Errorf("apps/v1: %q, %v", data, err)
	}
}

// patchHas reports whether the operation that patches a Kind has a parameter.
func patchHas(doc spec3.OpenAPI, k *registry.Kind, param string) bool {
	for _, p := range doc.Paths.Paths {
		if p.Patch == nil {
			continue
		}
		gvk, _ := p.Patch.Extensions[extensionGVK].(map[string]any)
		if gvk["kind"] != k.Kind || gvk["group"] != k.Group {
			continue
		}
		if slices.ContainsFunc(p.Patch.Parameters, func(q *spec3.Parameter) bool { return q.Name == param }) {
			return true
		}
	}
	return false
}

// TestV2 checks that the protocol buffer, which old clients read, has what the
// JSON has.
func TestV2(t *testing.T) {
	data, err := V2("v1")
	if err != nil {
		t.Fatal(err)
	}
	var swagger spec.Swagger
	if err := json.Unmarshal(data, &swagger); err != nil {
		t.Fatal(err)
	}
	message, err := V2Protobuf("v1")
	if err != nil {
		t.Fatal(err)
	}
	var doc openapiv2.Document
	if err := proto.Unmarshal(message, &doc); err != nil {
		t.Fatal(err)
	}
	if n := len(doc.GetDefinitions().GetAdditionalProperties()); n != len(swagger.Definitions) || n < 100 {
		t.Errorf("%d definitions, of %d", n, len(swagger.Definitions))
	}
	if n := len(doc.GetPaths().GetPath()); n != len(swagger.Paths.Paths) || n < len(registry.Kinds) {
		t.Errorf("%d paths, of %d", n, len(swagger.Paths.Paths))
	}
}
