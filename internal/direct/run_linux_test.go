//go:build amd64 || arm64

package direct

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestConnect checks that a program reaches a Service by its ClusterIP, the
// Backends in turn, and that everything else is where it was.
func TestConnect(t *testing.T) {
	a, b := backend(t, "a", "127.0.0.1:0"), backend(t, "b", "127.0.0.2:0")
	w := newWorld(t, service("web", "10.96.0.7", 80, "TCP", a, b)+
		service("empty", "10.96.0.8", 80, "TCP")+
		service("half", "10.96.0.9", 80, "TCP", dead(t), b))
	got := output(t, w.client("ask", "2", "10.96.0.7:80", "10.96.0.7:81", "10.96.0.8:80", "10.96.0.9:80", "10.96.200.1:80", a))
	want := strings.Repeat("%\nconnection refused\nconnection refused\nb\nconnection refused\na\n", 2)
	want = strings.Replace(strings.Replace(want, "%", "a", 1), "%", "b", 1)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestFollow checks that a program that runs sees what changes, and that the
// last state is served when the daemon has gone.
func TestFollow(t *testing.T) {
	a, b := backend(t, "a", "127.0.0.1:0"), backend(t, "b", "127.0.0.2:0")
	w := newWorld(t, "")
	say, hear := interactive(t, w.client("asks"))
	asks := func() string {
		say("10.96.0.7:80")
		return hear()
	}
	if got := asks(); got != "connection refused" {
		t.Fatalf("before the Service: %s", got)
	}
	w.apply(t, service("web", "10.96.0.7", 80, "TCP", a))
	until(t, "a answers", func() bool { return asks() == "a" })
	w.apply(t, service("web", "10.96.0.7", 80, "TCP", b))
	until(t, "b answers", func() bool { return asks() == "b" })
	w.die()
	for range 3 {
		if got := asks(); got != "b" {
			t.Errorf("without the daemon: %s", got)
		}
	}
}

// interactive starts cmd and returns how to write a line to it and read one.
func interactive(t *testing.T, cmd *exec.Cmd) (say func(string), hear func() string) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewReader(out)
	return func(line string) { fmt.Fprintln(in, line) }, func() string {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%q, %v", line, err)
		}
		return strings.TrimSpace(line)
	}
}

// TestDescriptors checks that nothing is kept of connections, of threads and
// of processes.
func TestDescriptors(t *testing.T) {
	count := 10000
	if testing.Short() {
		count = 500
	}
	a := backend(t, "a", "127.0.0.1:0")
	w := newWorld(t, service("web", "10.96.0.7", 80, "TCP", a))
	cmd := w.client("asks")
	say, hear := interactive(t, cmd)
	descriptors := func() (usher, program int) {
		say("descriptors")
		program, _ = strconv.Atoi(hear())
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries), program
	}
	many := func(n int) {
		say(fmt.Sprintf("%d 10.96.0.7:80", n))
		if got := hear(); got != fmt.Sprint(n) {
			t.Errorf("%s connections of %d", got, n)
		}
	}
	many(100)
	usherBefore, programBefore := descriptors()
	many(count)
	usherAfter, programAfter := descriptors()
	if usherAfter > usherBefore+2*maxPidfds || programAfter > programBefore+2 {
		t.Errorf("usher had %d descriptors and has %d, the program %d and %d", usherBefore, usherAfter, programBefore, programAfter)
	}
}

// TestProcesses checks that whatever a program starts is translated, however
// it does that, and that usher stays for it.
func TestProcesses(t *testing.T) {
	a := backend(t, "a", "127.0.0.1:0")
	w := newWorld(t, service("web", "10.96.0.7", 80, "TCP", a))
	const child = `USHER_DIRECT_TEST_CLIENT=ask /proc/self/exe 1 10.96.0.7:80`
	self := copyOfSelf(t)
	for _, script := range []string{
		"%s", "(%s)", "%s & wait", "exec env %s", "setsid sh -c '%s' &", "(setsid sh -c \"sleep 0.1; %s\" & ) & exit 0",
	} {
		script = fmt.Sprintf(script, strings.ReplaceAll(child, "/proc/self/exe", self))
		if got := output(t, w.usher("sh", "-c", script)); got != "a\n" {
			t.Errorf("%s: %q", script, got)
		}
	}
}

