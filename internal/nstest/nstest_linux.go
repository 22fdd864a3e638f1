package nstest

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

const inside = "USHER_TEST_NAMESPACE"

// In reports whether the test runs in a network namespace of its own, which has
// nothing but a lo that is down, and in new ones of other kinds by flags
// (CLONE_NEW*). Outside it runs the calling test in there, as another process of
// a user that is root to itself, passes on how that went, and returns false.
func In(t *testing.T, flags uintptr) bool {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		return true
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), inside+"="+t.Name(), "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | flags}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Skipf("SKIP: no namespaces can be made here: %v", err)
	}
	err := cmd.Wait()
	t.Logf("in a namespace of its own:\n%s", out.String())
	if err != nil {
		t.Fatal(err)
	}
	return false
}
