package netenv

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestProbe checks that what works is found to work, and what does not is not:
// in a user namespace that permits no others.
func TestProbe(t *testing.T) {
	const role = "USHER_NETENV_TEST_PROBE"
	if os.Getenv(role) == "" {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestProbe$", "-test.v")
		cmd.Env = append(os.Environ(), role+"=yes", "GORACE=atexit_sleep_ms=0")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getgid(), Size: 1}},
			AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_RESOURCE}, // a uid other than 0 has none after exec
		}
		if out, err := cmd.CombinedOutput(); cmd.ProcessState == nil {
			t.Skipf("SKIP: no user namespace can be made here: %v", err)
		} else if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	probe := func(powerless bool) error {
		result := make(chan error)
		go func() { // capabilities belong to a thread, which ends with the goroutine
			runtime.LockOSThread()
			var none [2]unix.CapUserData
			if powerless {
				if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
					result <- err
					return
				}
			}
			result <- Probe()
		}()
		return <-result
	}
	for _, powerless := range []bool{false, true} {
		if err := probe(powerless); err != nil {
			t.Errorf("powerless %t: %v", powerless, err)
		}
	}
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	if err := probe(false); err != nil {
		t.Errorf("a mount namespace alone: %v", err)
	}
	if err := probe(true); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("no user namespaces: %v", err)
	}
}
