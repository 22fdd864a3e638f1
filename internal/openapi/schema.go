package openapi

import (
	"fmt"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"usher/registry"
)

// extensionGVK is the extension by which clients find the schema of an object
// and the operations on it.
const extensionGVK = "x-kubernetes-group-version-kind"

// Definitions returns the schemas of the registry's Kinds and of all that they
// consist of, by name, in the dialect of OpenAPI v2. They refer to each other
// as "#/definitions/<name>".
func Definitions() map[string]*spec.Schema { return build(registry.Kinds, false) }

// build returns the schemas of kinds and of all that they consist of.
func build(kinds []*registry.Kind, v3 bool) map[string]*spec.Schema {
	b := builder{v3: v3, schemas: make(map[string]*spec.Schema), markers: knownMarkers()}
	for _, k := range kinds {
		t := reflect.TypeOf(k.New()).Elem()
		b.reference(t)
		b.schemas[modelName(t)].AddExtension(extensionGVK, []any{gvkOf(k.GroupVersionKind)})
	}
	return b.schemas
}

// gvkOf returns the value of extensionGVK.
func gvkOf(gvk schema.GroupVersionKind) map[string]any {
	return map[string]any{"group": gvk.Group, "version": gvk.Version, "kind": gvk.Kind}
}

// modelName returns the name of a type's schema: "io.k8s.api.core.v1.Service".
func modelName(t reflect.Type) string {
	if named, ok := reflect.Zero(t).Interface().(interface{ OpenAPIModelName() string }); ok {
		return named.OpenAPIModelName()
	}
	return strings.ReplaceAll(t.PkgPath(), "/", ".") + "." + t.Name()
}

// A builder collects schemas.
type builder struct {
	v3      bool
	schemas map[string]*spec.Schema
	markers map[string]markers
}

// reference returns a reference to the schema of a struct, which it makes when
// it is not there yet.
func (b *builder) reference(t reflect.Type) spec.Schema {
	name := modelName(t)
	if b.schemas[name] == nil {
		s := new(spec.Schema)
		b.schemas[name] = s // before its fields: types refer to themselves
		*s = b.define(t)
	}
	prefix := "#/definitions/"
	if b.v3 {
		prefix = "#/components/schemas/"
	}
	return *spec.RefSchema(prefix + name)
}

// define returns the schema of a struct.
func (b *builder) define(t reflect.Type) spec.Schema {
	s := b.scalar(t)
	if s == nil {
		s = new(spec.Schema).Typed("object", "")
		b.addFields(s, t)
	}
	s.Description = docs(t)[""]
	if b.markers[modelName(t)].atomic {
		s.AddExtension("x-kubernetes-map-type", "atomic")
	}
	return *s
}

// scalar returns the schema of a type that says itself what it is in JSON: not
// an object, such as a time. It returns nil for any other.
func (b *builder) scalar(t reflect.Type) *spec.Schema {
	zero := reflect.Zero(t).Interface()
	self, ok := zero.(interface {
		OpenAPISchemaType() []string
		OpenAPISchemaFormat() string
	})
	if !ok {
		return nil
	}
	either, ok := zero.(interface{ OpenAPIV3OneOfTypes() []string })
	if !ok || !b.v3 {
		return new(spec.Schema).Typed(self.OpenAPISchemaType()[0], self.OpenAPISchemaFormat())
	}
	s := &spec.Schema{SchemaProps: spec.SchemaProps{Format: self.OpenAPISchemaFormat()}}
	for _, typ := range either.OpenAPIV3OneOfTypes() {
		s.OneOf = append(s.OneOf, *new(spec.Schema).Typed(typ, ""))
	}
	return s
}

// addFields adds the fields of a struct to its schema, those of embedded
// structs too.
func (b *builder) addFields(s *spec.Schema, t reflect.Type) {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
			continue
		case name == "" && f.Anonymous:
			b.addFields(s, f.Type)
			continue
		}
		m := b.markers[modelName(t)+"."+name]
		s.SetProperty(name, b.property(f, docs(t)[name], m))
		omitted := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		if m.required || !omitted && !m.optional {
			s.AddRequired(name)
		}
	}
}

// property returns the schema of a field.
func (b *builder) property(f reflect.StructField, doc string, m markers) spec.Schema {
	s := b.value(f.Type)
	if b.v3 && s.Ref.String() != "" {
		// Beside a reference nothing else is read in this dialect.
		s = spec.Schema{SchemaProps: spec.SchemaProps{AllOf: []spec.Schema{s}}}
	}
	s.Description = doc
	s.Default = m.fallback
	extensions := map[string]any{}
	if m.atomic {
		extensions["x-kubernetes-map-type"] = "atomic"
	}
	if m.listType != "" {
		extensions["x-kubernetes-list-type"] = m.listType
	}
	if len(m.listKeys) > 0 {
		extensions["x-kubernetes-list-map-keys"] = anySlice(m.listKeys)
	}
	if strategy := f.Tag.Get("patchStrategy"); strategy != "" {
		extensions["x-kubernetes-patch-strategy"] = strategy
	}
	if key := f.Tag.Get("patchMergeKey"); key != "" {
		extensions["x-kubernetes-patch-merge-key"] = key
	}
	for key, value := range extensions {
		s.AddExtension(key, value)
	}
	return s
}

// value returns the schema of what is of a type.
func (b *builder) value(t reflect.Type) spec.Schema {
	switch t.Kind() {
	case reflect.Pointer:
		return b.value(t.Elem())
	case reflect.Struct:
		return b.reference(t)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return *new(spec.Schema).Typed("string", "byte")
		}
		element := b.value(t.Elem())
		return *spec.ArrayProperty(&element)
	case reflect.Map:
		element := b.value(t.Elem())
		return *spec.MapProperty(&element)
	case reflect.String:
		s := spec.StringProperty()
		s.Enum = anySlice(b.markers[modelName(t)].enum)
		return *s
	case reflect.Bool:
		return *spec.BoolProperty()
	case reflect.Int32:
		return *spec.Int32Property()
	case reflect.Int64, reflect.Int:
		return *spec.Int64Property()
	}
	panic(fmt.Sprintf("openapi: no schema for %v", t))
}

// docs returns the descriptions of a type, at "", and of its fields.
func docs(t reflect.Type) map[string]string {
	if documented, ok := reflect.Zero(t).Interface().(interface{ SwaggerDoc() map[string]string }); ok {
		return documented.SwaggerDoc()
	}
	return nil
}

func anySlice(list []string) []any {
	var out []any
	for _, s := range list {
		out = append(out, s)
	}
	return out
}