// copyOfSelf returns the path of a copy of this program that everybody may run.
func copyOfSelf(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "client")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExitCodes(t *testing.T) {
	w := newWorld(t, "")
	tests := []struct {
		args   []string
		code   int
		stderr string
	}{
		{[]string{"true"}, 0, ""},
		{[]string{"sh", "-c", "exit 3"}, 3, ""},
		{[]string{"sh", "-c", "kill -TERM $$"}, 128 + 15, ""},
		{[]string{"usher-no-such-program"}, 127, "executable file not found"},
		{[]string{"./usher-no-such-program"}, 127, "no such file"},
		{[]string{"/etc/passwd"}, 126, "permission denied"},
		{nil, 1, "run a program: none is given"},
	}
	for _, tt := range tests {
		_, stderr, code := run(t, w.usher(tt.args...))
		if code != tt.code || !strings.Contains(stderr, tt.stderr) || tt.stderr == "" && stderr != "" {
			t.Errorf("%q: code %d, errors %q; want code %d and %q", tt.args, code, stderr, tt.code, tt.stderr)
		}
	}
}

// TestSignals checks that signals are passed on, and that what the caller
// ignores the program does, and blocks nothing.
func TestSignals(t *testing.T) {
	w := newWorld(t, "")
	cmd := w.usher("sh", "-c", `trap 'echo got HUP' HUP; trap 'echo got TERM; exit 5' TERM; echo ready; while :; do sleep 0.02; done`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	lines := bufio.NewReader(out)
	for _, step := range []struct {
		line   string
		signal unix.Signal
	}{{"ready\n", unix.SIGHUP}, {"got HUP\n", unix.SIGTERM}, {"got TERM\n", 0}} {
		if line, err := lines.ReadString('\n'); line != step.line {
			t.Fatalf("%q, %v; want %q", line, err, step.line)
		}
		_ = cmd.Process.Signal(step.signal)
	}
	_ = cmd.Wait()
	if code := shellCode(cmd.ProcessState); code != 5 {
		t.Errorf("code %d", code)
	}
	const show = "grep -E '^Sig(Ign|Blk)' /proc/self/status"
	want, err := exec.Command("sh", "-c", `trap "" HUP; exec `+show).Output()
	if err != nil {
		t.Fatal(err)
	}
	nohup := w.usher("sh", "-c", show)
	nohup.Args, nohup.Path = []string{"sh", "-c", `trap "" HUP; exec /proc/` + strconv.Itoa(os.Getpid()) + "/exe"}, "/bin/sh"
	if diff := cmp.Diff(string(want), output(t, nohup)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestUsherKilled checks that what goes on without usher fails at once.
func TestUsherKilled(t *testing.T) {
	w := newWorld(t, service("hole", "10.96.0.7", 80, "TCP", blackHole(t)))
	self := copyOfSelf(t)
	// The program itself ends with usher; a process of its own does not.
	cmd := w.usher("sh", "-c", "USHER_DIRECT_TEST_CLIENT=connects setsid "+self+" 10.96.0.7:80 ready block block & wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if _, err := lines.ReadString('\n'); err != nil { // of the way "ready"
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	rest, err := io.ReadAll(lines)
	const want = "block: connect ENOSYS, nonblock false\n"
	if err != nil || !strings.HasSuffix(string(rest), want) {
		t.Errorf("%q, %v", rest, err)
	}
	_ = cmd.Wait()
}

// TestNested checks that usher says no where another one decides.
func TestNested(t *testing.T) {
	w := newWorld(t, "")
	if got := output(t, w.client("probe")); got != ErrNested.Error()+"\n" {
		t.Error(got)
	}
}
