package setup

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// A fakeMachine is a directory with the files that matter, and a resolver that
// answers as it is told.
type fakeMachine struct {
	Machine
	out      bytes.Buffer
	ran      []string
	version  string // of systemd
	fails    string // a command that does
	resolves bool
}

var names = Names{
	Domain: "cluster.local", Nameserver: netip.MustParseAddrPort("127.96.0.10:8053"),
	Canary: "kubernetes.default.svc.cluster.local", Address: netip.MustParseAddr("127.96.0.1"),
}

const portFile = "proc/sys/net/ipv4/ip_unprivileged_port_start"

func newFake(t *testing.T) *fakeMachine {
	t.Helper()
	root := t.TempDir()
	for path, content := range map[string]string{portFile: "1024\n", "run/systemd/resolve/resolv.conf": "", "etc/sysctl.d/10-other.conf": "x = 1\n"} {
		put(t, root, path, content)
	}
	m := &fakeMachine{version: "258.1", resolves: true}
	m.Machine = Machine{OS: "linux", Root: root, StateDir: filepath.Join(t.TempDir(), "state"), Out: &m.out}
	m.Run = func(ctx context.Context, command []string) (string, error) {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		text := strings.Join(command, " ")
		if text == "resolvectl --version" {
			return "systemd " + m.version + " (258.1-1)\n+PAM\n", nil
		}
		m.ran = append(m.ran, text)
		if m.fails != "" && strings.HasPrefix(text, m.fails) {
			return "it does not work\n", errors.New("exit status 1")
		}
		return "", nil
	}
	m.Lookup = func(_ context.Context, name string) ([]netip.Addr, error) {
		if name != names.Canary || !m.resolves {
			return nil, errors.New("no such host")
		}
		return []netip.Addr{names.Address}, nil
	}
	return m
}

