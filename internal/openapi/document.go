package openapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	openapiv2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"usher/registry"
)

// title is what the documents call the API.
const title = "usher"

// V3 returns the OpenAPI v3 document of a group and version as JSON, or nil if
// the registry has no Kind in it.
func V3(gv schema.GroupVersion, version string) ([]byte, error) {
	kinds := kindsIn(gv)
	if len(kinds) == 0 {
		return nil, nil
	}
	paths := make(map[string]*spec3.Path)
	for _, k := range kinds {
		for _, e := range endpoints(k) {
			p := paths[e.path]
			if p == nil {
				p = new(spec3.Path)
				paths[e.path] = p
			}
			e.addTo(&p.PathProps)
		}
	}
	return json.Marshal(&spec3.OpenAPI{
		Version:    "3.0.0",
		Info:       &spec.Info{InfoProps: spec.InfoProps{Title: title, Version: version}},
		Paths:      &spec3.Paths{Paths: paths},
		Components: &spec3.Components{Schemas: build(kinds, true)},
	})
}

// addTo adds the operation to those of its path.
func (e endpoint) addTo(p *spec3.PathProps) {
	op := &spec3.Operation{}
	op.Description = e.description()
	for _, param := range e.query {
		op.Parameters = append(op.Parameters, &spec3.Parameter{ParameterProps: spec3.ParameterProps{
			Name: param, In: "query", Schema: spec.StringProperty(),
		}})
	}
	for key, value := range e.extensions() {
		op.AddExtension(key, value)
	}
	switch e.action {
	case "get", "list":
		p.Get = op
	case "post":
		p.Post = op
	case "put":
		p.Put = op
	case "patch":
		p.Patch = op
	case "delete", "deletecollection":
		p.Delete = op
	}
}

// V2 returns the OpenAPI v2 document of the whole API as JSON. kubectl before
// 1.27 knows no other one.
func V2(version string) ([]byte, error) {
	definitions := make(spec.Definitions)
	for name, s := range Definitions() {
		definitions[name] = *s
	}
	paths := make(map[string]spec.PathItem)
	for _, k := range registry.Kinds {
		for _, e := range endpoints(k) {
			if e.action != "patch" { // by which clients find out what writes can do
				continue
			}
			op := &spec.Operation{OperationProps: spec.OperationProps{
				Description: e.description(),
				Responses: &spec.Responses{ResponsesProps: spec.ResponsesProps{StatusCodeResponses: map[int]spec.Response{
					http.StatusOK: {ResponseProps: spec.ResponseProps{Description: "OK"}},
				}}},
			}}
			for _, param := range e.query {
				op.Parameters = append(op.Parameters, spec.Parameter{
					ParamProps: spec.ParamProps{Name: param, In: "query"}, SimpleSchema: spec.SimpleSchema{Type: "string"},
				})
			}
			for key, value := range e.extensions() {
				op.AddExtension(key, value)
			}
			paths[e.path] = spec.PathItem{PathItemProps: spec.PathItemProps{Patch: op}}
		}
	}
	return json.Marshal(&spec.Swagger{SwaggerProps: spec.SwaggerProps{
		Swagger:     "2.0",
		Info:        &spec.Info{InfoProps: spec.InfoProps{Title: title, Version: version}},
		Paths:       &spec.Paths{Paths: paths},
		Definitions: definitions,
	}})
}

// V2Protobuf returns the document that V2 returns as the protocol buffer
// message of github.com/google/gnostic-models.
func V2Protobuf(version string) ([]byte, error) {
	data, err := V2(version)
	if err != nil {
		return nil, err
	}
	doc, err := openapiv2.ParseDocument(data)
	if err != nil {
		return nil, fmt.Errorf("read the document: %w", err)
	}
	return proto.Marshal(doc)
}

// GroupVersions returns what there are documents of.
func GroupVersions() []schema.GroupVersion {
	var list []schema.GroupVersion
	for _, k := range registry.Kinds {
		if gv := k.GroupVersion(); !slices.Contains(list, gv) {
			list = append(list, gv)
		}
	}
	return list
}

// Root returns the path below which a group and version is served, without the
// slash that it begins with: "api/v1", "apis/discovery.k8s.io/v1".
func Root(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "api/" + gv.Version
	}
	return "apis/" + gv.Group + "/" + gv.Version
}

func kindsIn(gv schema.GroupVersion) []*registry.Kind {
	var kinds []*registry.Kind
	for _, k := range registry.Kinds {
		if k.GroupVersion() == gv {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// An endpoint is one operation on a Kind.
type endpoint struct {
	kind   *registry.Kind
	path   string
	action string // in the words of x-kubernetes-action
	query  []string
}

// endpoints returns the operations on a Kind.
func endpoints(k *registry.Kind) []endpoint {
	root := "/" + Root(k.GroupVersion())
	if k.Namespaced {
		root += "/namespaces/{namespace}"
	}
	all := root + "/" + k.Resource
	one := all + "/{name}"
	writes := []string{"dryRun", "fieldManager", "fieldValidation"}
	patch := []string{"dryRun", "fieldManager", "fieldValidation", "force"}
	list := []endpoint{
		{k, all, "list", []string{"continue", "fieldSelector", "labelSelector", "limit", "resourceVersion", "resourceVersionMatch", "watch"}},
		{k, all, "post", writes},
		{k, one, "get", nil},
		{k, one, "put", writes},
		{k, one, "patch", patch},
		{k, one, "delete", []string{"dryRun", "gracePeriodSeconds", "propagationPolicy"}},
	}
	if k.HasStatus {
		list = append(list, endpoint{k, one + "/status", "put", writes}, endpoint{k, one + "/status", "patch", patch})
	}
	return list
}

func (e endpoint) description() string {
	if strings.HasSuffix(e.path, "/status") {
		return e.action + " the status of a " + e.kind.Kind
	}
	return e.action + " " + e.kind.Resource
}

func (e endpoint) extensions() map[string]any {
	return map[string]any{"x-kubernetes-action": e.action, extensionGVK: gvkOf(e.kind.GroupVersionKind)}
}
