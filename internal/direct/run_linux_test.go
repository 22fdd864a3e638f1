//go:build amd64 || arm64

package direct

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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

// TestEarly checks that a program runs before it is known what Services there
// are, and that what it asks them waits for that.
func TestEarly(t *testing.T) {
	a, udp := backend(t, "a", "127.0.0.1:0"), udpBackend(t, "u", "127.0.0.1:0")
	w := newWorld(t, service("web", "10.96.0.7", 80, "TCP", a)+service("echo", "10.96.0.8", 80, "UDP", udp))
	known := make(chan struct{})
	wait := func() bool { <-known; return true }
	w.lists.Store(&wait)
	say, hear := interactive(t, w.client("asks"))
	say(a)
	if got := hear(); got != "a" {
		t.Errorf("elsewhere: %s", got)
	}
	datagrams := w.client("datagrams", "10.96.0.8:80", "to")
	early := make(chan string)
	go func() { stdout, _, _ := run(t, datagrams); early <- stdout }()
	say("10.96.0.7:80")
	go func() { early <- hear() }()
	select {
	case got := <-early:
		t.Errorf("before it is known: %s", got)
	case <-time.After(100 * time.Millisecond): // as far as can be seen
	}
	close(known)
	both := []string{<-early, <-early}
	slices.Sort(both)
	want := []string{"a", `to: "u hello 0" from asked true, "u hello 1" from asked true` + "\n"}
	if diff := cmp.Diff(want, both); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestEarlyFails checks that a program is refused, with a word why, when it
// cannot be known what Services there are, and no longer than that.
func TestEarlyFails(t *testing.T) {
	a := backend(t, "a", "127.0.0.1:0")
	w := newWorld(t, service("web", "10.96.0.7", 80, "TCP", a))
	var may atomic.Bool
	allowed := may.Load
	w.lists.Store(&allowed)
	cmd := w.client("asks")
	errors, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	say, hear := interactive(t, cmd)
	asks := func() string {
		say("10.96.0.7:80")
		return hear()
	}
	if got := asks(); got != "connection refused" {
		t.Errorf("without an answer of the daemon: %s", got)
	}
	const want = "usher: Services are refused until the daemon answers: list namespaces: "
	if line, err := bufio.NewReader(errors).ReadString('\n'); err != nil || !strings.HasPrefix(line, want) {
		t.Errorf("%q, %v; want %q", line, err, want)
	}
	may.Store(true)
	until(t, "a answers", func() bool { return asks() == "a" })
}

// interactive starts cmd and returns how to write a line to it and read one.
func interactive(t testing.TB, cmd *exec.Cmd) (say func(string), hear func() string) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if cmd.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
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
// of processes. USHER_SOAK=50 makes 100,000 connections.
func TestDescriptors(t *testing.T) {
	count := soak(t, 2000)
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
	t.Logf("%d connections: usher had %d descriptors and has %d, the program %d and %d", count, usherBefore, usherAfter, programBefore, programAfter)
	if usherAfter > usherBefore+2*maxThreads || programAfter > programBefore+2 {
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
		got, errs, code := run(t, w.usher("sh", "-c", script))
		stays := strings.Contains(errs, "usher stays for them") // on a busy machine the last takes longer than lingering
		if got != "a\n" || code != 0 || errs != "" && !stays {
			t.Errorf("%s: code %d, output %q, errors %q", script, code, got, errs)
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
	if signal.Ignored(syscall.SIGHUP) {
		t.Skip("SKIP: SIGHUP is ignored here, as under nohup, and so it is by every program")
	}
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