func put(t *testing.T, root, path, content string) {
	t.Helper()
	path = filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tree returns every file below root with its content, and every directory.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			found[path] = "directory"
			return err
		}
		if d.Type() == fs.ModeSymlink {
			found[path], err = os.Readlink(filepath.Join(root, path))
			return err
		}
		data, err := os.ReadFile(filepath.Join(root, path))
		found[path] = strings.TrimSpace(string(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (m *fakeMachine) tree(t *testing.T) map[string]string { return tree(t, m.Root) }

func (m *fakeMachine) setUp(t *testing.T, tasks ...Task) {
	t.Helper()
	if err := m.Setup(t.Context(), tasks); err != nil {
		t.Fatal(err)
	}
}

func (m *fakeMachine) tearDown(t *testing.T) {
	t.Helper()
	if err := m.Teardown(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// checkPending checks which places there is something to undo about.
func checkPending(t *testing.T, m *fakeMachine, want ...string) {
	t.Helper()
	changes, err := Pending(m.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range changes {
		got = append(got, c.Place.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("to be undone (-want +got):\n%s", diff)
	}
}

// said returns what has been said since it was asked last.
func (m *fakeMachine) said() string {
	defer m.out.Reset()
	return m.out.String()
}

func TestSetupAndTeardown(t *testing.T) {
	m := newFake(t)
	before := m.tree(t)
	m.setUp(t, Ports(), DNS(names))
	want := map[string]string{
		portFile:                     "53",
		"etc/sysctl.d/60-usher.conf": "# Written by usher setup; usher teardown removes it.\nnet.ipv4.ip_unprivileged_port_start = 53",
		"etc/systemd":                "directory",
		"etc/systemd/dns-delegate.d": "directory",
		"etc/systemd/dns-delegate.d/usher.dns-delegate": "# Written by usher setup; usher teardown removes it.\n" +
			"[Delegate]\nDNS=127.96.0.10:8053\nDomains=~cluster.local",
	}
	for path, content := range before {
		if _, ok := want[path]; !ok {
			want[path] = content
		}
	}
	if diff := cmp.Diff(want, m.tree(t)); diff != "" {
		t.Errorf("after setup (-want +got):\n%s", diff)
	}
	if got := m.said(); !strings.Contains(got, "\nsysctl -w net.ipv4.ip_unprivileged_port_start=53\n") ||
		!strings.Contains(got, "# kubernetes.default.svc.cluster.local resolves to 127.96.0.1\n") {
		t.Errorf("it says:\n%s", got)
	}

	m.setUp(t, Ports(), DNS(names))
	if got := m.said(); strings.Count(got, "# it is so already") != 2 {
		t.Errorf("the second time it says:\n%s", got)
	}
	m.tearDown(t)
	if diff := cmp.Diff(before, m.tree(t)); diff != "" {
		t.Errorf("after teardown (-want +got):\n%s", diff)
	}
	const reload = "systemctl reload-or-restart systemd-resolved"
	if diff := cmp.Diff([]string{reload, reload}, m.ran); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
	m.said()
	m.tearDown(t)
	if got := m.said(); got != "# there is nothing to undo\n" {
		t.Errorf("the second time it says:\n%s", got)
	}
}

// A setup of which a part fails leaves no trace of the rest, but that somebody is
// still to be told if that is what failed.
func TestSetupFails(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, m *fakeMachine)
		tasks []Task
		want  string
		left  []string // to be undone later
	}{
		{"the canary does not resolve", func(t *testing.T, m *fakeMachine) { m.resolves = false },
			[]Task{Ports(), DNS(names)}, "dns: look up kubernetes.default.svc.cluster.local: no such host", nil},
		{"a command fails", func(t *testing.T, m *fakeMachine) { m.fails = "systemctl" },
			[]Task{Ports(), DNS(names)}, "dns: run systemctl reload-or-restart systemd-resolved: exit status 1: it does not work",
			[]string{"file /etc/systemd/dns-delegate.d/usher.dns-delegate"}},
		{"a systemd of before", func(t *testing.T, m *fakeMachine) { m.version = "252" },
			[]Task{Ports(), DNS(names)}, "dns: systemd 252 is here, and 258 is the first", nil},
		{"a systemd that is not released", func(t *testing.T, m *fakeMachine) { m.version = "v12~rc1" },
			[]Task{DNS(names)}, "dns: systemd v12~rc1 is here", nil},
		{"no resolver", func(t *testing.T, m *fakeMachine) {
			if err := os.RemoveAll(filepath.Join(m.Root, "run")); err != nil {
				t.Fatal(err)
			}
		}, []Task{Ports(), DNS(names)}, "dns: systemd-resolved does not run here", nil},
		{"a link in the place of the file", func(t *testing.T, m *fakeMachine) {
			if err := os.Symlink("/dev/null", filepath.Join(m.Root, "etc/sysctl.d/60-usher.conf")); err != nil {
				t.Fatal(err)
			}
		}, []Task{Ports()}, "60-usher.conf is not a file", nil},
		{"a directory that cannot be made", func(t *testing.T, m *fakeMachine) {
			if err := os.Symlink("nowhere", filepath.Join(m.Root, "etc/systemd")); err != nil {
				t.Fatal(err)
			}
		}, []Task{Ports(), DNS(names)}, "dns: change directory /etc/systemd", nil},
		{"another system", func(t *testing.T, m *fakeMachine) { m.OS = "plan9" },
			[]Task{Ports()}, "only Linux has sysctl", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newFake(t)
				tt.spoil(t, m)
				before := m.tree(t)
				err := m.Setup(t.Context(), tt.tasks)
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error %v, want %q", err, tt.want)
				}
				if diff := cmp.Diff(before, m.tree(t)); diff != "" {
					t.Errorf("the machine (-before +after):\n%s", diff)
				}
				checkPending(t, m, tt.left...)
			})
		})
	}
}

