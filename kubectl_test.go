package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// A kubectl is a program of that name, and the minor version that it is.
type kubectl struct {
	path, version string
	minor         int
}

// kubectls returns the programs that the scripts are run with: the one of this
// version of the API, which `make tools` builds, the one that is installed,
// and those that USHER_TEST_KUBECTL lists. It says which are not there.
func kubectls(t *testing.T) []kubectl {
	t.Helper()
	built, err := filepath.Abs("bin/kubectl")
	if err != nil {
		t.Fatal(err)
	}
	paths := append([]string{built, "kubectl"}, filepath.SplitList(os.Getenv("USHER_TEST_KUBECTL"))...)
	var all []kubectl
	for _, name := range paths {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Run(filepath.Base(filepath.Dir(name))+"-"+filepath.Base(name), func(t *testing.T) {
				t.Skipf("no kubectl: %v (`make tools` builds bin/kubectl, Debian's is in kubernetes-client)", err)
			})
			continue
		}
		k, err := newKubectl(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if !slices.ContainsFunc(all, func(other kubectl) bool { return other.version == k.version }) {
			all = append(all, k)
		}
	}
	return all
}

func newKubectl(path string) (kubectl, error) {
	out, err := exec.Command(path, "version", "--client", "-o", "json").Output()
	if err != nil {
		return kubectl{}, fmt.Errorf("ask for its version: %w", err)
	}
	var version struct {
		ClientVersion struct{ Minor, GitVersion string }
	}
	if err := json.Unmarshal(out, &version); err != nil {
		return kubectl{}, fmt.Errorf("read its version: %w", err)
	}
	minor, err := strconv.Atoi(strings.TrimRight(version.ClientVersion.Minor, "+"))
	return kubectl{path, version.ClientVersion.GitVersion, minor}, err
}

// TestKubectl runs testdata/kubectl with each kubectl. [kubectl:1.N] in a script
// is true from that version on.
func TestKubectl(t *testing.T) {
	if !isolated() {
		t.Skip("no namespaces here: the control port is a given one, and may be somebody else's")
	}
	for _, k := range kubectls(t) {
		t.Run(k.version, func(t *testing.T) {
			p := scripts("testdata/kubectl")
			setup, condition := p.Setup, p.Condition
			p.Setup = func(env *testscript.Env) error {
				bin := filepath.Join(env.WorkDir, ".bin")
				if err := os.Mkdir(bin, 0o700); err != nil {
					return err
				}
				if err := os.Symlink(k.path, filepath.Join(bin, "kubectl")); err != nil {
					return err
				}
				env.Setenv("PATH", bin+string(filepath.ListSeparator)+env.Getenv("PATH"))
				env.Setenv("HOME", filepath.Join(env.WorkDir, "home")) // ~/.kube/config, ~/.kube/cache
				env.Setenv("KUBECONFIG", "")
				return setup(env)
			}
			p.Condition = func(cond string) (bool, error) {
				if minor, ok := strings.CutPrefix(cond, "kubectl:1."); ok {
					n, err := strconv.Atoi(minor)
					return k.minor >= n, err
				}
				return condition(cond)
			}
			testscript.Run(t, p)
		})
	}
}
