package netenv

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"usher/registry"
)

// Roles of this test binary. A host has files of its own in a mount namespace
// and runs the binary again as usher, which calls Exec.
const (
	roleHost  = "USHER_NETENV_TEST_HOST"
	roleUsher = "USHER_NETENV_TEST_USHER"
	roleNohup = "USHER_NETENV_TEST_NOHUP" // of usher: started by nohup
	roleRoams = "USHER_NETENV_TEST_ROAMS" // of host: its network changes, see roam
)

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == Stage2Command:
		likeMain()
		os.Exit(Stage2(os.Args[2:]))
	case os.Getenv(roleHost) != "":
		os.Exit(host(os.Getenv(roleHost)))
	case os.Getenv(roleUsher) != "":
		os.Exit(usher(os.Getenv(roleUsher)))
	}
	goleak.VerifyTestMain(m)
}

// likeMain does what main.go does before anything else. It moves this goroutine
// to another thread than the one that the process began with.
func likeMain() {
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGTERM} {
		if !signal.Ignored(s) {
			_, _ = signal.NotifyContext(context.Background(), s)
		}
	}
}

// usher is what the command line does.
func usher(args string) int {
	os.Unsetenv(roleUsher)
	likeMain()
	if os.Getenv(roleNohup) != "" {
		signal.Ignore(unix.SIGHUP)
	}
	o := Options{Nameserver: netip.MustParseAddr("10.96.0.10"), Search: registry.SearchPath("finance", "cluster.local")}
	if err := json.Unmarshal([]byte(args), &o.Args); err != nil {
		panic(err)
	}
	if socket := os.Getenv(rolePrivate); socket != "" {
		o.Private = privateOf(socket)
	}
	code, err := Exec(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "usher:", err)
	}
	return code
}

const (
	hostResolvConf = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch corp.example\n"
	hostNsswitch   = "passwd: files systemd\nhosts: resolve [!UNAVAIL=return] files dns\n"
)

// host is a computer whose resolv.conf is a link, as on Ubuntu, and that runs
// nscd. It runs usher in the place of its own and says afterwards what its own
// files are like.
func host(kind string) int {
	os.Unsetenv(roleHost)
	runtime.LockOSThread() // capabilities belong to a thread
	must := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "host:", err)
			os.Exit(99)
		}
	}
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")) // as systemd does: mounts spread to copies
	must(unix.Mount("test", "/etc", "tmpfs", 0, "mode=755"))
	must(unix.Mount("test", "/run", "tmpfs", 0, "mode=755"))
	must(os.MkdirAll("/run/systemd/resolve", 0o755))
	must(os.MkdirAll("/run/nscd", 0o755))
	must(os.WriteFile("/run/nscd/socket", nil, 0o666))
	must(os.WriteFile("/run/systemd/resolve/stub-resolv.conf", []byte(hostResolvConf), 0o644))
	must(os.Symlink("../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf"))
	must(os.WriteFile("/etc/nsswitch.conf", []byte(hostNsswitch), 0o644))
	must(os.Mkdir("/run/systemd/resolve/netif", 0o755))
	must(os.WriteFile("/run/systemd/resolve/netif/2", []byte("DNS=127.0.0.54\n"), 0o644))
	must(os.Symlink("netif/2", "/run/systemd/resolve/link"))
	must(unix.Mkfifo("/run/ready", 0o644))
	must(unix.Mkfifo("/run/roamed", 0o644))
	if os.Getenv(roleRoams) != "" {
		go func() { must(roam()) }()
	}
	before, err := os.ReadFile("/proc/self/mountinfo")
	must(err)

	cmd := exec.Command("/proc/self/exe")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	switch kind {
	case "ambient":
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
	case "forbidding":
		must(os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0))
		fallthrough
	case "plain":
		must(unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
	}
	_ = cmd.Run()

	resolv, err := os.ReadFile("/etc/resolv.conf")
	must(err)
	nsswitch, err := os.ReadFile("/etc/nsswitch.conf")
	must(err)
	_, err = os.Stat("/run/nscd/socket")
	must(err)
	after, err := os.ReadFile("/proc/self/mountinfo")
	must(err)
	if string(resolv) != hostResolvConf || string(nsswitch) != hostNsswitch || !bytes.Equal(before, after) {
		fmt.Fprintf(os.Stderr, "host: something has changed:\n%s%s%s", resolv, nsswitch, after)
		return 99
	}
	return shellCode(cmd.ProcessState)
}

// roam writes resolv.conf anew once the program has said that it is ready, as
// systemd-resolved does, and tells the program.
func roam() error {
	if _, err := os.ReadFile("/run/ready"); err != nil {
		return err
	}
	const file = "/run/systemd/resolve/stub-resolv.conf"
	if err := os.WriteFile(file+".new", []byte(hostResolvConf), 0o644); err != nil {
		return err
	}
	if err := os.Rename(file+".new", file); err != nil {
		return err
	}
	return os.WriteFile("/run/roamed", []byte("roamed\n"), 0o644)
}

