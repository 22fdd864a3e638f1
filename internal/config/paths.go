package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// isRoot reports whether this process is the machine's or the container's
// root. Who is root only in a user namespace of his own (unshare -Ur) owns none
// of the system's directories, and is an ordinary user.
func isRoot() bool {
	info, err := os.Stat("/")
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid == 0 && os.Geteuid() == 0
}

// DefaultSocket returns where the API's unix socket is when nobody says
// otherwise: a directory that only this user can write.
func DefaultSocket(getenv func(string) string) string {
	if isRoot() {
		return "/run/usher/usher.sock"
	}
	if dir := getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "usher", "usher.sock")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("usher-%d", os.Geteuid()), "usher.sock")
}

// DefaultDataDir returns where the state is kept when dataDir is not set.
func DefaultDataDir(getenv func(string) string) string {
	if isRoot() {
		return "/var/lib/usher"
	}
	return filepath.Join(xdg(getenv, "XDG_STATE_HOME", ".local/state"), "usher")
}

// DefaultFile returns the path of the configuration file that is read when
// none is named, or "" when it does not exist.
func DefaultFile(getenv func(string) string) string {
	path := "/etc/usher/config.yaml"
	if !isRoot() {
		path = filepath.Join(xdg(getenv, "XDG_CONFIG_HOME", ".config"), "usher", "config.yaml")
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return path
}

// xdg returns a directory of the user's, by the XDG Base Directory
// Specification.
func xdg(getenv func(string) string, variable, below string) string {
	if dir := getenv(variable); dir != "" {
		return dir
	}
	return filepath.Join(getenv("HOME"), below)
}
