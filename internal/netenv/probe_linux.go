package netenv

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Probe returns why Exec cannot make the namespaces of a program here, or nil.
// It makes them for a process that ends at once.
func Probe() error {
	attr := &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS} // with a mount(2), which AppArmor may refuse
	if !Capable(unix.CAP_SYS_ADMIN) {
		attr.Cloneflags = unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
	}
	// There is no such program: that it is looked for says that the rest worked.
	_, err := syscall.ForkExec("/proc/self/none", []string{"none"}, &syscall.ProcAttr{Sys: attr})
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return fmt.Errorf("make namespaces: %w", err)
}
