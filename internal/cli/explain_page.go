package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// A fieldsPage shows a type out of an OpenAPI v3 document, laid out as the
// plaintext of `kubectl explain`.
type fieldsPage struct {
	document  *spec3.OpenAPI
	recursive bool
	depth     int

	out strings.Builder
}

// text returns the page about a kind, or a field of it.
func (p *fieldsPage) text(gvk schema.GroupVersionKind, path []string) (string, error) {
	s := p.schemaOf(gvk)
	if s == nil {
		return "", fmt.Errorf("GVK %v not found in OpenAPI schema", gvk)
	}
	if gvk.Group != "" {
		fmt.Fprintf(&p.out, "GROUP:      %s\n", gvk.Group)
	}
	fmt.Fprintf(&p.out, "KIND:       %s\nVERSION:    %s\n\n", gvk.Kind, gvk.Version)
	for i, name := range path {
		f := p.field(s, name)
		if f == nil {
			return "", fmt.Errorf("field %q does not exist", path[len(path)-1])
		}
		if s = f; i == len(path)-1 {
			fmt.Fprintf(&p.out, "FIELD: %s <%s>\n%s\n\n", name, p.typeName(s), longEnum(s))
		}
	}
	description := p.description(s)
	if description == "" {
		description = "<empty>"
	}
	fmt.Fprintf(&p.out, "DESCRIPTION:\n%s\n", indent(4, wrap(76, description)))
	before := p.out.Len()
	p.fields(s, 1, nil)
	text := p.out.String()
	if len(text) > before {
		text = text[:before] + "FIELDS:\n" + text[before:]
	}
	return text, nil
}

// schemaOf returns the schema of a kind, or nil.
func (p *fieldsPage) schemaOf(gvk schema.GroupVersionKind) *spec.Schema {
	if p.document.Components == nil {
		return nil
	}
	for _, s := range p.document.Components.Schemas {
		kinds, _ := s.Extensions["x-kubernetes-group-version-kind"].([]any)
		for _, k := range kinds {
			k, _ := k.(map[string]any)
			if k["group"] == gvk.Group && k["version"] == gvk.Version && k["kind"] == gvk.Kind {
				return s
			}
		}
	}
	return nil
}

// refName returns the name of the schema that s refers to, or "".
func refName(s *spec.Schema) string {
	name, ok := strings.CutPrefix(s.Ref.String(), "#/components/schemas/")
	if !ok {
		return ""
	}
	return name
}

// resolve returns the schema that s refers to, or s.
func (p *fieldsPage) resolve(s *spec.Schema) *spec.Schema {
	if target := p.document.Components.Schemas[refName(s)]; target != nil {
		return target
	}
	return s
}

// parts returns what a schema is made of beside fields: the alternatives, the
// elements of a list, the values of a map.
func parts(s *spec.Schema) []*spec.Schema {
	var all []*spec.Schema
	for i := range s.AllOf {
		all = append(all, &s.AllOf[i])
	}
	if s.Items != nil && s.Items.Schema != nil {
		all = append(all, s.Items.Schema)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		all = append(all, s.AdditionalProperties.Schema)
	}
	return all
}

// field returns the field of that name in a schema or in its parts, or nil.
func (p *fieldsPage) field(s *spec.Schema, name string) *spec.Schema {
	s = p.resolve(s)
	if f, ok := s.Properties[name]; ok {
		return &f
	}
	for _, part := range parts(s) {
		if f := p.field(part, name); f != nil {
			return f
		}
	}
	return nil
}

// description returns what a schema and its parts say of themselves.
func (p *fieldsPage) description(s *spec.Schema) string {
	s = p.resolve(s)
	var text strings.Builder
	if s.Description != "" {
		text.WriteString(s.Description + "\n")
	}
	for _, part := range parts(s) {
		text.WriteString(p.description(part))
	}
	return text.String()
}

