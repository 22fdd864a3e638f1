package doctor

import (
	"errors"
	"fmt"
	"strings"

	"usher/internal/direct"
)

// checkTranslation looks whether exec --mode direct works, by the kernel.
func checkTranslation(m *Machine) []Finding {
	release, _ := m.read("/proc/sys/kernel/osrelease")
	if m.Translate == nil {
		return pass(fmt.Sprintf("Linux %s: seccomp's user notification and pidfd_getfd work", release))
	}
	text := fmt.Sprintf("Linux %s: %s", release, firstLine(m.Translate))
	actions, readable := m.read("/proc/sys/kernel/seccomp/actions_avail")
	yama, _ := m.read("/proc/sys/kernel/yama/ptrace_scope")
	switch {
	case errors.Is(m.Translate, direct.ErrNested):
		return []Finding{warn(text, "run this one without another usher exec")}
	case older(release, 5, 19):
		return []Finding{warn(text, "Linux 5.19 or later, or a network of its own for each program: usher exec --mode private")}
	case !readable || !strings.Contains(actions, "user_notif"):
		return []Finding{warn(text, "a kernel with CONFIG_SECCOMP_FILTER, or a network of its own for each program: usher exec --mode private")}
	case yama > "1":
		return []Finding{warn(text, "sudo sysctl -w kernel.yama.ptrace_scope=1")}
	}
	return []Finding{warn(text, "in a container: a seccomp profile that permits it; otherwise a network of its own for each program: usher exec --mode private")}
}

// older reports whether a kernel is older than a version. One whose release
// cannot be read is not.
func older(release string, major, minor int) bool {
	var x, y int
	_, err := fmt.Sscanf(release, "%d.%d", &x, &y)
	return err == nil && (x < major || x == major && y < minor)
}

// checkNamespaces looks whether exec --mode private and host, and unshare, work for this
// user.
func checkNamespaces(m *Machine) []Finding {
	if m.Private == nil {
		if m.UID == 0 {
			return pass("mount namespaces can be made, for usher exec --mode private and host")
		}
		return pass("user and mount namespaces can be made, for usher exec --mode private and host, and unshare -Urnm")
	}
	text := "no namespace can be made, so there is no usher exec --mode private or host: " + firstLine(m.Private)
	is := func(sysctl, value string) bool {
		now, ok := m.read("/proc/sys/" + sysctl)
		return ok && now == value
	}
	switch {
	case is("user/max_user_namespaces", "0"):
		return []Finding{warn(text, "sudo sysctl -w user.max_user_namespaces=10000")}
	case is("kernel/unprivileged_userns_clone", "0"):
		return []Finding{warn(text, "sudo sysctl -w kernel.unprivileged_userns_clone=1")}
	case is("kernel/apparmor_restrict_unprivileged_userns", "1"):
		return []Finding{warn(text, "an AppArmor profile for usher that permits userns, or sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0")}
	}
	return []Finding{warn(text, "in a container: a seccomp profile that permits unshare and mount")}
}
