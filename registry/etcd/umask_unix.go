//go:build unix

package etcd

import "syscall"

// setUmask sets the file mode creation mask of the process and returns the old
// one.
func setUmask(mask int) int { return syscall.Umask(mask) }
