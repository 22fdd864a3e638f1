package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"usher/registry"
)

// service returns the manifest of a Service with a port, and more of a spec.
func service(name, more string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {ports: [{port: 80}]%s}\n---\n", name, more)
}

func key(k *registry.Kind, name string) registry.Key {
	return registry.Key{Kind: k, Namespace: "default", Name: name}
}

func TestApply(t *testing.T) {
	f := newFake(t, "")
	web := service("web", "")
	steps := []struct {
		name, in string
		args     []string
		want     result
	}{
		{"new", web, nil, result{0, "service/web created (10.96.1.1)\n", ""}},
		{"the same", web, nil, result{0, "service/web unchanged\n", ""}},
		{"another", service("web", ", sessionAffinity: ClientIP"), nil, result{0, "service/web configured\n", ""}},
		{"headless", service("none", ", clusterIP: None"), nil, result{0, "service/none created\n", ""}},
		{"several", web + service("api", ""), nil, result{0, "service/web configured\nservice/api created (10.96.1.1)\n", ""}},
		{"by name", web, []string{"-o", "name"}, result{0, "service/web\n", ""}},
		{"a namespace", service("web", ""), []string{"-n", "finance"}, result{0, "service/web created (10.96.1.1)\n", ""}},
		{"a kind with a group", "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a}\naddressType: IPv4\n", nil,
			result{0, "endpointslice.discovery.k8s.io/a created\n", ""}},
		{"a name to be made", "apiVersion: v1\nkind: Service\nmetadata: {generateName: a-}\nspec: {ports: [{port: 80}]}", nil,
			result{1, "", "error: from a-: cannot use generate name; use create\n  in \"STDIN\"\n"}},
	}
	for _, s := range steps {
		if diff := cmp.Diff(s.want, f.usher(t, s.in, append([]string{"apply", "-f", "-"}, s.args...)...), cmp.AllowUnexported(result{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.name, diff)
		}
	}
	if f.Snapshot().Service("finance", "web") == nil {
		t.Error("-n was not heeded")
	}
}

func TestNoObjects(t *testing.T) {
	f := newFake(t, "")
	for _, verb := range []string{"apply", "create", "replace"} {
		want := result{1, "", "error: no objects passed to " + verb + "\n"}
		if diff := cmp.Diff(want, f.usher(t, "---\n", verb, "-f", "-"), cmp.AllowUnexported(result{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", verb, diff)
		}
	}
}

// What is printed with -o is one document, however many objects there are.
func TestApplyOutput(t *testing.T) {
	f := newFake(t, "")
	for in, want := range map[string]string{service("a", ""): "kind: Service\n", service("a", "") + service("b", ""): "kind: List\n"} {
		got := f.usher(t, in, "apply", "-f", "-", "-o", "yaml")
		if !strings.Contains("\n"+got.stdout, "\n"+want) || strings.Count("\n"+got.stdout, "\nkind: ") != 1 {
			t.Errorf("got %+v, want one %q", got, want)
		}
	}
}

// Those that are created or replaced are each printed by itself.
func TestEachOutput(t *testing.T) {
	f := newFake(t, "")
	in := service("a", "") + service("b", "")
	for _, tt := range []struct {
		verb, output, want string // in what is printed
	}{
		{"create", "jsonpath={.metadata.name} ", "a b "},
		{"replace", "jsonpath={.metadata.name} ", "a b "},
		{"replace", "yaml", "\n---\napiVersion: v1\nkind: Service\n"},
	} {
		got := f.usher(t, in, tt.verb, "-f", "-", "-o", tt.output)
		if got.code != 0 || !strings.Contains(got.stdout, tt.want) || strings.Contains(got.stdout, "List") {
			t.Errorf("%s -o %s: %+v, want %q", tt.verb, tt.output, got, tt.want)
		}
	}
}

// Of several objects one is wrong, so none is sent, and all that is wrong is
// said.
func TestApplyNothingHalf(t *testing.T) {
	f := newFake(t, "")
	in := service("fine", "") + "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 0, targetPort: 1}]}\n" +
		"---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {kontainers: []}\n" +
		"---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n---\n{a: b}\n---\n[5]\n"
	want := result{1, "", `The Service "bad" is invalid: spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive
  in "STDIN" (document 2)
Error from server (BadRequest): error when applying "STDIN" (document 3): Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.kontainers"
error: resource mapping not found for name: "d" namespace: "" from "STDIN" (document 4): no matches for kind "Deployment" in version "apps/v1"
  usher has: Service, Pod, EndpointSlice, Endpoints, Event, Namespace, Node, IPAddress, ServiceCIDR, NodePort
Error from server (BadRequest): error when applying "STDIN" (document 5): Object 'Kind' is missing in '{"a":"b"}'
Error from server (BadRequest): error when applying "STDIN" (document 6): '[5]' is not an object
`}
	if diff := cmp.Diff(want, f.usher(t, in, "apply", "-f", "-"), cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(f.requests) > 0 {
		t.Errorf("requests %q", f.requests)
	}
}

// The server may refuse an object that looks right: the others are applied.
func TestApplyGoesOn(t *testing.T) {
	f := newFake(t, "")
	f.usher(t, service("a", ""), "create", "-f", "-")
	got := f.usher(t, service("a", "")+service("d", ""), "create", "-f", "-")
	want := result{1, "service/d created (10.96.1.1)\n", "Error from server (AlreadyExists): error when creating \"STDIN\" (document 1): services \"a\" already exists\n"}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Others create and delete the object at the same time.
func TestApplyRaces(t *testing.T) {
	f := newFake(t, "")
	f.intrude = func() { // between the question whether it exists and the write
		obj, err := registry.DecodeStrict(registry.Services, []byte("metadata: {name: web, namespace: default}\nspec: {ports: [{port: 81}]}"))
		if err != nil {
			t.Error(err)
			return
		}
		f.put(obj)
	}
	if diff := cmp.Diff(result{0, "service/web configured\n", ""}, f.usher(t, service("web", ""), "apply", "-f", "-"), cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("created by another (-want +got):\n%s", diff)
	}
	f.intrude = func() { f.remove(key(registry.Services, "web")) }
	if diff := cmp.Diff(result{0, "service/web created (10.96.1.1)\n", ""}, f.usher(t, service("web", ""), "apply", "-f", "-"), cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("deleted by another (-want +got):\n%s", diff)
	}
	stale := strings.Replace(service("web", ""), "{name: web}", `{name: web, resourceVersion: "1"}`, 1)
	if got := f.usher(t, stale, "apply", "-f", "-"); got.code != 1 || !strings.HasPrefix(got.stderr, "Error from server (Conflict): ") {
		t.Errorf("stale: %+v", got)
	}
}

// There is no kubelet: the status of a Pod may be said.
func TestApplyPod(t *testing.T) {
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p%s}\nspec: {containers: [{name: c, image: i}]}\n%s"
	f := newFake(t, fmt.Sprintf(pod, ", namespace: default", ""))
	got := f.usher(t, fmt.Sprintf(pod, "", "status: {phase: Running, podIP: 10.1.0.5}\n"), "apply", "-f", "-")
	if diff := cmp.Diff(result{0, "pod/p configured\n", ""}, got, cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	p := f.Snapshot().Get(key(registry.Pods, "p")).(*corev1.Pod)
	if p.Status.PodIP != "10.1.0.5" {
		t.Errorf("status %v", p.Status)
	}
}

// A dry run says what both parts of it would do, each of which knows nothing
// of the other.
func TestApplyPodDry(t *testing.T) {
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: default, labels: {a: %s}}\nspec: {containers: [{name: c, image: i}]}\nstatus: {phase: %s}\n"
	f := newFake(t, fmt.Sprintf(pod, "old", "Pending"))
	got := f.usher(t, fmt.Sprintf(pod, "new", "Running"), "apply", "-f", "-", "--dry-run=server", "-o", "jsonpath={.metadata.labels.a} {.status.phase}")
	if diff := cmp.Diff(result{0, "new Running", ""}, got, cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReplace(t *testing.T) {
	f := newFake(t, "")
	want := result{4, "", "Error from server (NotFound): error when replacing \"STDIN\": services \"web\" not found\n"}
	if diff := cmp.Diff(want, f.usher(t, service("web", ""), "replace", "-f", "-"), cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	f.usher(t, service("web", ""), "create", "-f", "-")
	want = result{0, "service/web replaced\n", ""}
	if diff := cmp.Diff(want, f.usher(t, service("web", ""), "replace", "-f", "-"), cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Without a daemon that is said once, not for each object.
func TestApplyWithoutDaemon(t *testing.T) {
	got := usher(t, map[string]string{"USHER_SERVER": "unix:/nonexistent"}, service("a", "")+service("b", ""), "apply", "-f", "-")
	if got.code != 1 || strings.Count(got.stderr, "the daemon is not running") != 1 {
		t.Errorf("%+v", got)
	}
}

func TestNamespaces(t *testing.T) {
	f := newFake(t, "")
	in := strings.Replace(service("web", ""), "{name: web}", "{name: web, namespace: finance}", 1)
	got := f.usher(t, in, "apply", "-f", "-", "-n", "other")
	if got.code != 1 || !strings.Contains(got.stderr, `the namespace from the provided object "finance" does not match the namespace "other".`) {
		t.Errorf("another namespace by -n: %+v", got)
	}
	environ := map[string]string{"USHER_SERVER": f.server, "USHER_NAMESPACE": "other"}
	if got := usher(t, environ, in+service("web", ""), "apply", "-f", "-"); got.code != 0 {
		t.Errorf("another namespace by the environment: %+v", got)
	}
	for _, namespace := range []string{"finance", "other"} {
		if f.Snapshot().Service(namespace, "web") == nil {
			t.Errorf("nothing in %s", namespace)
		}
	}
	if got := usher(t, environ, "", "get", "svc", "-o", "name", "-n", "finance"); got.stdout != "service/web\n" {
		t.Errorf("the flag does not win: %+v", got)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"b.yaml": service("b", ""), "a.yml": service("a", ""), "notes.txt": "no manifest", "c.json": `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"c"}}`,
		"sub/d.yaml": service("d", ""), "empty/notes.txt": "",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		args string
		code int
		want string
	}{
		{"-f .", 0, "service/a\nservice/b\nnamespace/c\n"},
		{"-R -f .", 0, "service/a\nservice/b\nnamespace/c\nservice/d\n"},
		{"-f b.yaml -f a.yml", 0, "service/b\nservice/a\n"},
		{"-f - -f c.json", 0, "service/stdin\nnamespace/c\n"},
		{"-f empty", 1, "recognized file extensions are"},
		{"-f none -f nor", 1, "error: the path \"none\" does not exist\nerror: the path \"nor\" does not exist\n"},
		{"-f notes.txt", 1, "'\"no manifest\"' is not an object"},
	}
	t.Chdir(dir)
	for _, tt := range tests {
		f := newFake(t, "")
		got := f.usher(t, service("stdin", ""), append([]string{"apply", "-o", "name"}, strings.Fields(tt.args)...)...)
		if got.code != tt.code || !strings.Contains(got.stdout+got.stderr, tt.want) {
			t.Errorf("apply %s: %+v, want %q", tt.args, got, tt.want)
		}
	}
}
