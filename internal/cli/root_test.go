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
		{"get svc -o foo", `output format "foo", allowed formats are: custom-columns,custom-columns-file,go-template,`},
		{"get svc a -A", "a resource cannot be retrieved by name across all namespaces"},
		{"get svc a -l b=c", "name cannot be provided when a selector is specified"},
		{"get svc,pods -w", "single resource type"},
		{"get svc a b -w", "one name"},
		{"get svc -f x", "may not specify resources by arguments"},
		{"get svc -o json --show-labels", "--show-labels option cannot be used with json printer"},
		{"get svc -o json=x", `output format "json=x", allowed formats are: `},
		{"get svc -o jsonpath", "template format specified but no template given"},
		{"get svc -o go-template=", "template format specified but no template given"},
		{"get svc -o jsonpath={", "error parsing jsonpath {, unclosed action"},
		{"get svc -o go-template={{", "error parsing template {{, "},
		{"get svc -o custom-columns", "custom-columns format specified but no custom columns given"},
		{"get svc -o custom-columns=A", "unexpected custom-columns spec: A, expected <header>:<json-path-expr>"},
		{"get svc -o custom-columns=A:{.a", "unexpected path string, expected a 'name1.name2'"},
		{"get svc -o custom-columns=A:a -L b", "--label-columns option cannot be used with custom-columns=A:a printer"},
		{"get --raw /api svc", "arguments may not be passed when --raw is specified"},
		{"get --raw /api -l a=b", "--raw may not be specified with other flags"},
		{"get --raw /api -o yaml", "--raw and --output are mutually exclusive"},
		{"get --raw api", "--raw must be a valid URL path: parse"},
		{"get --raw http://x/", `--raw must be a URL path, not "http://x/"`},
		{"get connections --sort-by=.x", "--sort-by and --template do not go with them"},
		{"logs a b", `want one Pod or TYPE/NAME, got ["a" "b"]`},
		{"explain tcp a:80 --recursive", "--recursive, --max-depth and --api-version are for a type"},
		{"apply", "must specify -f"},
		{"apply f.yaml", "takes no arguments"},
		{"apply -f - -o wide", "allowed formats are: go-template,go-template-file,json,jsonpath,jsonpath-as-json,jsonpath-file,name,template,templatefile,yaml"},
		{"create", "must specify -f"},
		{"replace", "must specify -f"},
		{"delete", "one or more resources must be specified"},
		{"delete svc", "no name was specified"},
		{"delete svc a --all", "name cannot be provided when a selector is specified"},
		{"delete svc a -A", "by name across all namespaces"},
		{"delete svc a --now --grace-period=3", "exclude each other"},
		{"delete svc --all -l a=b", "cannot set --all and --selector at the same time"},
		{"delete svc -f x", "may not specify resources by arguments"},
		{"delete -f x --all", "may not specify --all"},
		{"delete -f x -A", "may not specify --all, -l or -A"},
		{"describe", "you must specify the type of resource"},
		{"describe svc a -A", "across all namespaces"},
		{"create service clusterip", "exactly one NAME is required, got 0"},
		{"create service clusterip a", "at least one tcp port specifier must be provided"},
		{"create service clusterip a --tcp=x", `parsing "x": invalid syntax`},
		{"create service clusterip a --tcp=80:b_d", "must contain only alpha-numeric characters"},
		{"create service clusterip a --tcp=80:70000", "must be between 1 and 65535, inclusive"},
		{"create service externalname a", `required flag(s) "external-name" not set`},
		{"create service externalname a --external-name=-x", "invalid service external name -x"},
		{"create service frob", `unknown command "frob"`},
		{"create namespace a b", "exactly one NAME is required, got 2"},
		{"diff", "must specify -f"},
		{"expose", "one or more resources must be specified"},
		{"wait pod/a", "unrecognized condition: []"},
		{"wait pod/a --for=frob", `unrecognized condition: "frob"`},
		{"wait pod/a --for=jsonpath={.a}=", "jsonpath wait has to have a value after equal sign"},
		{"wait pod/a --for=jsonpath={.a}=b=c", "jsonpath wait format must be"},
		{"wait pod/a --for=jsonpath=", "jsonpath expression cannot be empty"},
		{"wait pods --for=delete", "no name was specified"},
		{"wait pods --all -l a=b --for=delete", "cannot set --all and --selector at the same time"},
		{"wait pods --all --field-selector a=b --for=delete", "cannot set --all and --field-selector at the same time"},
		{"wait pod/a --for=delete -A", "by name across all namespaces"},
		{"wait pod/a --for=delete -f x", "may not specify resources by arguments"},
		{"wait -f x --for=delete --all", "may not specify --all, -l or -A"},
		{"label svc a", "at least one label update is required"},
		{"label svc a b=c=d", "invalid label spec: b=c=d"},
		{"label svc a b=c/d", `invalid label value: "b=c/d": a valid label must be an empty string`},
		{"label svc a b=c b-", "can not both modify and remove a label in the same command"},
		{"label svc b=c a", "all resources must be specified before label changes: a"},
		{"label b=c", "one or more resources must be specified as <resource> <name> or <resource>/<name>"},
		{"label svc a --list -o yaml", "--list and --output may not be specified together"},
		{"label svc a b=c --dry-run=maybe", "invalid dry-run value (maybe)"},
		{"annotate svc a", "at least one annotation update is required"},
		{"annotate svc a b=c b-", "can not both modify and remove the following annotation(s) in the same command: b"},
		{"patch svc a", "must specify --patch or --patch-file"},
		{"patch svc a -p {} --patch-file=x", "cannot specify --patch and --patch-file together"},
		{"patch svc a -p {} --type=apply", `--type must be one of [json merge strategic], not "apply"`},
		{"patch svc a -p {} --dry-run=client", "did you mean --dry-run=server?"},
		{"patch svc -p {}", "no name was specified"},
		{"edit", "one or more resources must be specified"},
		{"edit svc a -o name", "allowed formats are: json,yaml"},
		{"explain svc --max-depth=2", "--max-depth requires --recursive"},
		{"explain svc --recursive --max-depth=-1", "--max-depth must be non-negative"},
		{"explain svc -o json", "allowed formats are: plaintext"},
		{"explain tcp", "want: usher explain"},
		{"api-resources --sort-by=x", "--sort-by accepts only name or kind"},
		{"api-resources x", "takes no arguments"},
		{"api-versions x", "takes no arguments"},
		{"status now", "takes no arguments"},
		{"status -o wide", "allowed formats are: json,yaml"},
		{"doctor now", "takes no arguments"},
		{"doctor -o wide", "allowed formats are: json,table,yaml"},
		{"setup", "say what to change: some of ports, route, dns"},
		{"setup port", `unknown change "port": want some of ports, route, dns`},
		{"setup ports --blackhole", "--blackhole is for route"},
		{"teardown ports", "takes no arguments"},
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
		{"https://localhost:7080", "", "secret"},
		{"https://127.0.0.1:7080", "", "secret"},
		{"https://[::1]:7080", "", "secret"},
		{"http://127.0.0.1:7080", "", ""},
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
