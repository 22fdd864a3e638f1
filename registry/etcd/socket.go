package etcd

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// longestSocket bounds a socket's path: sun_path has 108 bytes on Linux and
// 104 on macOS, with the final zero.
const longestSocket = 100

// SocketPath returns where the embedded server of a state directory listens:
// in the directory, or, when that is too deep for a socket, in one of its own
// below the temporary directory.
func SocketPath(dir string) string {
	if path := filepath.Join(dir, "etcd.sock"); len(path) <= longestSocket {
		return path
	}
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(fmt.Sprintf("%s%x", temporaryPrefix(), sum[:6]), "etcd.sock")
}

// temporaryPrefix begins the path of every directory that SocketPath puts
// below the temporary one.
func temporaryPrefix() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("usher-%d-", os.Getuid()))
}

// inTemporary reports whether socket is in such a directory.
func inTemporary(socket string) bool { return strings.HasPrefix(socket, temporaryPrefix()) }

// makePrivate makes a directory that nobody else can get into. In the
// temporary directory, where everybody may make one of any name, it may be
// there already: then it must be this user's own.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory of the socket: %w", err)
	}
	info, err := os.Lstat(dir) // a link could lead anywhere
	if err != nil {
		return fmt.Errorf("look at directory of the socket: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("use %s for a socket: it is not a directory of user %d", dir, os.Geteuid())
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("close directory of the socket: %w", err)
	}
	return nil
}
