package up

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fsnotify/fsnotify"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"usher/internal/agent"
)

// write writes files below dir, named by their keys.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLoad(t *testing.T) {
	always := corev1.RestartPolicyAlways
	tests := map[string]struct {
		name, text string
		namespace  string // as a flag says it
		once       bool
		want       []Process // below DIR
		err        string
	}{
		"a Procfile": {
			name: "Procfile", text: "# two\n\nweb: ./web --port 80: x\n api :exec ./api\n",
			want: []Process{
				{Workload: agent.Workload{Name: "web", Namespace: "fallback", Replicas: 1, Restart: always, Dir: "DIR", Command: []string{"/bin/sh", "-c", "./web --port 80: x"}}},
				{Workload: agent.Workload{Name: "api", Namespace: "fallback", Replicas: 1, Restart: always, Dir: "DIR", Command: []string{"/bin/sh", "-c", "exec ./api"}}},
			},
		},
		"a wrong Procfile": {
			name: "Procfile.dev", text: "web\napi:\nok: x\nok: y\nOK: z\n",
			err: `[line 1: want NAME: COMMAND, line 2: want NAME: COMMAND, line 4: name: Duplicate value: "ok", line 5: name: Invalid value: "OK": a lowercase RFC 1123 label must consist of`,
		},
		"everything": {
			name: "usher.yaml", text: `
namespace: shop
processes:
- name: web
  command: [./web, -v]
  labels: {app: front}
  replicas: 2
  ports: [8080, dns=53/udp]
  env: {B: "2", A: "1"}
  dir: web
  readinessProbe: {httpGet: {path: /, port: 8080}}
  restartPolicy: OnFailure
- name: db
  command: ./db
`,
			want: []Process{
				{
					Workload: agent.Workload{
						Name: "web", Namespace: "shop", Labels: map[string]string{"app": "front"}, Replicas: 2, Command: []string{"./web", "-v"},
						Ports: []corev1.ContainerPort{
							{ContainerPort: 8080, Protocol: corev1.ProtocolTCP}, {Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP},
						},
						Dir: "DIR/web", Restart: corev1.RestartPolicyOnFailure,
						Readiness: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(8080)}}},
					},
					Env: []string{"A=1", "B=2"},
				},
				{Workload: agent.Workload{Name: "db", Namespace: "shop", Replicas: 1, Restart: always, Dir: "DIR", Command: []string{"/bin/sh", "-c", "./db"}}},
			},
		},
		"a flag": {
			name: "usher.yaml", text: "{namespace: shop, processes: [{name: a, command: b}]}", namespace: "other",
			want: []Process{{Workload: agent.Workload{Name: "a", Namespace: "other", Replicas: 1, Restart: always, Dir: "DIR", Command: []string{"/bin/sh", "-c", "b"}}}},
		},
		"once": {
			name: "usher.yaml", text: "processes: [{name: a, command: b}, {name: c, command: d, restartPolicy: Always}]", once: true,
			want: []Process{
				{Workload: agent.Workload{Name: "a", Namespace: "fallback", Replicas: 1, Restart: corev1.RestartPolicyNever, Dir: "DIR", Command: []string{"/bin/sh", "-c", "b"}}},
				{Workload: agent.Workload{Name: "c", Namespace: "fallback", Replicas: 1, Restart: always, Dir: "DIR", Command: []string{"/bin/sh", "-c", "d"}}},
			},
		},
		"an empty file": {name: "usher.yaml", text: "# nothing yet\n"},
		"unknown fields": {
			name: "usher.yaml", text: "{x: 1, processes: [{name: a, command: b, why: 2}]}",
			err: `[unknown field "processes[0].why", unknown field "x"]`,
		},
		"a field twice": {name: "usher.yaml", text: "namespace: a\nnamespace: b\n", err: `key "namespace" already set in map`},
		"no YAML":       {name: "usher.yaml", text: "a: [", err: "did not find expected node content"},
		"a command":     {name: "usher.yaml", text: "processes: [{name: a, command: {b: c}}]", err: `command: {"b":"c"} is neither a string nor a list of strings`},
		"many": {
			name: "usher.yaml", text: "{namespace: A_B, manifests: ['['], processes: [{name: a, replicas: 0}, {name: a, command: b, ports: [0], env: {'a=b': c}}]}",
			err: `[manifests[0]: Invalid value: "[": syntax error in pattern, namespace: Invalid value: "A_B": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?'), processes[0].replicas: Invalid value: 0: must be between 1 and 1000, inclusive, processes[0].command: Required value, processes[1].ports[0]: invalid port "0": must be between 1 and 65535, inclusive, processes[1].env: Invalid value: "a=b": a name of a variable has no "=", processes[1].name: Duplicate value: "a"]`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{tt.name: tt.text})
			p, err := Load(filepath.Join(dir, tt.name), tt.namespace, "fallback", tt.once)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.name+": "+tt.err) && !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for i := range p.Processes {
				p.Processes[i].Dir = strings.Replace(p.Processes[i].Dir, dir, "DIR", 1)
			}
			if diff := cmp.Diff(tt.want, p.Processes); diff != "" {
				t.Errorf("processes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLoadBoth checks that usher.yaml says more of the processes of the Procfile
// beside it, and that nothing is said of either that is not so.
func TestLoadBoth(t *testing.T) {
	const list = "web: ./web\napi: ./api --fast\n"
	tests := map[string]struct {
		yaml, procfile string
		want           []string // namespace/name*replicas: command
		err            string
	}{
		"more of one": {
			"{namespace: shop, processes: [{name: api, replicas: 2}]}", list, []string{"shop/web*1: ./web", "shop/api*2: ./api --fast"}, "",
		},
		"another one": {
			"processes: [{name: db, command: ./db}]", list, []string{"fallback/web*1: ./web", "fallback/api*1: ./api --fast", "fallback/db*1: ./db"}, "",
		},
		"another command": {
			"processes: [{name: web, command: ./other}]", list, []string{"fallback/web*1: ./other", "fallback/api*1: ./api --fast"}, "",
		},
		"nothing more": {"", list, []string{"fallback/web*1: ./web", "fallback/api*1: ./api --fast"}, ""},
		"no such line": {"processes: [{name: db}]", list, nil, "usher.yaml: processes[0].command: Required value"},
		"both are wrong": {
			"processes: [{name: db, command: x, replicas: 0}]", "web", nil,
			"usher.yaml: [Procfile: line 1: want NAME: COMMAND, processes[0].replicas: Invalid value: 0",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{"usher.yaml": tt.yaml, "Procfile": tt.procfile})
			p, err := Load(filepath.Join(dir, "usher.yaml"), "", "fallback", false)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, process := range p.Processes {
				got = append(got, fmt.Sprintf("%s/%s*%d: %s", process.Namespace, process.Name, process.Replicas, process.Command[2]))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("processes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLoadNamespace checks that the namespace is looked at that is used, wherever
// it is from, and is complained of once.
func TestLoadNamespace(t *testing.T) {
	const wrong = `: namespace: Invalid value: "A_B": a lowercase RFC 1123 label`
	yaml := map[string]string{"usher.yaml": "namespace: shop\n", "Procfile": "web: ./web\napi: ./api\n"}
	none := map[string]string{"usher.yaml": "processes: [{name: a, command: b}, {name: c, command: d}]", "Procfile": "web: ./web\n"}
	list := map[string]string{"Procfile": "web: ./web\napi: ./api\n"}
	tests := map[string]struct {
		files               map[string]string
		namespace, fallback string
		wrong               bool
	}{
		"a flag":                        {none, "A_B", "default", true},
		"a flag, and no process":        {map[string]string{"usher.yaml": ""}, "A_B", "default", true},
		"a flag before the file":        {yaml, "A_B", "default", true},
		"a flag in place of the file":   {map[string]string{"usher.yaml": "namespace: A_B"}, "other", "default", false},
		"the environment":               {none, "", "A_B", true},
		"the file":                      {map[string]string{"usher.yaml": "namespace: A_B", "Procfile": "web: ./web\n"}, "", "default", true},
		"the file, not the environment": {yaml, "", "A_B", false},
		"a Procfile":                    {list, "A_B", "default", true},
		"a Procfile, the environment":   {list, "", "A_B", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, tt.files)
			file, err := Find(dir)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Load(file, tt.namespace, tt.fallback, false)
			if !tt.wrong && err != nil {
				t.Errorf("error %v", err)
			}
			if tt.wrong && (err == nil || !strings.HasPrefix(err.Error(), file+wrong) || strings.Count(err.Error(), "A_B") != 1) {
				t.Errorf("error %v, want one that is %s", err, wrong)
			}
		})
	}
}

func TestScale(t *testing.T) {
	for name, tt := range map[string]struct {
		replicas map[string]int
		want     string
		err      string
	}{
		"nothing": {nil, "web*1 api*1 ", ""},
		"more":    {map[string]int{"api": 3}, "web*1 api*3 ", ""},
		"none":    {map[string]int{"web": 0, "api": 2}, "api*2 ", ""},
		"wrong":   {map[string]int{"web": -1, "db": 2}, "", "[scale db: there is no such process, scale web: replicas: Invalid value: -1: must be between 1 and 1000, inclusive]"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{"Procfile": "web: ./web\napi: ./api\n"})
			p, err := Load(filepath.Join(dir, "Procfile"), "", "fallback", false)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Scale(tt.replicas); tt.err != "" && (err == nil || err.Error() != tt.err) || tt.err == "" && err != nil {
				t.Fatalf("error %v, want %s", err, tt.err)
			}
			var got strings.Builder
			for _, process := range p.Processes {
				fmt.Fprintf(&got, "%s*%d ", process.Name, process.Replicas)
			}
			if tt.err == "" && got.String() != tt.want {
				t.Errorf("%s, want %s", got.String(), tt.want)
			}
		})
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"both/usher.yaml": "", "both/Procfile": "", "proc/Procfile": "", "none/x.yaml": ""})
	for path, want := range map[string]string{
		"both": "both/usher.yaml", "proc": "proc/Procfile", "both/Procfile": "both/Procfile", "none/x.yaml": "none/x.yaml", "none": "", "absent": "",
	} {
		got, err := Find(filepath.Join(dir, path))
		if want != "" {
			want = filepath.Join(dir, want)
		}
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v, want %q", path, got, err, want)
		}
	}
}

