//go:build amd64 || arm64

package direct

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"usher/internal/netenv"
)

// withoutPrivileges returns what a user has to know of a program that gains
// privileges when it starts, or "". Without CAP_SYS_ADMIN a filter takes that
// from it (PR_SET_NO_NEW_PRIVS), and what it says then itself is about file
// systems, if anything. Of programs that others start nobody is told.
func withoutPrivileges(path string) string {
	if netenv.Capable(unix.CAP_SYS_ADMIN) {
		return ""
	}
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	size, _ := unix.Getxattr(path, "security.capability", nil)
	gains := ok && info.Mode()&os.ModeSetuid != 0 && int(st.Uid) != os.Geteuid() ||
		ok && info.Mode()&os.ModeSetgid != 0 && int(st.Gid) != os.Getegid() || size > 0
	if !gains {
		return ""
	}
	return fmt.Sprintf("%s gains privileges when it starts, and not under usher exec, unless that has them already"+
		"\n  run usher itself with them:  sudo usher exec …", filepath.Base(path))
}