// fields writes the fields of a schema and of its parts. seen are the schemas
// that it is in, which may refer to each other.
func (p *fieldsPage) fields(s *spec.Schema, level int, seen []string) {
	if name := refName(s); name != "" {
		if slices.Contains(seen, name) {
			return
		}
		seen = append(slices.Clip(seen), name)
	}
	s = p.resolve(s)
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		f := s.Properties[name]
		p.line(name, &f, slices.Contains(s.Required, name), level)
		if p.recursive && (p.depth == 0 || level < p.depth) {
			p.fields(&f, level+1, seen)
		}
	}
	for _, part := range parts(s) {
		p.fields(part, level, seen)
	}
}

// line writes a field, and what it means unless those of all are shown.
func (p *fieldsPage) line(name string, f *spec.Schema, required bool, level int) {
	pad := level * 2
	fmt.Fprintf(&p.out, "%s\t<%s>", indent(pad, name), p.typeName(f))
	if required {
		p.out.WriteString(" -required-")
	}
	p.out.WriteString(shortEnum(f, pad) + "\n")
	if p.recursive {
		return
	}
	description := f.Description
	if description == "" {
		description = "<no description>"
	}
	p.out.WriteString(indent(pad+2, wrap(78-pad, description)) + "\n\n")
}

// typeName names the type of a schema: string, []Object, map[string]string.
func (p *fieldsPage) typeName(s *spec.Schema) string {
	typ := "Object"
	if len(s.Type) > 0 && s.Type[0] != "object" {
		typ = s.Type[0]
	}
	switch name := refName(s); {
	case s.Items != nil && s.Items.Schema != nil:
		return "[]" + p.typeName(s.Items.Schema)
	case s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil:
		return "map[string]" + p.typeName(s.AdditionalProperties.Schema)
	case len(s.AllOf) == 1 && len(s.Properties) == 0:
		return p.typeName(&s.AllOf[0])
	case name != "":
		if target := p.resolve(s); len(target.Type) > 0 && target.Type[0] != "object" {
			return target.Type[0]
		}
		return name[strings.LastIndexByte(name, '.')+1:]
	}
	return typ
}

func enumTexts(s *spec.Schema) []string {
	var texts []string
	for _, value := range s.Enum {
		text := fmt.Sprint(value)
		if text == "" {
			text = `""`
		}
		texts = append(texts, text)
	}
	return texts
}

// longEnum lists all values that a field may have.
func longEnum(s *spec.Schema) string {
	texts := enumTexts(s)
	if len(texts) == 0 {
		return ""
	}
	return "ENUM:\n    " + strings.Join(texts, "\n    ")
}

// shortEnum names the first of them.
func shortEnum(s *spec.Schema, pad int) string {
	const most = 4
	texts := enumTexts(s)
	if len(texts) == 0 {
		return ""
	}
	text := "\n" + indent(pad, "enum: ") + strings.Join(texts[:min(most, len(texts))], ", ")
	if len(texts) > most {
		text += ", ...."
	}
	return text
}

func indent(n int, text string) string {
	pad := strings.Repeat(" ", n)
	return pad + strings.ReplaceAll(text, "\n", "\n"+pad)
}

// wrap breaks lines that are longer than width at white space. What is behind
// a break keeps no space in front, and a long word stays whole.
func wrap(width int, text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		length := 0
		for rest := line; rest != ""; {
			word := strings.TrimLeft(rest, " \t")
			space := rest[:len(rest)-len(word)]
			end := strings.IndexAny(word, " \t\n")
			if end < 0 {
				end = len(word)
			}
			rest, word = word[end:], word[:end]
			if n := len([]rune(word)); length > 0 && n > 0 && length+len(space)+n > width {
				out.WriteString("\n")
				space, length = "", 0
			}
			out.WriteString(space + word)
			length += len(space) + len([]rune(word))
			if strings.HasPrefix(rest, "\n") {
				out.WriteString("\n")
				rest = rest[1:]
			}
		}
	}
	return out.String()
}