// The patterns are below the directory of the project, whose own name is none.
func TestManifestFiles(t *testing.T) {
	for _, name := range []string{"project", "[x]", "[x", `a*b?\c`} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), name)
			write(t, dir, map[string]string{
				"usher.yaml": "", "manifests/b.yaml": "", "manifests/a.yml": "", "manifests/c.json": "", "manifests/d.txt": "", "manifests/deep/e.yaml": "",
			})
			p, err := Load(filepath.Join(dir, "usher.yaml"), "", "default", false)
			if err != nil {
				t.Fatal(err)
			}
			files, err := p.ManifestFiles()
			if err != nil {
				t.Fatal(err)
			}
			at := func(name string) string { return filepath.Join(dir, "manifests", name) }
			check(t, "files", []string{at("a.yml"), at("b.yaml"), at("c.json")}, files)
			check(t, "directories", []string{dir, filepath.Join(dir, "manifests")}, p.Dirs())
			for file, want := range map[string]bool{at("new.yaml"): true, at("new.txt"): false, filepath.Join(dir, "manifests"): true} {
				if got := (&Watcher{of: p}).matters(fsnotify.Event{Name: file, Op: fsnotify.Create}); got != want {
					t.Errorf("%s matters: %t, want %t", file, got, want)
				}
			}
		})
	}
}