// shellCode returns the exit code that a shell would show.
func shellCode(p *os.ProcessState) int {
	if status := p.Sys().(syscall.WaitStatus); status.Signaled() {
		return 128 + int(status.Signal())
	}
	return p.ExitCode()
}

// A way is one by which a program gets its namespace.
type way struct {
	name    string
	inPlace bool
	usher   func(args ...string) *exec.Cmd // runs Exec with the files of this host
	host    func(args ...string) *exec.Cmd // runs it on a host of its own
	forbids func(args ...string) *exec.Cmd // and on one that forbids namespaces; may be nil
}

// ways returns those that can be tried by the user who runs the tests.
func ways() []way {
	command := func(env string, attr *syscall.SysProcAttr) func(args ...string) *exec.Cmd {
		return func(args ...string) *exec.Cmd {
			encoded, _ := json.Marshal(args)
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), roleUsher+"="+string(encoded), env, "GORACE=atexit_sleep_ms=0")
			cmd.SysProcAttr = attr
			return cmd
		}
	}
	if os.Geteuid() == 0 {
		// Root could change this computer: what is wrong with Exec must not do
		// it harm. (Of an unshared mount namespace Go makes the mounts private.)
		attr := &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
		return []way{{"root", true, command("", attr), command(roleHost+"=root", attr), nil}}
	}
	attr := &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_RESOURCE},
	}
	return []way{
		{"user", false, command("", nil), command(roleHost+"=plain", attr), command(roleHost+"=forbidding", attr)},
		{"capable user", true, command("", attr), command(roleHost+"=ambient", attr), nil},
	}
}

// eachWay runs a test in each way that there is.
func eachWay(t *testing.T, test func(t *testing.T, w way)) {
	for _, w := range ways() {
		t.Run(w.name, func(t *testing.T) {
			if cmd := w.host("true"); !starts(cmd) {
				t.Skip("SKIP: ordinary users may make no user namespace here")
			}
			test(t, w)
		})
	}
}

func starts(cmd *exec.Cmd) bool {
	if cmd.Start() != nil {
		return false
	}
	_ = cmd.Wait()
	return true
}

// run runs cmd and returns its output and what a shell would have in $?.
func run(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	return out.String(), errOut.String(), shellCode(cmd.ProcessState)
}

// TestAsOrdinaryUser runs the other tests once more, as nobody.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the tests run as an ordinary user anyway")
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.v", "-test.timeout=120s")
	cmd.Env = append(os.Environ(), "TMPDIR=/tmp", "GORACE=atexit_sleep_ms=0")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	t.Logf("as nobody:\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

// TestFiles checks what the program sees on a host whose resolv.conf is a
// link, and that the host sees nothing of it (see host).
func TestFiles(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		stdout, stderr, code := run(t, w.host("sh", "-c",
			"cat /etc/resolv.conf /run/systemd/resolve/stub-resolv.conf /etc/nsswitch.conf; ls /run/nscd; cat /proc/self/comm"))
		const resolv = "nameserver 10.96.0.10\nsearch finance.svc.cluster.local svc.cluster.local cluster.local corp.example\noptions ndots:5\n"
		want := resolv + resolv + "hosts: files dns\npasswd: files systemd\n" + "cat\n"
		if diff := cmp.Diff(want, stdout); diff != "" || code != 0 || stderr != "" {
			t.Errorf("code %d, %q, output (-want +got):\n%s", code, stderr, diff)
		}
	})
}

// TestRoaming checks that the program keeps its resolv.conf when the host gets
// another one, and that what is beside it stays.
func TestRoaming(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		cmd := w.host("sh", "-c", `cd /run/systemd/resolve; head -n 1 stub-resolv.conf; echo >/run/ready; cat /run/roamed
			head -n 1 /etc/resolv.conf; ls; cat netif/2 link`)
		cmd.Env = append(cmd.Env, roleRoams+"=yes")
		stdout, stderr, code := run(t, cmd)
		const nameserver, netif = "nameserver 10.96.0.10\n", "DNS=127.0.0.54\n"
		want := nameserver + "roamed\n" + nameserver + "link\nnetif\nstub-resolv.conf\n" + netif + netif
		if diff := cmp.Diff(want, stdout); diff != "" || code != 0 || stderr != "" {
			t.Errorf("code %d, %q, output (-want +got):\n%s", code, stderr, diff)
		}
	})
}

