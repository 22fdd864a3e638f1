package setup

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"usher/internal/nstest"
)

// inNamespace is nstest.In with an empty /etc.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if !nstest.In(t, unix.CLONE_NEWNS) {
		return false
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("test", "/etc", "tmpfs", 0, "size=1m,mode=755"); err != nil {
		t.Fatal(err)
	}
	return true
}

// realMachine is the one of the namespaces, with lo up.
func realMachine(t *testing.T) *fakeMachine {
	t.Helper()
	run(t, "ip link set lo up")
	m := &fakeMachine{}
	m.Machine = Machine{OS: "linux", StateDir: t.TempDir(), Out: &m.out}
	m.Run = func(context.Context, []string) (string, error) { return "", errors.New("no command is run") }
	return m
}

// run runs a script as a shell would.
func run(t *testing.T, script string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", script)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		if _, missing := exec.LookPath("ip"); missing != nil {
			t.Skipf("SKIP: there is no ip here: %v", err)
		}
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

var serviceRanges = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}

// kernel returns what the kernel has of all that setup can change.
func kernel(t *testing.T) string {
	t.Helper()
	port, err := os.ReadFile("/" + portFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(port) + run(t, "ip route show table local; ip -6 route show table local")
}

// bindLow returns what a process without capabilities is told that wants port
// 80.
func bindLow() error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		var none [2]unix.CapUserData
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
			result <- err
			return
		}
		l, err := net.Listen("tcp", "127.96.0.1:80")
		if err == nil {
			l.Close()
		}
		result <- err
	}()
	return <-result
}

// TestRealMachine changes a real kernel, and sees that it does what the changes
// are for, and that teardown leaves it as it was.
func TestRealMachine(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	m := realMachine(t)
	before, beforeFiles := kernel(t), tree(t, "/etc")
	if err := bindLow(); !errors.Is(err, syscall.EACCES) {
		t.Fatalf("port 80 before: %v", err)
	}
	m.setUp(t, Ports(), Route(serviceRanges, true), Route(serviceRanges, false))
	if err := bindLow(); err != nil {
		t.Errorf("port 80: %v", err)
	}
	if got := tree(t, "/etc")["sysctl.d/60-usher.conf"]; !strings.HasSuffix(got, "\nnet.ipv4.ip_unprivileged_port_start = 53") {
		t.Errorf("the file is\n%s", got)
	}
	if _, err := net.Dial("tcp", "10.96.0.5:80"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a ClusterIP: %v, want that of a local address", err)
	}
	run(t, "ip route del local 10.96.0.0/16 dev lo table local proto static")
	if _, err := net.Dial("tcp", "10.96.0.5:80"); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("a ClusterIP: %v, want that of a blackhole", err)
	}
	m.said()
	m.tearDown(t)
	if got := m.said(); !strings.HasPrefix(got, "# route 10.96.0.0/16 is as it was before\nip route del blackhole 10.96.0.0/16 table local proto static metric 4096\n") {
		t.Errorf("it says:\n%s", got)
	}
	if diff := cmp.Diff(before, kernel(t)); diff != "" {
		t.Errorf("after teardown (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(beforeFiles, tree(t, "/etc")); diff != "" {
		t.Errorf("after teardown (-want +got):\n%s", diff)
	}
	if err := bindLow(); !errors.Is(err, syscall.EACCES) {
		t.Errorf("port 80 after teardown: %v", err)
	}
}

// TestScripts checks that what a dry run prints does the same, and takes it back.
func TestScripts(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	m := realMachine(t)
	if _, err := exec.LookPath("sysctl"); err != nil {
		t.Skipf("SKIP: %v", err)
	}
	if err := os.Mkdir("/etc/sysctl.d", 0o755); err != nil {
		t.Fatal(err)
	}
	ranges := append(serviceRanges, netip.MustParsePrefix("fd00:10:96::/112"))
	tasks := []Task{Ports(), Route(ranges, true), Route(ranges, false)}
	before := kernel(t)
	m.DryRun = true
	m.setUp(t, tasks...)
	if diff := cmp.Diff(before, kernel(t)); diff != "" {
		t.Fatalf("a dry run has changed the kernel (-before +after):\n%s", diff)
	}
	run(t, m.said())
	m.setUp(t, tasks...)
	if got := m.said(); strings.Count(got, "# it is so already") != len(tasks) {
		t.Fatalf("after the script of a dry run:\n%s", got)
	}
	run(t, "rm /etc/sysctl.d/60-usher.conf; sysctl -w net.ipv4.ip_unprivileged_port_start=1024; ip route flush table local proto static; ip -6 route flush table local proto static")
	if diff := cmp.Diff(before, kernel(t)); diff != "" {
		t.Fatalf("it is not as before (-want +got):\n%s", diff)
	}

	m.DryRun = false
	m.setUp(t, tasks...)
	m.DryRun = true
	m.said()
	m.tearDown(t)
	run(t, m.said())
	if diff := cmp.Diff(before, kernel(t)); diff != "" {
		t.Errorf("after the script of teardown (-want +got):\n%s", diff)
	}
	m.DryRun = false
	m.tearDown(t)
	if got := m.said(); strings.Count(got, " is as it was before\n") != 6 {
		t.Errorf("after that teardown says:\n%s", got)
	}
}

// TestRealFailures checks that a range in use is not touched, and that what
// cannot be changed takes what was changed before back with it.
func TestRealFailures(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	m := realMachine(t)
	run(t, "ip route add 10.96.7.0/24 dev lo")
	before, beforeFiles := kernel(t), tree(t, "/etc")
	for _, blackhole := range []bool{false, true} {
		err := m.Setup(t.Context(), []Task{Ports(), Route(serviceRanges, blackhole)})
		if err == nil || !strings.Contains(err.Error(), "10.96.0.0/16 overlaps with the route 10.96.7.0/24 dev lo: set serviceCIDR to another range") {
			t.Errorf("error %v", err)
		}
	}
	if err := unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		t.Skipf("SKIP: /proc/sys cannot be mounted here: %v", err)
	}
	if err := unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		t.Skipf("SKIP: /proc/sys cannot be mounted here: %v", err)
	}
	m.said()
	err := m.Setup(t.Context(), []Task{Ports()})
	if !errors.Is(err, syscall.EROFS) {
		t.Errorf("error %v, want that of a file system that is read-only", err)
	}
	if diff := cmp.Diff(before, kernel(t)); diff != "" {
		t.Errorf("the kernel (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(beforeFiles, tree(t, "/etc")); diff != "" {
		t.Errorf("/etc (-before +after):\n%s", diff)
	}
	data, err := os.ReadFile(filepath.Join(m.StateDir, journalName))
	if err != nil || len(bytes.TrimSpace(data)) > 0 {
		t.Errorf("the journal has %q, %v", data, err)
	}
}