// A setup that is interrupted undoes what it has done.
func TestSetupInterrupted(t *testing.T) {
	m := newFake(t)
	before := m.tree(t)
	ctx, cancel := context.WithCancel(t.Context())
	m.Lookup = func(context.Context, string) ([]netip.Addr, error) {
		cancel()
		return nil, errors.New("no such host")
	}
	if err := m.Setup(ctx, []Task{Ports(), DNS(names)}); err == nil {
		t.Error("it succeeds")
	}
	if len(m.ran) != 2 {
		t.Errorf("it has run %q, want that the resolver is told of both", m.ran)
	}
	if diff := cmp.Diff(before, m.tree(t)); diff != "" {
		t.Errorf("the machine (-before +after):\n%s", diff)
	}
}

// On macOS a file for the domain is what sends its names elsewhere.
func TestDarwin(t *testing.T) {
	m := newFake(t)
	m.OS = "darwin"
	before := m.tree(t)
	m.setUp(t, DNS(names))
	got := m.tree(t)["etc/resolver/cluster.local"]
	if want := "# Written by usher setup; usher teardown removes it.\nnameserver 127.96.0.10\nport 8053"; got != want {
		t.Errorf("the file is\n%s", got)
	}
	if diff := cmp.Diff([]string{"dscacheutil -flushcache", "killall -HUP mDNSResponder"}, m.ran); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
	m.tearDown(t)
	if diff := cmp.Diff(before, m.tree(t)); diff != "" {
		t.Errorf("after teardown (-want +got):\n%s", diff)
	}
}

// What somebody has changed since is theirs.
func TestTeardownLeavesWhatChanged(t *testing.T) {
	m := newFake(t)
	m.setUp(t, Ports(), DNS(names))
	put(t, m.Root, portFile, "80\n")
	put(t, m.Root, "etc/sysctl.d/60-usher.conf", "mine = 1\n")
	put(t, m.Root, "etc/systemd/dns-delegate.d/other.dns-delegate", "")
	want := m.tree(t)
	delete(want, "etc/systemd/dns-delegate.d/usher.dns-delegate")
	m.said()
	m.tearDown(t)
	if diff := cmp.Diff(want, m.tree(t)); diff != "" {
		t.Errorf("after teardown (-want +got):\n%s", diff)
	}
	said := m.said()
	for _, place := range []string{
		"sysctl net.ipv4.ip_unprivileged_port_start is left as it is: somebody has changed it since",
		"file /etc/sysctl.d/60-usher.conf is left as it is: somebody has changed it since",
		"directory /etc/systemd/dns-delegate.d is left as it is: somebody has put something into it since",
	} {
		if !strings.Contains(said, "# "+place+"\n") {
			t.Errorf("it does not say %q but\n%s", place, said)
		}
	}
	m.tearDown(t)
	if got := m.said(); got != "# there is nothing to undo\n" {
		t.Errorf("the second time it says:\n%s", got)
	}
}

