package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/registry"
)

func TestFormats(t *testing.T) {
	f := newFake(t, finance)
	file := func(name, content string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tests := map[string]struct {
		args []string
		want result
	}{
		"of one":        {[]string{"svc", "empty", "-o", "jsonpath={.spec.clusterIP}"}, result{0, "10.96.111.62", ""}},
		"of a list":     {[]string{"svc", "-o", "jsonpath={.items[*].metadata.name}"}, result{0, "empty payment-service", ""}},
		"filtered":      {[]string{"svc", "payment-service", "-o", `jsonpath={.spec.ports[?(@.name=="dns")].port}{"\n"}`}, result{0, "53\n", ""}},
		"nothing there": {[]string{"svc", "empty", "-o", "jsonpath={.spec.nope}"}, result{0, "", ""}},
		"as json":       {[]string{"svc", "empty", "-o", "jsonpath-as-json={.spec.ports[*].port}"}, result{0, "[\n    80\n]\n", ""}},
		"out of a file": {[]string{"svc", "empty", "-o", "jsonpath-file=" + file("path", "{.metadata.name}")}, result{0, "empty", ""}},
		"without the file": {[]string{"svc", "empty", "-o", "jsonpath-file=/none"}, result{1, "",
			"error: error reading --template /none, open /none: no such file or directory\n"}},
		"template":               {[]string{"svc", "payment-service", "-o", "go-template={{range .spec.ports}}{{.port}} {{end}}"}, result{0, "80 53 ", ""}},
		"template of its own":    {[]string{"svc", "empty", "--template", "{{.metadata.name}}"}, result{0, "empty", ""}},
		"template out of a file": {[]string{"svc", "empty", "-o", "templatefile", "--template", file("t", "{{.kind}}")}, result{0, "Service", ""}},
		"template functions": {[]string{"svc", "payment-service", "-o",
			`go-template={{exists . "spec" "ports" 1 "name"}} {{exists . "spec" "ports" 2}} {{exists .kind "x"}} {{base64decode "aGk="}}`}, result{0, "true false false hi", ""}},
		"template without a key": {[]string{"svc", "empty", "-o", "go-template={{.nope}}", "--allow-missing-template-keys=false"}, result{1, "",
			"error: error executing template \"{{.nope}}\": template: output:1:2: executing \"output\" at <.nope>: map has no entry for key \"nope\"\n"}},
		"columns": {[]string{"svc", "-o", "custom-columns=NAME:.metadata.name,PORTS:{.spec.ports[*].port},APP:spec.selector.app"}, result{0,
			"NAME              PORTS   APP\nempty             80      <none>\npayment-service   80,53   payment\n", ""}},
		"columns alone":      {[]string{"svc", "--no-headers", "-o", "custom-columns=N:metadata.name"}, result{0, "empty\npayment-service\n", ""}},
		"columns of nothing": {[]string{"svc", "-l", "a=b", "-o", "custom-columns=N:metadata.name"}, result{0, "N\n", ""}},
		"columns out of a file": {[]string{"svc", "-o", "custom-columns-file=" + file("c", "A  B\nmetadata.name .kind\n")}, result{0,
			"A                 B\nempty             Service\npayment-service   Service\n", ""}},
		"columns without paths": {[]string{"svc", "-o", "custom-columns-file=" + file("c", "A  B\n")}, result{1, "",
			"error: invalid template, missing spec line. Expected format is one line of space separated headers, one line of space separated column specs.\n"}},
		"columns without headers": {[]string{"svc", "-o", "custom-columns-file=" + file("c", "")}, result{1, "",
			"error: invalid template, missing header line. Expected format is one line of space separated headers, one line of space separated column specs.\n"}},
		"columns that do not match": {[]string{"svc", "-o", "custom-columns-file=" + file("c", "A B\n.a")}, result{1, "",
			"error: number of headers (2) and field specifications (1) don't match\n"}},
		"not there": {[]string{"svc", "nope", "-o", "jsonpath={.a}"}, result{4, "", "Error from server (NotFound): services \"nope\" not found\n"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := f.usher(t, "", append([]string{"get", "-n", "finance"}, tt.args...)...)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Every command that writes prints what it wrote in these formats.
func TestWriteFormats(t *testing.T) {
	f := newFake(t, "")
	got := f.usher(t, service("web", ""), "apply", "-f", "-", "-o", "jsonpath={.spec.clusterIP}")
	if diff := cmp.Diff(result{0, "10.96.1.1", ""}, got, cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Who owns the fields is for programs.
func TestManagedFields(t *testing.T) {
	f := newFake(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, managedFields: [{manager: me}]}\n")
	for flag, want := range map[string]bool{"--show-managed-fields=false": false, "--show-managed-fields": true} {
		for _, format := range []string{"yaml", "json"} {
			got := f.usher(t, "", "get", "ns", "a", "-o", format, flag)
			if strings.Contains(got.stdout, "managedFields") != want {
				t.Errorf("%s %s: %+v", format, flag, got)
			}
		}
	}
	if got := f.usher(t, "", "get", "svc", "-o", "json", "--show-managed-fields"); !strings.Contains(got.stdout, `"items": []`) {
		t.Errorf("an empty list: %+v", got)
	}
	if got := f.usher(t, "", "get", "ns", "a", "-o", "jsonpath={.metadata.managedFields[0].manager}"); got.stdout != "me" {
		t.Errorf("a path: %+v", got)
	}
}

// With -w the headers of columns come once.
func TestColumnsWatch(t *testing.T) {
	f := newFake(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n")
	out, _ := f.start(t, "get", "ns", "-w", "-o", "custom-columns=NAME:metadata.name")
	out.await(t, "NAME\na\n")
	f.remove(registry.Key{Kind: registry.Namespaces, Name: "a"})
	out.await(t, "NAME\na\na\n")
}
