package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"usher/registry"
)

// finance has a bit of each Kind.
const finance = `
apiVersion: v1
kind: Service
metadata: {name: payment-service, namespace: finance, labels: {app: payment, tier: back}, annotations: {note: "hi there"}}
spec:
  clusterIP: 10.96.37.195
  clusterIPs: [10.96.37.195]
  ipFamilies: [IPv4]
  ipFamilyPolicy: SingleStack
  selector: {app: payment}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: dns, port: 53, protocol: UDP, targetPort: dns}]
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: finance}
spec: {clusterIP: 10.96.111.62, clusterIPs: [10.96.111.62], ipFamilies: [IPv4], ipFamilyPolicy: SingleStack, ports: [{port: 80, targetPort: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: other}
spec: {clusterIP: 10.96.111.63, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: p1, namespace: finance, labels: {app: payment}}
spec: {nodeName: node-1, containers: [{name: c, image: i, ports: [{name: dns, containerPort: 5353, protocol: UDP}], env: [{name: A, value: b}]}]}
status: {phase: Running, podIP: 10.1.0.5, podIPs: [{ip: 10.1.0.5}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: p2, namespace: finance, labels: {app: payment}}
spec: {containers: [{name: c, image: i}]}
status: {phase: Running, podIP: 10.1.0.6, podIPs: [{ip: 10.1.0.6}], conditions: [{type: Ready, status: "False", reason: ContainersNotReady, message: not yet}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: finance}
status: {phase: Active}
`

