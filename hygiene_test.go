package main

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A goPackage is what `go list` says of one.
type goPackage struct {
	ImportPath, Dir string
	Imports         []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Imports", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// TestImports checks that imports go one way, and that each third party stays
// behind its fence.
func TestImports(t *testing.T) {
	fences := []struct {
		imports *regexp.Regexp
		allowed []string // packages, below "usher"
		reason  string
	}{
		{regexp.MustCompile(`^go\.etcd\.io/`), []string{"registry/etcd"},
			"only registry/etcd knows etcd, so that all else can be tested without it"},
		{regexp.MustCompile(`^github\.com/hashicorp/go-memdb`), []string{"registry"},
			"the Store is the seam; how it keeps its rows is its own matter"},
		{regexp.MustCompile(`^github\.com/spf13/viper`), []string{"internal/config"},
			"viper folds the case of keys, which would change labels"},
		{regexp.MustCompile(`^github\.com/soheilhy/cmux`), []string{"internal/api"},
			"cmux hides *net.TCPConn and waits for the client to speak: control port only"},
		{regexp.MustCompile(`netlink$`), []string{"internal/vip"},
			"routes are made in one place, and taken back there"},
		{regexp.MustCompile(`^github\.com/miekg/dns`), []string{"internal/dns"},
			"DNS messages are one package's matter"},
		{regexp.MustCompile(`go-proxyproto$`), []string{"proxy"},
			"PROXY headers are the data path's matter"},
		{regexp.MustCompile(`^github\.com/fsnotify/fsnotify`), []string{"internal/up"},
			"files are followed in one place; the daemon reads its own once"},
		{regexp.MustCompile(`^k8s\.io/client-go/([^u]|util/([^cj]|c[^s]))`), nil,
			"the API is asked by internal/client; of client-go only util/csaupgrade and util/jsonpath are linked"},
		{regexp.MustCompile(`^k8s\.io/client-go/util/csaupgrade`), []string{"internal/api"},
			"who manages a field is the API's matter"},
		{regexp.MustCompile(`^k8s\.io/client-go/util/jsonpath|^github\.com/rogpeppe/go-internal/diff`), []string{"internal/cli"},
			"paths into objects and differences of texts are for those who read them; the latter is the diff of the Go project"},
		{regexp.MustCompile(`^usher/internal/cli$`), []string{""},
			"the command line is on top"},
		{regexp.MustCompile(`^usher/internal/`), []string{"", "internal/"},
			"the packages at the root are what the rest is built on"},
		{regexp.MustCompile(`^usher/`), []string{"", "internal/", "balancer", "proxy", "registry/etcd"},
			"the registry and the packages next to the system know nothing of ours"},
	}
	ours := map[string][]string{
		"balancer":      {"registry"},
		"proxy":         {"registry", "balancer"},
		"registry":      {},
		"registry/etcd": {"registry"},
		"internal/dns":  {"registry"},
		"internal/vip":  {},
	}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, "usher"), "/")
		for _, imported := range p.Imports {
			for _, f := range fences {
				if !f.imports.MatchString(imported) {
					continue
				}
				if !slices.ContainsFunc(f.allowed, func(a string) bool {
					return name == a || strings.HasSuffix(a, "/") && strings.HasPrefix(name, a)
				}) {
					t.Errorf("%s imports %s: %s", p.ImportPath, imported, f.reason)
				}
			}
			if may, ok := ours[name]; ok && strings.HasPrefix(imported, "usher/") &&
				!slices.Contains(may, strings.TrimPrefix(imported, "usher/")) {
				t.Errorf("%s imports %s, and may import %q of ours", p.ImportPath, imported, may)
			}
		}
	}
}

// TestPackageDocs checks that each package says, in one place, what it is.
func TestPackageDocs(t *testing.T) {
	for _, p := range packages(t) {
		files, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		var documented []string
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				documented = append(documented, filepath.Base(file))
			}
		}
		if len(documented) != 1 {
			t.Errorf("%s is documented in %q, want one file", p.ImportPath, documented)
		}
	}
}

// TestModule checks that the module can be built by others as it is here.
func TestModule(t *testing.T) {
	data, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "\nreplace ") {
		t.Error("go.mod has a replace directive")
	}
}

// TestFileSizes keeps files to what can be read in one go.
func TestFileSizes(t *testing.T) {
	const longest = 450
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		if n := strings.Count(string(data), "\n"); n > longest {
			t.Errorf("%s has %d lines", path, n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
