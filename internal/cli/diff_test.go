package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/registry"
)

var timePattern = regexp.MustCompile(`"2[-0-9]+T[:0-9]+Z"`)

func TestDiff(t *testing.T) {
	f := newFake(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {tier: front}, managedFields: [{manager: me}]}\nspec: {finalizers: [kubernetes]}\n")
	namespace := func(labels string) string {
		return "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {" + labels + "}}\nspec: {finalizers: [kubernetes]}\n---\n"
	}
	const other = "apiVersion: v1\nkind: Namespace\nmetadata: {name: B}\n"
	tests := map[string]struct {
		in   string
		code int
		want string // in what is printed
	}{
		"the same": {namespace("tier: front, kubernetes.io/metadata.name: a"), 0, ""},
		"another": {namespace("tier: back, kubernetes.io/metadata.name: a"), 1, `diff LIVE/v1.Namespace..a MERGED/v1.Namespace..a
--- LIVE/v1.Namespace..a
+++ MERGED/v1.Namespace..a
@@ -4,7 +4,7 @@
   creationTimestamp: TIME
   labels:
     kubernetes.io/metadata.name: a
-    tier: front
+    tier: back
   name: a
`},
		"new":             {service("web", ""), 1, "--- LIVE/v1.Service.default.web\n+++ MERGED/v1.Service.default.web\n@@ -0,0 +1,"},
		"with a group":    {"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s}\naddressType: IPv4\n", 1, "MERGED/discovery.k8s.io.v1.EndpointSlice.default.s\n"},
		"wrong":           {other, 2, "The Namespace \"B\" is invalid: metadata.name: "},
		"one is refused":  {service("web", "") + strings.Replace(namespace(""), "name: a", `name: a, resourceVersion: "99"`, 1), 2, "Error from server (Conflict): "},
		"nothing to read": {"---\n", 0, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := f.usher(t, tt.in, "diff", "-f", "-")
			text := timePattern.ReplaceAllString(got.stdout+got.stderr, "TIME")
			if got.code != tt.code || !strings.Contains(text, tt.want) || tt.want == "" && text != "" {
				t.Errorf("exit code %d, want %d and %q:\n%s", got.code, tt.code, tt.want, text)
			}
		})
	}
	if f.Snapshot().Get(key(registry.Services, "web")) != nil {
		t.Error("it is there now")
	}
}

// Without a daemon there is no difference to speak of: the exit code is not 1.
func TestDiffWithoutDaemon(t *testing.T) {
	got := usher(t, map[string]string{"USHER_SERVER": "unix:/nonexistent"}, service("a", ""), "diff", "-f", "-")
	if got.code != exitTrouble || !strings.Contains(got.stderr, "the daemon is not running") {
		t.Errorf("%+v", got)
	}
}

func TestDiffProgram(t *testing.T) {
	f := newFake(t, "")
	program := filepath.Join(t.TempDir(), "compare")
	const script = "#!/bin/sh\ncase $1 in --exit=*) echo \"$# $(ls $3)\"; exit ${1#--exit=};; esac\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		environ map[string]string
		want    result
	}{
		"the same":  {map[string]string{"USHER_EXTERNAL_DIFF": program + " --exit=0"}, result{0, "3 v1.Service.default.web\n", ""}},
		"different": {map[string]string{"KUBECTL_EXTERNAL_DIFF": program + " --exit=1"}, result{1, "3 v1.Service.default.web\n", ""}},
		"ours wins": {map[string]string{"USHER_EXTERNAL_DIFF": program + " --exit=0", "KUBECTL_EXTERNAL_DIFF": "/none"}, result{0, "3 v1.Service.default.web\n", ""}},
		"in trouble": {map[string]string{"USHER_EXTERNAL_DIFF": program + " --exit=7"},
			result{2, "3 v1.Service.default.web\n", "error: failed to run \"" + program + "\": exit status 7\n"}},
		"no shell is asked": {map[string]string{"USHER_EXTERNAL_DIFF": program + " --exit=0 ;rm $HOME"}, result{0, "3 v1.Service.default.web\n", ""}},
		"not there":         {map[string]string{"USHER_EXTERNAL_DIFF": "/none"}, result{2, "", "error: failed to run \"/none\": fork/exec /none: no such file or directory\n"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.environ["USHER_SERVER"] = f.server
			got := usher(t, tt.environ, service("web", ""), "diff", "-f", "-")
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