// A file that was there before is there again, with its mode.
func TestReplacedFile(t *testing.T) {
	m := newFake(t)
	const path = "etc/sysctl.d/60-usher.conf"
	put(t, m.Root, path, "mine = 1\n")
	if err := os.Chmod(filepath.Join(m.Root, path), 0o640); err != nil {
		t.Fatal(err)
	}
	m.setUp(t, Ports())
	m.tearDown(t)
	data, err := os.ReadFile(filepath.Join(m.Root, path))
	if err != nil || string(data) != "mine = 1\n" {
		t.Errorf("%q, %v", data, err)
	}
	if info, err := os.Stat(filepath.Join(m.Root, path)); err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// What cannot be undone now can be later.
func TestTeardownAgain(t *testing.T) {
	m := newFake(t)
	before := m.tree(t)
	m.setUp(t, Ports())
	path := filepath.Join(m.Root, portFile)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := m.Teardown(t.Context()); err == nil || !strings.Contains(err.Error(), "undo the change of sysctl net.ipv4.ip_unprivileged_port_start") {
		t.Errorf("error %v", err)
	}
	checkPending(t, m, "sysctl net.ipv4.ip_unprivileged_port_start")
	put(t, m.Root, portFile, "53\n")
	m.tearDown(t)
	if diff := cmp.Diff(before, m.tree(t)); diff != "" {
		t.Errorf("after teardown (-want +got):\n%s", diff)
	}
}

// Who could not be told that a change is undone is told later.
func TestTeardownTellsAgain(t *testing.T) {
	m := newFake(t)
	before := m.tree(t)
	m.setUp(t, DNS(names))
	m.fails = "systemctl"
	if err := m.Teardown(t.Context()); err == nil || !strings.Contains(err.Error(), "run systemctl reload-or-restart systemd-resolved") {
		t.Errorf("error %v", err)
	}
	checkPending(t, m, "file /etc/systemd/dns-delegate.d/usher.dns-delegate")
	if diff := cmp.Diff(before, m.tree(t)); diff != "" {
		t.Errorf("after teardown (-want +got):\n%s", diff)
	}
	m.fails, m.ran = "", nil
	m.tearDown(t)
	checkPending(t, m)
	if diff := cmp.Diff([]string{"systemctl reload-or-restart systemd-resolved"}, m.ran); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}

// The commands that are shown can be given to a shell.
func TestScript(t *testing.T) {
	file := Place{kindFile, filepath.Join(t.TempDir(), "file")}
	for content, want := range map[string]string{"": "", "a\nb\n": "a\nb\n", "a": "a\n", "$a `b`\n\n": "$a `b`\n\n"} {
		script := Change{Place: file}.script(&content) + "\necho done"
		out, err := exec.CommandContext(t.Context(), "sh", "-c", script).CombinedOutput()
		if err != nil || string(out) != "done\n" {
			t.Errorf("%s\nsays %s, %v", script, out, err)
		}
		if got, err := os.ReadFile(file.Name); err != nil || string(got) != want {
			t.Errorf("%s\nwrites %q, %v, want %q", script, got, err, want)
		}
	}
}

func TestDryRun(t *testing.T) {
	m := newFake(t)
	m.DryRun = true
	before := m.tree(t)
	m.setUp(t, Ports(), DNS(names))
	want := `# ports: ports from 53 on may be opened without a privilege, so that Services keep their ports on loopback
cat >/etc/sysctl.d/60-usher.conf <<'EOF'
# Written by usher setup; usher teardown removes it.
net.ipv4.ip_unprivileged_port_start = 53
EOF
sysctl -w net.ipv4.ip_unprivileged_port_start=53
# dns: names below cluster.local resolve in every program, by usher's nameserver at 127.96.0.10:8053
mkdir /etc/systemd
mkdir /etc/systemd/dns-delegate.d
cat >/etc/systemd/dns-delegate.d/usher.dns-delegate <<'EOF'
# Written by usher setup; usher teardown removes it.
[Delegate]
DNS=127.96.0.10:8053
Domains=~cluster.local
EOF
systemctl reload-or-restart systemd-resolved
`
	if diff := cmp.Diff(want, m.said()); diff != "" {
		t.Errorf("it says (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, m.tree(t)); diff != "" {
		t.Errorf("the machine (-before +after):\n%s", diff)
	}
	if _, err := os.Stat(m.StateDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the state directory: %v", err)
	}
	if len(m.ran) > 0 {
		t.Errorf("it has run %q", m.ran)
	}

	m.DryRun = false
	m.setUp(t, Ports())
	m.said()
	after := m.tree(t)
	m.DryRun = true
	m.tearDown(t)
	if got := m.said(); got != "sysctl -w net.ipv4.ip_unprivileged_port_start=1024\nrm /etc/sysctl.d/60-usher.conf\n" {
		t.Errorf("teardown says:\n%s", got)
	}
	if diff := cmp.Diff(after, m.tree(t)); diff != "" {
		t.Errorf("the machine (-before +after):\n%s", diff)
	}
}
