package cli

import (
	"crypto/tls"
	"encoding/pem"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// stateDir makes a state directory with what a daemon keeps in it.
func stateDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"ca.crt": "CA", "token": "SECRET\n", "token-view": "GLIMPSE\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestKubeconfig(t *testing.T) {
	f := newFake(t, "")
	f.status.DataDir, f.status.API = stateDir(t), []string{"unix:/x", "https://[::]:7081", "http://[::]:7081"}
	kube := func(name, token string) string {
		return `apiVersion: v1
kind: Config
clusters:
- name: usher
  cluster:
    server: https://127.0.0.1:7081
    certificate-authority-data: Q0E=
users:
- name: ` + name + `
  user:
    token: ` + token + `
contexts:
- name: ` + name + `
  context:
    cluster: usher
    user: ` + name + `
current-context: ` + name + "\n"
	}
	for role, want := range map[string]string{"admin": kube("usher", "SECRET"), "view": kube("usher-view", "GLIMPSE")} {
		if diff := cmp.Diff(result{0, want, ""}, f.usher(t, "", "kubeconfig", "--role", role), cmp.AllowUnexported(result{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", role, diff)
		}
	}
}

func TestKubeconfigMerge(t *testing.T) {
	f := newFake(t, "")
	f.status.DataDir, f.status.API = stateDir(t), []string{"https://127.0.0.1:7080"}
	home := t.TempDir()
	file := filepath.Join(home, ".kube", "config")
	run := func(args ...string) result {
		t.Helper()
		env := map[string]string{"USHER_SERVER": f.server, "HOME": home}
		return usher(t, env, "", append([]string{"kubeconfig", "--merge"}, args...)...)
	}
	steps := []struct {
		args []string
		want string
	}{
		{nil, `context "usher" written to ` + file + "\ncurrent context: usher\n"},
		{[]string{"--role", "view"}, `context "usher-view" written to ` + file + "\ncurrent context: usher, as before\n" +
			"  to use this one: kubectl --context usher-view, or add --use\n"},
		{[]string{"--role", "view", "--use"}, `context "usher-view" written to ` + file + "\ncurrent context: usher-view\n"},
	}
	for _, step := range steps {
		if diff := cmp.Diff(result{0, step.want, ""}, run(step.args...), cmp.AllowUnexported(result{})); diff != "" {
			t.Errorf("%q (-want +got):\n%s", step.args, diff)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil || strings.Count(string(data), "token: ") != 2 || strings.Count(string(data), "server: ") != 1 {
		t.Errorf("%s, %v", data, err)
	}
	if err := os.WriteFile(file, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := run(); got.code != exitError || !strings.Contains(got.stderr, file+": not a kubeconfig") {
		t.Errorf("%+v", got)
	}
}

func TestKubeconfigFails(t *testing.T) {
	tests := map[string]struct {
		api    []string
		remove string
		args   string
		code   int
		want   string
	}{
		"no control port": {[]string{"unix:/x"}, "", "", exitError, "the daemon has no control port: set api.listen"},
		"elsewhere":       {nil, "", "--server https://192.0.2.1:7080", exitError, "https://192.0.2.1:7080 is not on this machine"},
		"no authority":    {[]string{"https://a:1"}, "ca.crt", "", exitError, "read the daemon's certification authority: open "},
		"no token":        {[]string{"https://a:1"}, "token-view", "--role view", exitError, "read the daemon's token: open "},
		"role":            {nil, "", "--role root", exitUsage, `role "root", want admin or view`},
		"use":             {nil, "", "--use", exitUsage, "--use is for --merge"},
		"argument":        {nil, "", "x", exitUsage, "takes no arguments"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, "")
			f.status.DataDir, f.status.API = stateDir(t), tt.api
			if tt.remove != "" {
				os.Remove(filepath.Join(f.status.DataDir, tt.remove))
			}
			got := f.usher(t, "", append([]string{"kubeconfig"}, strings.Fields(tt.args)...)...)
			if got.code != tt.code || got.stdout != "" || !strings.Contains(got.stderr, tt.want) {
				t.Errorf("%+v, want exit code %d and %q", got, tt.code, tt.want)
			}
		})
	}
}

// Over https the server has to show a certificate of the authority that the
// flag, the environment, or this user's own daemon names, and is told who asks.
func TestServerOverTLS(t *testing.T) {
	var authorization string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		authorization = r.Header.Get("Authorization")
		w.Write([]byte(`{"gitVersion":"v1"}`))
	}))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	server.Config.ErrorLog = log.New(t.Output(), "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	dir, empty := stateDir(t), t.TempDir()
	ca := filepath.Join(dir, "ca.crt")
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, data, 0o600); err != nil {
		t.Fatal(err)
	}
	const unknown = "certificate signed by unknown authority\n  if it is a daemon's: --certificate-authority FILE, "
	tests := map[string]struct {
		environ map[string]string
		args    []string
		token   string
		stderr  string // "": it works
	}{
		"flags":       {map[string]string{"USHER_DATADIR": empty}, []string{"--certificate-authority", ca, "--token", "T"}, "T", ""},
		"environment": {map[string]string{"USHER_DATADIR": empty, "USHER_CERTIFICATE_AUTHORITY": ca, "USHER_TOKEN": "E"}, nil, "E", ""},
		"both":        {map[string]string{"USHER_DATADIR": dir, "USHER_TOKEN": "E"}, []string{"--token", "T"}, "T", ""},
		"own daemon":  {map[string]string{"USHER_DATADIR": dir}, nil, "SECRET", ""},
		"unknown":     {map[string]string{"USHER_DATADIR": empty}, nil, "", unknown},
		"no such file": {map[string]string{"USHER_DATADIR": dir}, []string{"--certificate-authority", ca + "x"}, "",
			"read the certificate authority: open "},
		"no certificate": {map[string]string{"USHER_DATADIR": dir}, []string{"--certificate-authority", filepath.Join(dir, "token")}, "",
			"token: there is no certificate in it"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			authorization = ""
			got := usher(t, tt.environ, "", append([]string{"version", "--server", server.URL}, tt.args...)...)
			if (got.code == exitOK) != (tt.stderr == "") || !strings.Contains(got.stderr, tt.stderr) {
				t.Errorf("%+v, want %q", got, tt.stderr)
			}
			if want := strings.TrimSuffix("Bearer "+tt.token, "Bearer "); authorization != want {
				t.Errorf("Authorization %q, want %q", authorization, want)
			}
		})
	}
}