func TestGet(t *testing.T) {
	f := newFake(t, finance)
	tests := []struct {
		args string
		want result
	}{
		{"svc -n finance", result{0, `NAME              TYPE        CLUSTER-IP     EXTERNAL-IP   PORT(S)         READY   AGE
empty             ClusterIP   10.96.111.62   <none>        80/TCP          0/0     2d2h
payment-service   ClusterIP   10.96.37.195   <none>        80/TCP,53/UDP   1/2     2d2h
`, ""}},
		{"svc,pods -A", result{0, `NAMESPACE   NAME                      TYPE        CLUSTER-IP     EXTERNAL-IP   PORT(S)         READY   AGE
finance     service/empty             ClusterIP   10.96.111.62   <none>        80/TCP          0/0     2d2h
finance     service/payment-service   ClusterIP   10.96.37.195   <none>        80/TCP,53/UDP   1/2     2d2h
other       service/empty             ClusterIP   10.96.111.63   <none>        80/TCP          0/0     2d2h

NAMESPACE   NAME     READY   STATUS    RESTARTS   AGE
finance     pod/p1   1/1     Running   0          2d2h
finance     pod/p2   0/1     Running   0          2d2h
`, ""}},
		{"po p1 -n finance -o wide", result{0, `NAME   READY   STATUS    RESTARTS   AGE    IP         NODE     NOMINATED NODE   READINESS GATES
p1     1/1     Running   0          2d2h   10.1.0.5   node-1   <none>           <none>
`, ""}},
		{"pod/p2 svc/empty -n finance --no-headers", result{0, "pod/p2   0/1   Running   0     2d2h\n\nservice/empty   ClusterIP   10.96.111.62   <none>   80/TCP   0/0   2d2h\n", ""}},
		{"svc -n finance --show-labels", result{0, `NAME              TYPE        CLUSTER-IP     EXTERNAL-IP   PORT(S)         READY   AGE    LABELS
empty             ClusterIP   10.96.111.62   <none>        80/TCP          0/0     2d2h   <none>
payment-service   ClusterIP   10.96.37.195   <none>        80/TCP,53/UDP   1/2     2d2h   app=payment,tier=back
`, ""}},
		{"po p1 -n finance -o wide --show-labels --no-headers", result{0, "p1    1/1   Running   0     2d2h   10.1.0.5   node-1   <none>   <none>   app=payment\n", ""}},
		{"svc -n finance -L tier,example.org/nope --no-headers", result{0, `empty             ClusterIP   10.96.111.62   <none>   80/TCP          0/0   2d2h          
payment-service   ClusterIP   10.96.37.195   <none>   80/TCP,53/UDP   1/2   2d2h   back   
`, ""}},
		{"po p1 -n finance -L app -L example.org/role --show-labels --show-kind", result{0, `NAME     READY   STATUS    RESTARTS   AGE    APP       ROLE   LABELS
pod/p1   1/1     Running   0          2d2h   payment          app=payment
`, ""}},
		{"pods -n finance -l app=none", result{0, "", "No resources found in finance namespace.\n"}},
		{"pods", result{0, "", "No resources found in default namespace.\n"}},
		{"nodes", result{0, "", "No resources found\n"}},
		{"events -A", result{0, "", "No resources found\n"}},
		{"pods -n finance --field-selector metadata.name=p2 -o name", result{0, "pod/p2\n", ""}},
		{"pods -n finance -o name -l app", result{0, "pod/p1\npod/p2\n", ""}},
		{"svc none empty -n finance --no-headers", result{4, "empty   ClusterIP   10.96.111.62   <none>   80/TCP   0/0   2d2h\n",
			"Error from server (NotFound): services \"none\" not found\n"}},
		{"svc none --ignore-not-found", result{0, "", ""}},
		{"svc none --ignore-not-found -o yaml", result{0, "", ""}},
		{"svc none -o yaml", result{4, "", "Error from server (NotFound): services \"none\" not found\n"}},
		{"widgets", result{1, "", "error: the server doesn't have a resource type \"widgets\"\n"}},
		{"ns -l a=b=c", result{1, "", "Error from server (BadRequest): found '=', expected: ',' or 'end of string'\n"}},
		{"ns finance -o yaml", result{0, `apiVersion: v1
kind: Namespace
metadata:
  creationTimestamp: TIME
  labels:
    kubernetes.io/metadata.name: finance
  name: finance
  resourceVersion: "7"
  uid: uid-7
spec: {}
status:
  phase: Active
`, ""}},
		{"pods -n none -o json", result{0, `{
    "apiVersion": "v1",
    "items": [],
    "kind": "List",
    "metadata": {
        "resourceVersion": ""
    }
}
`, ""}},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			got := f.usher(t, "", append([]string{"get"}, strings.Fields(tt.args)...)...)
			if obj := f.Snapshot().Get(registry.Key{Kind: registry.Namespaces, Name: "finance"}); obj != nil {
				created := obj.GetCreationTimestamp()
				got.stdout = strings.ReplaceAll(got.stdout, created.UTC().Format(`"2006-01-02T15:04:05Z"`), "TIME")
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// -f asks for the objects of manifests, each in its own namespace, whatever
// else the manifests say of them.
func TestGetFiles(t *testing.T) {
	f := newFake(t, finance)
	const (
		head    = "NAME    TYPE        CLUSTER-IP     EXTERNAL-IP   PORT(S)   READY   AGE\n"
		other   = "empty   ClusterIP   10.96.111.63   <none>        80/TCP    0/0     2d2h\n"
		another = "empty   ClusterIP   10.96.111.62   <none>        80/TCP    0/0     2d2h\n"
	)
	manifest := func(kind, namespace, name string) string {
		return fmt.Sprintf("{apiVersion: v1, kind: %s, metadata: {name: %s, namespace: %s}, spec: {portz: 1}}\n---\n", kind, name, namespace)
	}
	tests := map[string]struct {
		input, args string
		want        result
	}{
		"one":             {manifest("Service", "other", "empty"), "", result{0, head + other, ""}},
		"two namespaces":  {manifest("Service", "other", "empty") + manifest("Service", "finance", "empty"), "", result{0, head + other + another, ""}},
		"of the request":  {manifest("Service", `""`, "empty"), "-n other --no-headers", result{0, "empty   ClusterIP   10.96.111.63   <none>   80/TCP   0/0   2d2h\n", ""}},
		"another request": {manifest("Service", "other", "empty"), "-n finance", result{1, "", `error: the namespace from the provided object "other" does not match the namespace "finance". You must pass '--namespace=other' to perform this operation.` + "\n  in \"STDIN\"\n"}},
		"two kinds":       {manifest("Pod", "finance", "p2") + manifest("Service", "other", "empty"), "-o name", result{0, "pod/p2\nservice/empty\n", ""}},
		"not there": {manifest("Service", "other", "none") + manifest("Pod", "finance", "p1"), "-o name",
			result{4, "pod/p1\n", "Error from server (NotFound): services \"none\" not found\n"}},
		"nothing": {"# nothing\n", "-o yaml", result{0, "", "No resources found in default namespace.\n"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := f.usher(t, tt.input, append([]string{"get", "-f", "-"}, strings.Fields(tt.args)...)...)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	path := filepath.Join(t.TempDir(), "pod.yaml")
	if err := os.WriteFile(path, []byte(manifest("Pod", "finance", "p1")), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := f.start(t, "get", "-f", path, "-w", "-o", "name")
	out.await(t, "pod/p1\n")
}

// What one object is asked for by name is that object; all else is a List,
// even of one.
func TestGetList(t *testing.T) {
	f := newFake(t, finance)
	for args, want := range map[string]string{
		"ns finance":              "Namespace",
		"ns":                      "List",
		"ns finance none":         "List",
		"svc,pods -n finance":     "List",
		"pod/p1 pod/p2":           "", // none of them is in this namespace
		"pod/p1 svc/x -n finance": "List",
	} {
		got := f.usher(t, "", append([]string{"get", "-o", "json"}, strings.Fields(args)...)...)
		if kind := "\n    \"kind\": \"" + want + "\","; want != "" && !strings.Contains(got.stdout, kind) || want == "" && got.stdout != "" {
			t.Errorf("get %s: %+v, want a %q", args, got, want)
		}
	}
}

// What get prints, apply takes.
func TestGetApply(t *testing.T) {
	f := newFake(t, finance)
	for _, format := range []string{"json", "yaml"} {
		got := f.usher(t, "", "get", "svc,pods,ns", "-A", "-o", format)
		if got.code != 0 {
			t.Fatal(got)
		}
		applied := f.usher(t, got.stdout, "apply", "-f", "-")
		if want := 6; applied.code != 0 || strings.Count(applied.stdout, " unchanged\n") != want {
			t.Errorf("%s: %+v, want %d unchanged", format, applied, want)
		}
	}
}

func TestGetWatch(t *testing.T) {
	f := newFake(t, "")
	out, stop := f.start(t, "get", "svc", "-w")
	f.waitWatches(t, 1)
	apply := func(in string) {
		t.Helper()
		if got := f.usher(t, in, "apply", "-f", "-"); got.code != 0 {
			t.Fatal(got)
		}
	}
	apply(service("web", ""))
	const first = `NAME   TYPE        CLUSTER-IP   EXTERNAL-IP   PORT(S)   READY   AGE
web    ClusterIP   10.96.1.1    <none>        80/TCP    0/0     2d2h
`
	out.await(t, first)
	apply(service("a-longer-name", ", clusterIP: None"))
	out.await(t, first+"a-longer-name   ClusterIP   None         <none>        80/TCP    0/0     2d2h\n")
	if code := stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	out, _ = f.start(t, "get", "svc", "web", "-w", "--show-kind", "--no-headers")
	out.await(t, "service/web   ClusterIP   10.96.1.1   <none>   80/TCP   0/0   2d2h\n")
}

// What is at a path of the API is printed as it is.
func TestGetRaw(t *testing.T) {
	f := newFake(t, finance)
	tests := map[string]result{
		"/api/v1/namespaces/finance/services?labelSelector=app%3Dnone": {0, `{"kind":"ServiceList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[]}` + "\n", ""},
		"/nope": {4, "", "Error from server (NotFound): the server could not find the requested resource\n"},
	}
	for path, want := range tests {
		if diff := cmp.Diff(want, f.usher(t, "", "get", "--raw", path), cmp.AllowUnexported(result{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

func TestGetWatchOne(t *testing.T) {
	f := newFake(t, finance)
	if got := f.usher(t, "", "get", "svc", "none", "-w"); got.code != exitNotFound {
		t.Errorf("%+v", got)
	}
	out, _ := f.start(t, "get", "ns", "finance", "-w", "-o", "name")
	out.await(t, "namespace/finance\n")
	f.remove(registry.Key{Kind: registry.Services, Namespace: "finance", Name: "empty"})
	f.remove(registry.Key{Kind: registry.Namespaces, Name: "finance"})
	out.await(t, "namespace/finance\nnamespace/finance\n")
}

// A standard output that takes nothing is an error.
func TestGetFull(t *testing.T) {
	f := newFake(t, finance)
	for _, args := range []string{"get svc -A", "get svc -A -o name", "get svc -A -o json", "describe svc -A", "status", "version", "delete svc empty -n other -o name"} {
		var stderr strings.Builder
		code := Main(t.Context(), Env{
			Stdout: full{}, Stderr: &stderr, Getenv: func(name string) string { return map[string]string{"USHER_SERVER": f.server}[name] },
		}, strings.Fields(args))
		if code != exitError || stderr.String() != "error: no space left\n" {
			t.Errorf("%s: exit code %d, stderr %q", args, code, &stderr)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestCompletion(t *testing.T) {
	f := newFake(t, finance)
	for args, want := range map[string]string{
		"get|":                          "services\npods\nendpointslices\nendpoints\nevents\nnamespaces\nnodes\nipaddresses\nservicecidrs\nnodeports\nconnections\n:4\n",
		"-n|finance|get|svc|":           "empty\npayment-service\n:4\n",
		"-n|finance|delete|svc|empty|":  "payment-service\n:4\n",
		"-n|finance|describe|svc/":      "svc/empty\nsvc/payment-service\n:4\n",
		"get|-n|":                       "finance\n:4\n",
		"delete|-o|":                    "name\n:4\n",
		"apply|-o|":                     "json\nyaml\nname\ngo-template=\ngo-template-file=\njsonpath=\njsonpath-as-json=\njsonpath-file=\ntemplate=\ntemplatefile=\n:6\n",
		"-n|finance|label|svc|":         "empty\npayment-service\n:4\n",
		"wait|--for|":                   "condition=\njsonpath=\ncreate\ndelete\n:6\n",
		"get|widgets|":                  ":4\n",
		"--server|unix:/none|get|pods|": ":4\n",
	} {
		got := f.usher(t, "", append([]string{"__complete"}, strings.Split(args, "|")...)...)
		if diff := cmp.Diff(want, got.stdout); diff != "" {
			t.Errorf("%s (-want +got):\n%s", args, diff)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if got := f.usher(t, "", "completion", shell); got.code != 0 || !strings.Contains(got.stdout, "usher") {
			t.Errorf("%s: exit code %d", shell, got.code)
		}
	}
}
