package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// Every command has a help that says what it does and shows how.
func TestHelp(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		path := strings.Fields(cmd.CommandPath())[1:]
		got := usher(t, nil, "", append(path, "--help")...)
		if got.code != exitOK || got.stderr != "" {
			t.Errorf("%v --help: exit code %d, stderr %q", path, got.code, got.stderr)
		}
		wanted := []string{"Usage:\n  " + cmd.UseLine()}
		if !cmd.Hidden {
			wanted = append(wanted, "\nExamples:\n  ", "usher ")
		}
		for _, want := range wanted {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("%v --help has no %q:\n%s", path, want, got.stdout)
			}
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%v: short help %q", path, cmd.Short)
		}
		for line := range strings.Lines(got.stdout) {
			if n := len([]rune(line)); n > 121 {
				t.Errorf("%v --help has a line of %d columns: %s", path, n, line)
			}
		}
		if other := usher(t, nil, "", append([]string{"help"}, path...)...); other != got {
			t.Errorf("help %v is not %v --help", path, path)
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(Env{}))
}

func TestUsageErrors(t *testing.T) {
	tests := []struct{ args, want string }{
		{"gte", `unknown command "gte" for "usher"` + "\n  did you mean: get\n"},
		{"frobnicate", `unknown command "frobnicate" for "usher"` + "\nSee 'usher --help'"},
		{"help gte", "did you mean: get"},
		{"--frob", "unknown flag: --frob"},
		{"get", "you must specify the type of resource"},
		{"get svc --frob", "unknown flag: --frob\nSee 'usher get --help' for usage."},
		{"get svc -o foo", `output format "foo", allowed formats are: wide,json,yaml,name`},
		{"get svc a -A", "a resource cannot be retrieved by name across all namespaces"},
		{"get svc a -l b=c", "name cannot be provided when a selector is specified"},
		{"get svc,pods -w", "single resource type"},
		{"get svc a b -w", "one name"},
		{"get svc -f x", "may not specify resources by arguments"},
		{"get svc -o json --show-labels", "--show-labels option cannot be used with json printer"},
		{"apply", "must specify -f"},
		{"apply f.yaml", "takes no arguments"},
		{"apply -f - -o wide", "allowed formats are: json,yaml,name"},
		{"create", "must specify -f"},
		{"replace", "must specify -f"},
		{"delete", "you must provide one or more resources"},
		{"delete svc", "no name was specified"},
		{"delete svc a --all", "name cannot be provided when a selector is specified"},
		{"delete svc a -A", "by name across all namespaces"},
		{"delete svc a --now --grace-period=3", "exclude each other"},
		{"delete svc --all -l a=b", "exclude each other"},
		{"delete svc -f x", "may not specify resources by arguments"},
		{"delete -f x --all", "may not specify --all"},
		{"delete -f x -A", "may not specify --all, -l or -A"},
		{"describe", "you must specify the type of resource"},
		{"describe svc a -A", "across all namespaces"},
		{"status now", "takes no arguments"},
		{"status -o wide", "allowed formats are: json,yaml"},
		{"version -o name", "allowed formats are: json,yaml"},
		{"completion", "want one shell"},
		{"completion tcsh", "want one shell"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			got := usher(t, map[string]string{"USHER_SERVER": "unix:/nonexistent"}, "", strings.Fields(tt.args)...)
			if got.code != exitUsage || got.stdout != "" || !strings.HasPrefix(got.stderr, "error: ") || !strings.Contains(got.stderr, tt.want) {
				t.Errorf("%+v, want exit code %d and %q", got, exitUsage, tt.want)
			}
		})
	}
}

// An empty name, of a variable that is not set, must never stand for all.
func TestEmptyName(t *testing.T) {
	f := newFake(t, service("a", ""))
	for _, args := range [][]string{{"delete", "svc", ""}, {"delete", "svc/"}, {"get", "svc", ""}, {"describe", "svc", ""}} {
		if got := f.usher(t, "", args...); got.code != exitUsage {
			t.Errorf("%q: %+v", args, got)
		}
	}
	got := f.usher(t, "apiVersion: v1\nkind: Service\nmetadata: {generateName: a}\n", "delete", "-f", "-")
	if got.code != exitError || !strings.Contains(got.stderr, "resource name may not be empty") {
		t.Errorf("%+v", got)
	}
	if len(f.requests) > 0 {
		t.Errorf("requests %q", f.requests)
	}
}

// Which daemon is asked is said by the flag, the environment, or the default.
func TestServer(t *testing.T) {
	f := newFake(t, "")
	none := "unix:" + t.TempDir() + "/none"
	tests := map[string]struct {
		environ map[string]string
		args    []string
		code    int
		stderr  string
	}{
		"flag":            {map[string]string{"USHER_SERVER": none}, []string{"--server", f.server}, exitOK, ""},
		"environment":     {map[string]string{"USHER_SERVER": f.server}, nil, exitOK, ""},
		"not there":       {map[string]string{"USHER_SERVER": none}, nil, exitError, "error: the daemon is not running: nobody listens at " + none},
		"no such form":    {nil, []string{"--server", "foo"}, exitError, `server "foo": want unix:/path or http(s)://host:port`},
		"no such command": {nil, []string{"--server"}, exitUsage, "flag needs an argument: --server"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := usher(t, tt.environ, "", append([]string{"get", "ns"}, tt.args...)...)
			if got.code != tt.code || !strings.Contains(got.stderr, tt.stderr) {
				t.Errorf("%+v, want exit code %d and %q", got, tt.code, tt.stderr)
			}
		})
	}
}

// The token of this user's daemon is for that daemon, and for nobody else.
func TestToken(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		server, variable, want string
	}{
		{"http://127.0.0.1:7080", "", "secret"},
		{"https://localhost:7080", "", "secret"},
		{"http://[::1]:7080", "", "secret"},
		{"http://192.0.2.1:7080", "", ""},
		{"https://usher.example.org", "", ""},
		{"https://localhost.example.org", "", ""},
		{"unix:/run/usher/usher.sock", "", ""},
		{"https://usher.example.org", "given", "given"},
		{"http://127.0.0.1:7080", "given", "given"},
	}
	for _, tt := range tests {
		g := &globals{env: Env{Getenv: func(name string) string {
			return map[string]string{"USHER_DATADIR": dir, "USHER_TOKEN": tt.variable}[name]
		}}}
		if diff := cmp.Diff(tt.want, g.token(tt.server)); diff != "" {
			t.Errorf("token for %s (-want +got):\n%s", tt.server, diff)
		}
	}
}
