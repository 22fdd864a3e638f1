package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// editor returns a program that edits its file by a script of the shell, with
// the file as $1. What the n-th file was is in n.yaml beside it.
func editor(t *testing.T, script string) (program string, seen func(name string) string) {
	t.Helper()
	dir := t.TempDir()
	program = filepath.Join(dir, "editor")
	text := "#!/bin/sh\ncd " + dir + "\nn=$(ls | grep -c yaml)\ncp \"$1\" $n.yaml\n" + script + "\n"
	if err := os.WriteFile(program, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return program, func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		}
		return string(data)
	}
}

var editedFile = regexp.MustCompile(`"?[^" ]*/usher-edit-[0-9]+\.(yaml|json)"?`)

func TestEdit(t *testing.T) {
	const stored = "A copy of your changes has been stored to FILE\n"
	tests := map[string]struct {
		args, script string
		want         result
	}{
		"a field":          {"svc empty", `sed -i 's/port: 80/port: 81/' $1`, result{0, "service/empty edited\n", ""}},
		"nothing":          {"svc empty", "true", result{0, "", "Edit cancelled, no changes made.\n"}},
		"a comment":        {"svc empty", "echo '# hm' >> $1", result{0, "", "Edit cancelled, no changes made.\n"}},
		"everything away":  {"svc empty", ": > $1", result{0, "", "Edit cancelled, saved file was empty.\n"}},
		"one of several":   {"svc", `sed -i 's/port: 53/port: 54/' $1`, result{0, "service/empty skipped\nservice/payment-service edited\n", ""}},
		"as json":          {"svc empty -o json", `sed -i 's/"port": 80/"port": 81/' $1`, result{0, "", ""}},
		"the name":         {"svc empty", `sed -i 's/name: empty/name: full/' $1`, result{1, "", stored + "error: At least one of apiVersion, kind and name was changed\n"}},
		"the kind":         {"svc empty", `sed -i 's/kind: Service/kind: Pod/' $1`, result{1, "", stored + "error: At least one of apiVersion, kind and name was changed\n"}},
		"the namespace":    {"svc empty", `sed -i 's/namespace: finance/namespace: other/' $1`, result{1, "", stored + "error: the namespace from the provided object \"other\" does not match the namespace \"finance\". You must pass '--namespace=other' to perform this operation.\n"}},
		"the uid":          {"svc empty", `sed -i '/uid:/d' $1`, result{1, "", stored + "error: no original object found for "}},
		"in conflict":      {"svc empty", `sed -i 's/resourceVersion: .*/resourceVersion: "1"/' $1`, result{1, "", "error: services \"empty\" could not be patched: Operation cannot be fulfilled on services \"empty\": it has been modified\nYou can run `usher replace -f FILE` to try this update again.\n"}},
		"wrong for ever":   {"svc empty", `sed -i 's/port: 80/port: 0/' $1`, result{1, "", "error: services \"empty\" is invalid\n" + stored + "error: Edit cancelled, no valid changes were saved.\n"}},
		"not there":        {"svc none", "true", result{4, "", "Error from server (NotFound): services \"none\" not found\n"}},
		"none":             {"nodes", "true", result{1, "", "error: edit cancelled, no objects found\n"}},
		"the editor fails": {"svc empty", "exit 3", result{1, "", stored + "error: there was a problem with the editor \"EDITOR\": exit status 3\n"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, finance)
			program, _ := editor(t, tt.script)
			t.Setenv("TMPDIR", t.TempDir())
			got := usher(t, map[string]string{"USHER_SERVER": f.server, "EDITOR": program}, "", append([]string{"edit", "-n", "finance"}, strings.Fields(tt.args)...)...)
			got.stderr = strings.ReplaceAll(editedFile.ReplaceAllString(got.stderr, "FILE"), program, "EDITOR")
			if name == "as json" {
				tt.want.stdout = got.stdout
				if !strings.Contains(got.stdout, `"port": 81`) {
					t.Errorf("stdout %s", got.stdout)
				}
			}
			if name == "the uid" {
				got.stderr = got.stderr[:min(len(got.stderr), len(tt.want.stderr))]
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			kept, err := os.ReadDir(os.Getenv("TMPDIR"))
			if said := strings.Contains(got.stderr, "FILE"); err != nil || said != (len(kept) == 1) {
				t.Errorf("%d files are left: %v", len(kept), err)
			}
		})
	}
}

