package config

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestNamespaceRoot checks that root of a user namespace of its own keeps its
// things where the ordinary user does that it is.
func TestNamespaceRoot(t *testing.T) {
	const inside = "USHER_TEST_INSIDE"
	if os.Getenv(inside) != "" {
		if os.Geteuid() != 0 {
			t.Fatalf("uid %d in the namespace", os.Geteuid())
		}
		getenv := func(k string) string {
			return map[string]string{"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/user/1"}[k]
		}
		if got, want := DefaultDataDir(getenv), "/home/u/.local/state/usher"; got != want {
			t.Errorf("data dir %s, want %s", got, want)
		}
		if got, want := DefaultSocket(getenv), "/run/user/1/usher/usher.sock"; got != want {
			t.Errorf("socket %s, want %s", got, want)
		}
		return
	}
	outside := os.Geteuid()
	if outside == 0 {
		outside = 65534 // nobody: root stays root in a namespace that maps it to itself
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestNamespaceRoot$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=yes")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: outside, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Credential:  &syscall.Credential{NoSetGroups: true},
	}
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Skip("user namespaces are forbidden here:", err)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
