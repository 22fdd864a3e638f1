package openapi

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"usher/registry"
)

var update = flag.Bool("update", false, "write markers.txt anew")

// TestMarkers checks that markers.txt says what the comments of the types do.
func TestMarkers(t *testing.T) {
	types := make(map[reflect.Type]bool)
	for _, k := range registry.Kinds {
		reach(reflect.TypeOf(k.New()), types)
	}
	found := make(map[string][]string)
	sources := make(map[string]source)
	for typ := range types {
		if !strings.HasPrefix(typ.PkgPath(), "k8s.io/") {
			continue
		}
		src, ok := sources[typ.PkgPath()]
		if !ok {
			src = readSource(t, typ.PkgPath())
			sources[typ.PkgPath()] = src
		}
		src.markers(t, typ, found)
	}
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(found)) {
		lines.WriteString(name + " " + strings.Join(found[name], " ") + "\n")
	}
	if *update {
		if err := os.WriteFile("markers.txt", []byte(lines.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if lines.String() != markersText {
		t.Error("markers.txt is out of date: go test ./internal/openapi -run TestMarkers -update")
	}
}

// reach adds typ and the named types that it consists of.
func reach(typ reflect.Type, types map[reflect.Type]bool) {
	if types[typ] {
		return
	}
	if typ.Name() != "" && typ.PkgPath() != "" {
		types[typ] = true
	}
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice:
		reach(typ.Elem(), types)
	case reflect.Map:
		reach(typ.Key(), types)
		reach(typ.Elem(), types)
	case reflect.Struct:
		for f := range typ.Fields() {
			if f.IsExported() && f.Tag.Get("json") != "-" {
				reach(f.Type, types)
			}
		}
	}
}

// A source is the parsed files of a package.
type source struct {
	types  map[string]*ast.TypeSpec
	docs   map[string]string
	values map[string][]ast.Expr // of the constants of each type
	consts map[string]string     // by name, those that are a literal
}

func readSource(t *testing.T, pkg string) source {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", pkg).Output()
	if err != nil {
		t.Fatalf("find the source of %s: %v", pkg, err)
	}
	files, err := filepath.Glob(path.Join(strings.TrimSpace(string(out)), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	s := source{map[string]*ast.TypeSpec{}, map[string]string{}, map[string][]ast.Expr{}, map[string]string{}}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if d, ok := d.(*ast.GenDecl); ok {
				s.read(f, d)
			}
		}
	}
	return s
}

func (s source) read(f *ast.File, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			s.types[spec.Name.Name] = spec
			s.docs[spec.Name.Name] = commentsAbove(f, d.Pos())
		case *ast.ValueSpec:
			if d.Tok != token.CONST || len(spec.Values) != 1 {
				continue
			}
			typ, value := spec.Type, spec.Values[0]
			if call, ok := value.(*ast.CallExpr); ok && len(call.Args) == 1 { // Type(value)
				typ, value = call.Fun, call.Args[0]
			}
			if typ, ok := typ.(*ast.Ident); ok {
				s.values[typ.Name] = append(s.values[typ.Name], value)
			}
			if v, ok := value.(*ast.BasicLit); ok {
				s.consts[spec.Names[0].Name] = strings.Trim(v.Value, `"`)
			}
		}
	}
}

// enum returns the values of a type's constants in the order of Kubernetes'
// document. Those of another package are taken from core/v1.
func (s source) enum(t *testing.T, typ string) []string {
	var list []string
	for _, value := range s.values[typ] {
		switch value := value.(type) {
		case *ast.BasicLit:
			list = append(list, strings.Trim(value.Value, `"`))
		case *ast.SelectorExpr:
			v, ok := readSource(t, "k8s.io/api/core/v1").consts[value.Sel.Name]
			if !ok {
				t.Fatalf("%s has a value %s that is not known", typ, value.Sel.Name)
			}
			list = append(list, v)
		default:
			t.Fatalf("%s has a value of a kind that is not known: %T", typ, value)
		}
	}
	slices.Sort(list)
	return list
}

// commentsAbove returns the comments before pos up to the declaration before:
// markers often stand apart from the documentation.
func commentsAbove(f *ast.File, pos token.Pos) string {
	var after token.Pos
	for _, d := range f.Decls {
		if d.End() < pos {
			after = d.End()
		}
	}
	var text strings.Builder
	for _, c := range f.Comments {
		if c.Pos() > after && c.End() < pos {
			for _, line := range c.List {
				text.WriteString(line.Text + "\n")
			}
		}
	}
	return text.String()
}

var marker = regexp.MustCompile(`(?m)^\s*//\s*\+(listType|listMapKey|structType|mapType|optional|required|default|enum)(?:=(\S+))?\s*$`)

func markersIn(comment string) []string {
	var list []string
	for _, m := range marker.FindAllStringSubmatch(comment, -1) {
		word := m[1]
		if m[2] != "" {
			word += "=" + m[2]
		}
		if strings.HasPrefix(word, "default=ref(") || word == "default" || slices.Contains(list, word) {
			continue // the name of a constant
		}
		list = append(list, word)
	}
	return list
}

// markers adds those of a type and of its fields.
func (s source) markers(t *testing.T, typ reflect.Type, found map[string][]string) {
	spec := s.types[typ.Name()]
	if spec == nil {
		return
	}
	name := modelName(typ)
	for _, m := range markersIn(s.docs[typ.Name()]) {
		switch {
		case m == "enum":
			found[name] = append(found[name], "enum="+strings.Join(s.enum(t, typ.Name()), ","))
		case strings.HasPrefix(m, "structType"), strings.HasPrefix(m, "mapType"):
			found[name] = append(found[name], m)
		}
	}
	fields, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range fields.Fields.List {
		if f.Tag == nil || f.Doc == nil {
			continue
		}
		tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json")
		jsonName, _, _ := strings.Cut(tag, ",")
		var doc strings.Builder
		for _, line := range f.Doc.List {
			doc.WriteString(line.Text + "\n")
		}
		if list := markersIn(doc.String()); jsonName != "" && len(list) > 0 {
			found[name+"."+jsonName] = list
		}
	}
}
