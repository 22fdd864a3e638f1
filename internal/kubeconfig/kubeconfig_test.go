package kubeconfig

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

var entry = Entry{Name: "usher", Cluster: "usher", Server: "https://127.0.0.1:7080", CA: []byte("ca"), Token: "secret"}

const alone = `apiVersion: v1
kind: Config
clusters:
- name: usher
  cluster:
    server: https://127.0.0.1:7080
    certificate-authority-data: Y2E=
users:
- name: usher
  user:
    token: secret
contexts:
- name: usher
  context:
    cluster: usher
    user: usher
`

// What kubectl and others have written, with what this package knows nothing
// of.
const others = `apiVersion: v1
clusters: # of work
- cluster:
    certificate-authority: /etc/ca.crt
    tls-server-name: prod
    extensions:
    - name: x
      extension: {a: [1, 2]}
    server: https://prod:6443
  name: prod
contexts:
- context:
    cluster: prod
    namespace: finance
    user: prod
  name: prod
current-context: prod
kind: Config
preferences: {}
users:
- name: prod
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      args: ["0x10", "yes"]
      command: gcloud
      interactiveMode: IfAvailable
`

func TestMerge(t *testing.T) {
	tests := map[string]struct {
		old  string
		use  bool
		want string
	}{
		"nothing":      {"", true, alone + "current-context: usher\n"},
		"only space":   {" \n\n", false, alone},
		"a comment":    {" \n# a comment", false, "# a comment\n" + alone},
		"comments":     {"# one\n# and two\n\n# three\n", true, "# one\n# and two\n\n# three\n\n" + alone + "current-context: usher\n"},
		"null":         {"null", false, alone},
		"no more":      {"# nothing yet\nnull\n", false, "# nothing yet\n" + alone},
		"empty lists":  {"apiVersion: v1\nkind: Config\nclusters: []\nusers: null\ncontexts: []\n", false, alone},
		"current kept": {"apiVersion: v1\nkind: Config\ncurrent-context: prod\n", false, strings.Replace(alone, "clusters:", "current-context: prod\nclusters:", 1)},
		"again":        {alone + "current-context: usher\n", true, alone + "current-context: usher\n"},
		"used":         {strings.Replace(alone, "clusters:", "current-context: prod\nclusters:", 1), true, strings.Replace(alone, "clusters:", "current-context: usher\nclusters:", 1)},
		"replaced": {
			strings.NewReplacer("    token: secret", "    token: old\n    tokenFile: /t", "127.0.0.1:7080", "10.0.0.1:7080",
				"    user: usher", "    namespace: finance\n    user: other").Replace(alone), false,
			strings.Replace(alone, "    user: usher", "    namespace: finance\n    user: usher", 1),
		},
		"others": {others, false, strings.NewReplacer(
			"  name: prod\ncontexts:", "  name: prod\n- name: usher\n  cluster:\n    server: https://127.0.0.1:7080\n    certificate-authority-data: Y2E=\ncontexts:",
			"  name: prod\ncurrent", "  name: prod\n- name: usher\n  context:\n    cluster: usher\n    user: usher\ncurrent",
			"IfAvailable\n", "IfAvailable\n- name: usher\n  user:\n    token: secret\n",
		).Replace(others)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := Merge([]byte(tt.old), entry, tt.use)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestMergeRefuses(t *testing.T) {
	for old, want := range map[string]string{
		"[]":                   "it is no mapping",
		"a: b: c":              "mapping values are not allowed",
		"clusters: {}":         "clusters is no list",
		"a: 1\n---\nb: 2\n":    "more than one document",
		"users: prod\na: *foo": "unknown anchor",
	} {
		if got, err := Merge([]byte(old), entry, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q becomes %q, %v, want an error with %q", old, got, err, want)
		}
	}
}

// Whatever is merged into, what it says of others is said afterwards too, and
// another time changes nothing.
func FuzzMerge(f *testing.F) {
	for _, seed := range []string{"", alone, others, "clusters: []", "# a\n\n\n# b\r\n", "\ufeff# a\n---\n# b", `{"users": [{"name": "a"}], "contexts": null}`, "a: 'x: y' # z", "a: [&b {c: d}, &e, *b]\n0: {0, 'null'}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, old string) {
		var before, after map[string]any
		if yaml.Unmarshal([]byte(old), &before) != nil {
			return
		}
		once, err := Merge([]byte(old), entry, false)
		if err != nil {
			return
		}
		if err := yaml.Unmarshal(once, &after); err != nil {
			t.Fatalf("%q becomes %q: %v", old, once, err)
		}
		for key, want := range before {
			switch key {
			case "clusters", "users", "contexts", "apiVersion", "kind":
				continue
			}
			if diff := cmp.Diff(want, after[key]); diff != "" {
				t.Errorf("%q becomes %q: %s (-want +got):\n%s", old, once, key, diff)
			}
		}
		twice, err := Merge(once, entry, false)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%q and then %q, %v", once, twice, err)
		}
	})
}

func TestFiles(t *testing.T) {
	tests := []struct{ kubeconfig, want string }{
		{"", "/home/u/.kube/config"}, {":", "/home/u/.kube/config"}, {"/a", "/a"}, {"/a::/b", "/a /b"},
	}
	for _, tt := range tests {
		env := map[string]string{"HOME": "/home/u", "KUBECONFIG": tt.kubeconfig}
		if got := strings.Join(Files(func(k string) string { return env[k] }), " "); got != tt.want {
			t.Errorf("KUBECONFIG=%s: %s, want %s", tt.kubeconfig, got, tt.want)
		}
	}
}

// The file is the first that exists, and the current context that of all.
func TestMergeInto(t *testing.T) {
	const current = "current-context: prod\n"
	tests := map[string]struct {
		files       map[string]string // that exist, of a, b and c
		use         bool
		file        string
		current     string
		writesFirst string // the current context in the file afterwards
	}{
		"none":                 {nil, false, "c", "usher", "usher"},
		"no current":           {map[string]string{"b": alone}, false, "b", "usher", "usher"},
		"current":              {map[string]string{"b": current}, false, "b", "prod", "prod"},
		"current in another":   {map[string]string{"a": "", "b": current}, false, "a", "prod", ""},
		"to be used":           {map[string]string{"a": "", "b": current}, true, "a", "usher", "usher"},
		"the first is the one": {map[string]string{"a": "current-context: x", "b": current}, false, "a", "x", "x"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "deep", ".kube")
			var files []string
			for _, name := range []string{"a", "b", "c"} {
				path := filepath.Join(dir, name)
				files = append(files, path)
				if content, ok := tt.files[name]; ok {
					if err := os.MkdirAll(dir, 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			result, err := MergeInto(files, entry, tt.use)
			if err != nil {
				t.Fatal(err)
			}
			if want := (Result{File: filepath.Join(dir, tt.file), Current: tt.current}); result != want {
				t.Errorf("%+v, want %+v", result, want)
			}
			data, err := os.ReadFile(result.File)
			if err != nil || !bytes.Contains(data, []byte("token: secret")) {
				t.Errorf("%s, %v", data, err)
			}
			if got, err := CurrentContext(data); err != nil || got != tt.writesFirst {
				t.Errorf("current context %q, %v, want %q", got, err, tt.writesFirst)
			}
			if info, err := os.Stat(result.File); err != nil || info.Mode() != 0o600 {
				t.Errorf("%v, %v", info, err)
			}
			for name, content := range tt.files {
				data, err := os.ReadFile(filepath.Join(dir, name))
				if name != tt.file && (err != nil || string(data) != content) {
					t.Errorf("%s has %q, %v", name, data, err)
				}
			}
			if left, err := filepath.Glob(filepath.Join(dir, "*.lock")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// A file that somebody else writes, or that is not understood, stays as it is.
func TestMergeIntoRefuses(t *testing.T) {
	tests := map[string]struct{ content, lock, want string }{
		"locked":      {alone, "yes", "another program writes it; if none does, remove "},
		"not YAML":    {"a: b: c", "", "mapping values"},
		"another one": {"- a\n", "", "not a kubeconfig"},
		"no list":     {"users: 7", "", "users is no list"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config")
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if tt.lock != "" {
				if err := os.WriteFile(path+".lock", nil, 0); err != nil {
					t.Fatal(err)
				}
			}
			_, err := MergeInto([]string{path}, entry, true)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
			if data, err := os.ReadFile(path); err != nil || string(data) != tt.content {
				t.Errorf("it is now %q, %v", data, err)
			}
			if _, err := os.Stat(path + ".lock"); (err == nil) != (tt.lock != "") {
				t.Errorf("the lock: %v", err)
			}
		})
	}
}

// A link stays a link, the lock is beside it, and what root rewrites stays its owner's.
func TestMergeIntoLink(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "dotfiles"), filepath.Join(dir, "config")
	if err := os.WriteFile(target, []byte(others), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("dotfiles", link); err != nil {
		t.Fatal(err)
	}
	const somebody = 12345
	if os.Geteuid() == 0 {
		if err := os.Chown(target, somebody, somebody); err != nil {
			t.Fatal(err)
		}
	}
	lock := link + ".lock" // of the link's name, as kubectl has it
	if err := os.WriteFile(lock, nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := MergeInto([]string{link}, entry, false); err == nil || !strings.Contains(err.Error(), "another program writes it; if none does, remove "+lock) {
		t.Errorf("it is locked, and the error is %v", err)
	}
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	if _, err := MergeInto([]string{link}, entry, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(lock); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock: %v", err)
	}
	if to, err := os.Readlink(link); err != nil || to != "dotfiles" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	if data, err := os.ReadFile(target); err != nil || !bytes.Contains(data, []byte("token: secret")) {
		t.Errorf("%s, %v", data, err)
	}
	info, err := os.Stat(target)
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; os.Geteuid() == 0 && uid != somebody {
		t.Errorf("it belongs to user %d", uid)
	}
}