// TestThisHost checks that it also works with the files of this computer.
func TestThisHost(t *testing.T) {
	if _, err := os.Stat("/etc/resolv.conf"); err != nil {
		t.Skipf("SKIP: %v", err)
	}
	eachWay(t, func(t *testing.T, w way) {
		stdout, stderr, code := run(t, w.usher("cat", "/etc/resolv.conf"))
		if code != 0 || !strings.HasPrefix(stdout, "nameserver 10.96.0.10\nsearch finance.svc.cluster.local ") {
			t.Errorf("code %d, %q, %q", code, stdout, stderr)
		}
	})
}

func TestExitCodes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(file, []byte("no program\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("no program\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args   []string
		code   int
		stderr string
	}{
		{[]string{"true"}, 0, ""},
		{[]string{"sh", "-c", "exit 3"}, 3, ""},
		{[]string{"sh", "-c", "kill -TERM $$"}, 128 + 15, ""},
		{[]string{"sh", "-c", "kill -KILL $$"}, 128 + 9, ""},
		{[]string{"usher-no-such-program"}, 127, "executable file not found"},
		{[]string{"./usher-no-such-program"}, 127, "no such file"},
		{[]string{file}, 126, "permission denied"},
		{[]string{garbage}, 126, "exec format error"},
		{[]string{"/"}, 126, "is a directory"},
		{nil, 1, "run a program: none is given"},
	}
	eachWay(t, func(t *testing.T, w way) {
		for _, tt := range tests {
			stdout, stderr, code := run(t, w.usher(tt.args...))
			if code != tt.code || stdout != "" || !strings.Contains(stderr, tt.stderr) || tt.stderr == "" && stderr != "" {
				t.Errorf("%q: code %d, output %q, errors %q; want code %d and %q", tt.args, code, stdout, stderr, tt.code, tt.stderr)
			}
		}
	})
}

// TestProgram checks what the program has of its caller: standard input,
// arguments, environment, other descriptors, uid and gid, and the directory.
func TestProgram(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		cmd := w.usher("sh", "-c", `cat; echo "$0|$1|$2|$USHER_TEST_VALUE"; cat <&3; id -u; id -g; pwd
			for i in 4 5 6 7 8 9; do [ -e /proc/$$/fd/$i ] && echo "descriptor $i"; done; exit 0`, "a", "b c", "")
		cmd.Env = append(cmd.Env, "USHER_TEST_VALUE=x y")
		cmd.Dir = "/"
		cmd.Stdin = strings.NewReader("hello\n")
		r, pw, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		cmd.ExtraFiles = []*os.File{r}
		if _, err := io.WriteString(pw, "third\n"); err != nil {
			t.Fatal(err)
		}
		pw.Close()
		stdout, stderr, code := run(t, cmd)
		want := fmt.Sprintf("hello\na|b c||x y\nthird\n%d\n%d\n/\n", os.Geteuid(), os.Getegid())
		if diff := cmp.Diff(want, stdout); diff != "" || code != 0 || stderr != "" {
			t.Errorf("code %d, %q, output (-want +got):\n%s", code, stderr, diff)
		}
	})
}

// TestNetworkNamespaceStays checks that the program is where the VIPs are.
func TestNetworkNamespaceStays(t *testing.T) {
	want, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	eachWay(t, func(t *testing.T, w way) {
		if got, _, _ := run(t, w.usher("readlink", "/proc/self/ns/net")); strings.TrimSpace(got) != want {
			t.Errorf("network namespace %s, want %s", got, want)
		}
	})
}

// TestNoPrivilege checks that the program of an ordinary user has nothing left
// of what its namespace was made with.
func TestNoPrivilege(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		if w.inPlace {
			t.Skip("the program has what its caller had")
		}
		got, _, _ := run(t, w.usher("grep", "-E", "^Cap(Inh|Prm|Eff|Amb)", "/proc/self/status"))
		const none = "\t0000000000000000\n"
		if diff := cmp.Diff("CapInh:"+none+"CapPrm:"+none+"CapEff:"+none+"CapAmb:"+none, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestForbidden checks what is said where ordinary users may make no
// namespace.
func TestForbidden(t *testing.T) {
	eachWay(t, func(t *testing.T, w way) {
		if w.forbids == nil {
			t.Skip("a mount namespace is all that is needed")
		}
		stdout, stderr, code := run(t, w.forbids("echo", "it ran"))
		const want = "usher: make a user namespace: no space left on device: user.max_user_namespaces=0 keeps ordinary users from it: " +
			"`sudo sysctl -w user.max_user_namespaces=10000` allows it, and so does running this with sudo\n"
		if diff := cmp.Diff(want, stderr); diff != "" || code != 1 || stdout != "" {
			t.Errorf("code %d, output %q, errors (-want +got):\n%s", code, stdout, diff)
		}
	})
}