// What is wrong is opened again, with the reason on top.
func TestEditAgain(t *testing.T) {
	const head = editHeader + "# services \"empty\" was not valid:\n# * "
	tests := map[string]struct {
		first, second string // expressions of sed
		reason        string // on top of the second file
		stderr        string
	}{
		"refused by the server": {`s/port: 80/port: 0/`, `s/port: 0/port: 81/`,
			head + "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive\n#\napiVersion: v1\n", "error: services \"empty\" is invalid\n"},
		"no such field": {`s/^spec:/spec:\n  nope: 1/`, `/nope/d; s/port: 80/port: 81/`,
			head + "<nil>: Invalid value: \"The edited file failed validation\": Service in version \"v1\" cannot be handled as a Service: strict decoding error: unknown field \"spec.nope\"\n#\napiVersion: v1\n",
			"error: services \"empty\" is invalid\n"},
		"no yaml": {`s/^spec:/spec: }/`, `s/^spec: }/spec:/; s/port: 80/port: 81/`,
			editHeader + "# The edited file had a syntax error: error converting YAML to JSON: yaml: ", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, finance)
			program, seen := editor(t, "case $n in 0) sed -i '"+tt.first+"' $1;; *) sed -i '"+tt.second+"' $1;; esac")
			t.Setenv("TMPDIR", t.TempDir())
			got := usher(t, map[string]string{"USHER_SERVER": f.server, "KUBE_EDITOR": program, "EDITOR": "false"}, "", "edit", "-n", "finance", "svc/empty")
			if diff := cmp.Diff(result{0, "service/empty edited\n", tt.stderr}, got, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if again := seen("1.yaml"); !strings.HasPrefix(again, tt.reason) {
				t.Errorf("the second file is\n%s\nwant\n%s", again, tt.reason)
			}
			if port := f.Snapshot().Service("finance", "empty").Spec.Ports[0].Port; port != 81 {
				t.Errorf("port %d", port)
			}
		})
	}
}

// What is opened again is what was written, and what was refused for another
// reason is sent again with it.
func TestEditAgainWhole(t *testing.T) {
	f := newFake(t, finance)
	program, seen := editor(t, `case $n in
0) sed -i '/name: empty/i\    annotations:\n      script: |\n        # of a shell\n        echo' $1
   sed -i '1,/name: payment-service/ s/port: 80$/port: 0/; /name: payment-service/,$ s/resourceVersion: .*/resourceVersion: "1"/; s/port: 53$/port: 54/' $1;;
*) sed -i 's/port: 0$/port: 81/; /resourceVersion:/d' $1;; esac`)
	t.Setenv("TMPDIR", t.TempDir())
	got := usher(t, map[string]string{"USHER_SERVER": f.server, "EDITOR": program}, "", "edit", "-n", "finance", "svc")
	want := result{0, "service/empty edited\nservice/payment-service edited\n", "error: services \"empty\" is invalid\n" +
		"error: services \"payment-service\" could not be patched: Operation cannot be fulfilled on services \"payment-service\": it has been modified\n"}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(result{})); diff != "" {
		t.Errorf("(-want +got):\n%s\nfirst\n%s", diff, seen("1.yaml"))
	}
	if script := f.Snapshot().Service("finance", "empty").Annotations["script"]; script != "# of a shell\necho\n" {
		t.Errorf("the annotation is %q", script)
	}
}

// An editor with quotes is a shell's matter, one with spaces has arguments.
func TestEditorWords(t *testing.T) {
	f := newFake(t, finance)
	program, _ := editor(t, `sed -i "s/port: 80/port: $2/" $1`)
	want := int32(81)
	for _, words := range []string{`sh -c '` + program + ` "$0" 81'`, "sed -i s/81/82/"} {
		got := usher(t, map[string]string{"USHER_SERVER": f.server, "EDITOR": words, "SHELL": "/bin/sh"}, "", "edit", "-n", "finance", "svc/empty")
		if port := f.Snapshot().Service("finance", "empty").Spec.Ports[0].Port; got.code != 0 || port != want {
			t.Errorf("%s: port %d, %+v", words, port, got)
		}
		want++
	}
}
